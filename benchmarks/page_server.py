"""A web server that takes its time: prints its port, and serves until it is ended.

It runs in a process of its own, so that it shares no GIL with who asks. Connections are
kept, as those of any server are today, and nothing is used that would take more of the
cores, which the work that is measured needs.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections import deque
from time import monotonic

#: Connections that may wait to be accepted. Smaller: some of many that ask at once are
#: refused, and ask again a second later.
BACKLOG = 1_024

N_RECORDS = 400
END = b"\r\n\r\n"


def make_answer() -> bytes:
    """Return the page, and what goes before it."""
    records = [
        {"id": i, "name": f"record {i}", "values": list(range(i, i + 10))}
        for i in range(N_RECORDS)
    ]
    body = json.dumps(records).encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def serve(listener: socket.socket, answer: bytes, delay_s: float) -> None:
    """Answer each request with the page, after the delay."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    #: What has been read of a request that isn't complete.
    parts: dict[socket.socket, bytes] = {}
    #: Who gets an answer when; all wait equally long, so they are in order.
    due: deque[tuple[float, socket.socket]] = deque()
    while True:
        timeout_s = max(0.0, due[0][0] - monotonic()) if due else None
        for key, _ in selector.select(timeout_s):
            if key.fileobj is listener:
                connection, _ = listener.accept()
                # The whole answer fits, so no one has to be waited for.
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(answer)
                )
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                parts[connection] = b""
                continue
            connection = key.fileobj  # type: ignore[assignment]
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                selector.unregister(connection)
                connection.close()
                del parts[connection]
            elif (parts[connection] + data).endswith(END):
                parts[connection] = b""
                due.append((monotonic() + delay_s, connection))
            else:
                parts[connection] += data
        now = monotonic()
        while due and due[0][0] <= now:
            _, connection = due.popleft()
            if connection in parts:
                try:
                    connection.sendall(answer)
                except OSError:
                    continue  # who has asked is gone; that will be read next


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener, make_answer(), float(sys.argv[1]))
