"""What the stages of the pipeline benchmark do, in a module that workers import."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

#: Seconds of computing for each page, when it has been parsed.
COMPUTE_S = 0.002


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
END = b"\r\n\r\n"

#: A thread's connection, which it keeps, as whoever asks a server often does.
_kept = threading.local()


def fetch(address: tuple[int, int]) -> tuple[int, bytes]:
    """Return a number and the page that a server on this machine gives for it."""
    number, port = address
    connection = _connect(port)
    connection.sendall(REQUEST)
    data = _receive(connection, 65_536)
    while END not in data:
        data += _receive(connection, 65_536)
    head, _, page = data.partition(END)
    n_bytes = int(head.lower().partition(b"content-length:")[2].split()[0])
    parts, n_left = [page], n_bytes - len(page)
    while n_left:
        parts.append(_receive(connection, n_left))
        n_left -= len(parts[-1])
    return number, b"".join(parts)


def _receive(connection: socket.socket, n_bytes: int) -> bytes:
    part = connection.recv(n_bytes)
    if not part:
        raise ConnectionError("the server has closed the connection")
    return part


def _connect(port: int) -> socket.socket:
    if getattr(_kept, "port", None) != port:
        _kept.connection = socket.create_connection(("127.0.0.1", port))
        _kept.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _kept.port = port
    connection: socket.socket = _kept.connection
    return connection


def parse(page: tuple[int, bytes]) -> tuple[int, int]:
    """Return the number, and what its records add up to."""
    number, body = page
    total = sum(sum(record["values"]) for record in json.loads(body))
    end = time.thread_time() + COMPUTE_S
    while time.thread_time() < end:
        pass
    return number, total


def fetch_all(addresses: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Fetch some pages, one after the other."""
    return [fetch(address) for address in addresses]


def parse_all(pages: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Parse some pages, one after the other."""
    return [parse(page) for page in pages]


class Writer:
    """Writes results into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __call__(self, result: tuple[int, int]) -> int:
        """Write one and return its number."""
        number, total = result
        with open(f"{self._folder}/{number}.txt", "w") as file:
            file.write(str(total))
        return number


def make_large(number: int) -> bytes:
    """Return 5 MB."""
    time.sleep(0.005)
    return number.to_bytes(8, "big") + bytes(5_000_000)


def turn_large(data: bytes) -> bytes:
    """Return as much again."""
    return data[::-1]


def shrink(data: bytes) -> int:
    """Return the number that it was made of."""
    return int.from_bytes(data[::-1][:8], "big")
