"""Messages through a pipe: whole, in order, and without waiting for each other."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.execute.channel import (
    MAX_VECTOR,
    READ_BYTES,
    CallerChannel,
    FrameReader,
    WorkerChannel,
)
from amorsize_dask.execute.wire import frame

Message = list[bytes]

#: Seconds after which something that should have come is taken to be lost.
PATIENCE_S = 60

MESSAGES = st.lists(st.lists(st.binary(max_size=60)), max_size=8)

#: Parts around the size from which on they are read straight to where they belong.
LARGE_PARTS = st.sampled_from(
    [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 7]
).map(lambda n: bytes(range(256)) * (n // 256) + bytes(n % 256))


def as_bytes(message: list[bytearray]) -> Message:
    return [bytes(part) for part in message]


def on_the_wire(messages: list[Message]) -> bytes:
    return b"".join(bytes(part) for message in messages for part in frame(message))


def wait_for(channel: CallerChannel) -> None:
    """Wait until there is something to read, or to write if something is to be sent."""
    mask = selectors.EVENT_READ
    if channel.wants_to_write:
        mask |= selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        selector.register(channel, mask)
        assert selector.select(PATIENCE_S), "nothing comes"


def receive(channel: CallerChannel, n: int) -> list[Message]:
    """Wait for `n` messages, and send meanwhile what waits to be sent."""
    messages: list[Message] = []
    while len(messages) < n:
        wait_for(channel)
        channel.flush()
        messages += map(as_bytes, channel.receive())
    return messages


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@given(MESSAGES)
def test_reader_fed_byte_by_byte(messages: list[Message]) -> None:
    """Messages are put together from single bytes, none too early."""
    reader = FrameReader()
    for n_before, message in enumerate(messages):
        data = on_the_wire([message])
        for i in range(len(data)):
            assert len(reader.messages) == n_before
            reader.feed(memoryview(data)[i : i + 1])
    assert list(map(as_bytes, reader.messages)) == messages


@given(MESSAGES, st.lists(st.integers(0, 500)))
def test_reader_fed_in_pieces(messages: list[Message], cuts: list[int]) -> None:
    """Where the bytes are cut makes no difference, nor does a single piece."""
    data = memoryview(on_the_wire(messages))
    reader = FrameReader()
    borders = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in pairwise(borders):
        reader.feed(data[start:end])
    assert list(map(as_bytes, reader.messages)) == messages


@given(MESSAGES, st.integers(1, 100))
def test_reader_filled_in_place(messages: list[Message], step: int) -> None:
    """Bytes may be written straight to where they belong."""
    data = on_the_wire(messages)
    reader = FrameReader()
    while data:
        target = reader.missing()
        n = min(step, len(target), len(data))
        target[:n] = data[:n]
        reader.advance(n)
        data = data[n:]
    assert list(map(as_bytes, reader.messages)) == messages


@given(st.lists(st.lists(LARGE_PARTS, max_size=3), max_size=4))
def test_caller_receives_what_a_worker_sends(messages: list[Message]) -> None:
    """Small and large messages from a worker arrive whole and in order."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as executor:
        channel, worker = CallerChannel(ours), WorkerChannel(theirs)

        def send() -> None:
            for message in messages:
                worker.send(message)

        sent = executor.submit(send)
        assert receive(channel, len(messages)) == messages
        sent.result(PATIENCE_S)
        assert channel.is_open


@given(st.lists(st.lists(LARGE_PARTS, max_size=3), max_size=4))
def test_worker_receives_what_the_caller_sends(messages: list[Message]) -> None:
    """Small and large messages to a worker arrive whole and in order."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as executor:
        channel, worker = CallerChannel(ours), WorkerChannel(theirs)
        for message in messages:
            channel.send(message)

        def take() -> list[Message]:
            return [as_bytes(worker.receive() or []) for _ in messages]

        taken = executor.submit(take)
        while channel.wants_to_write:
            wait_for(channel)
            channel.flush()
        assert taken.result(PATIENCE_S) == messages


def test_more_parts_than_the_system_takes_at_once(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A message may have any number of parts."""
    message = [b"%d" % i for i in range(3 * MAX_VECTOR)]
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(worker.receive, PATIENCE_S)
        channel.send(message)
        while channel.wants_to_write:
            wait_for(channel)
            channel.flush()
        received = taken.result(PATIENCE_S)
    assert received is not None
    assert as_bytes(received) == message


def test_sending_does_not_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    """50 MB to a worker that doesn't read are kept, and arrive when it does."""
    message = [bytes(range(250)) * 200_000, b"end"]
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    channel.send(message)  # with no one reading it would wait for ever
    channel.send([b"next"])
    assert channel.wants_to_write
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(lambda: [worker.receive(), worker.receive()])
        while channel.wants_to_write:
            wait_for(channel)
            channel.flush()
        first, second = taken.result(PATIENCE_S)
    assert first == message
    assert second == [b"next"]


def test_both_send_large_messages_at_the_same_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A caller and a worker that send 20 MB to each other don't wait for each other."""
    there, back = [b"a" * 20_000_000], [b"b" * 20_000_000]
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])

    def work() -> list[bytearray] | None:
        worker.send(back)
        return worker.receive()

    with ThreadPoolExecutor(1) as executor:
        worked = executor.submit(work)
        channel.send(there)
        assert receive(channel, 1) == [back]
        while channel.wants_to_write:
            wait_for(channel)
            channel.flush()
        assert worked.result(PATIENCE_S) == there


def test_nothing_has_come(pair: tuple[socket.socket, socket.socket]) -> None:
    """The caller doesn't wait for messages; none is no message."""
    channel = CallerChannel(pair[0])
    assert channel.receive() == []
    assert channel.is_open
    assert channel.fileno() == pair[0].fileno()


def test_last_words_of_a_worker(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a worker has sent before it went is received, and that it has gone."""
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    worker.send([b"first"])
    worker.send([b"x" * READ_BYTES])
    pair[1].sendall(on_the_wire([[b"half"]])[:-2])
    pair[1].close()
    messages = []
    while channel.is_open:
        messages += map(as_bytes, channel.receive())
    assert messages == [[b"first"], [b"x" * READ_BYTES]]
    assert channel.receive() == []


def test_last_words_of_a_worker_that_left_something_unread(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A worker that goes without having read all resets the pipe; its words count."""
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    worker.send([b"first"])
    channel.send([b"never read"])
    pair[1].close()
    messages = []
    while channel.is_open:
        messages += map(as_bytes, channel.receive())
    assert messages == [[b"first"]]


def test_sending_to_a_worker_that_has_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """That is no error, and nothing is kept; receiving tells that it has gone."""
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    worker.send([b"last words"])
    channel.send([bytes(10_000_000)])
    pair[1].close()
    channel.flush()
    channel.send([b"more"])
    assert not channel.wants_to_write
    assert channel.is_open
    assert list(map(as_bytes, channel.receive())) == [[b"last words"]]
    channel.receive()
    assert not channel.is_open


def test_closed_channel(pair: tuple[socket.socket, socket.socket]) -> None:
    """Closing ends the pipe at both ends, can be done twice, and forgets what waits."""
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    channel.send([bytes(10_000_000)])
    channel.close()
    channel.close()
    assert not channel.is_open
    assert not channel.wants_to_write
    assert channel.receive() == []
    assert worker.receive(PATIENCE_S) is None


def test_worker_waits_for_a_time(pair: tuple[socket.socket, socket.socket]) -> None:
    """Without a message in time there is none; one that comes in pieces isn't lost."""
    worker = WorkerChannel(pair[1])
    data = on_the_wire([[b"a" * 100, b"b"]])
    assert worker.receive(0.001) is None
    pair[0].sendall(data[:50])
    assert worker.receive(0.001) is None
    pair[0].sendall(data[50:])
    assert worker.receive(PATIENCE_S) == [b"a" * 100, b"b"]


def test_worker_waits_for_ever(pair: tuple[socket.socket, socket.socket]) -> None:
    """Without a time limit it waits until something comes, or the pipe closes."""
    worker = WorkerChannel(pair[1])
    is_waiting = threading.Event()

    def take() -> list[list[bytearray] | None]:
        is_waiting.set()
        return [worker.receive(), worker.receive()]

    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(take)
        assert is_waiting.wait(PATIENCE_S)
        CallerChannel(pair[0]).send([b"late"])
        pair[0].close()
        assert taken.result(PATIENCE_S) == [[b"late"], None]


def test_several_messages_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """A worker takes one message at a time, also if more have come."""
    channel, worker = CallerChannel(pair[0]), WorkerChannel(pair[1])
    for i in range(5):
        channel.send([b"%d" % i])
    channel.close()
    assert [worker.receive() for _ in range(6)] == [
        *([b"%d" % i] for i in range(5)),
        None,
    ]


def test_worker_whose_caller_has_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Sending then fails, and receiving ends, also if the caller left words unread."""
    worker = WorkerChannel(pair[1])
    worker.send([b"never read"])
    pair[0].close()
    assert worker.receive() is None
    with pytest.raises(ConnectionError):
        worker.send([b"more"])
