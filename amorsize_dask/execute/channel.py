"""Both ends of the one pipe between the caller and a worker process.

The caller's end never blocks: what the pipe can't take now waits in memory, and a
message that hasn't arrived whole stays partial. Otherwise a caller that sends a large
batch and a worker that sends a large result would wait for each other for ever. The
worker's end blocks, since a worker has nothing else to do.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence

from amorsize_dask.execute.wire import COUNT, Part, frame, unpack_sizes

#: Bytes that are read at once where small messages are expected. Smaller: more reads
#: a message; larger: memory that is touched for nothing.
READ_BYTES = 65536

#: Parts that are handed to the system at once; POSIX guarantees 16, Linux and macOS
#: take 1024.
MAX_VECTOR = 512

#: Programs that are used in shell pipelines let SIGPIPE end them; without this flag a
#: worker that has died would do that too. Not all systems have it.
SEND_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)


class FrameReader:
    """Puts messages together from bytes as they come."""

    def __init__(self) -> None:
        self._parts: list[bytearray] = []
        self._sizes: tuple[int, ...] = ()
        self._head: bytearray | None = None
        self._target = memoryview(bytearray(COUNT.size))
        self._filled = 0
        self.messages: deque[list[bytearray]] = deque()

    def missing(self) -> memoryview:
        """Return the memory that the next bytes belong into."""
        return self._target[self._filled :]

    def advance(self, n: int) -> None:
        """Take note that `n` bytes were written to the start of `missing()`."""
        self._filled += n
        while self._filled == len(self._target):
            self._next()

    def feed(self, data: memoryview) -> None:
        """Take in bytes that were read elsewhere."""
        while data:
            target = self.missing()
            n = min(len(target), len(data))
            target[:n] = data[:n]
            data = data[n:]
            self.advance(n)

    def _next(self) -> None:
        """Go on to what follows: the sizes, the next part, or the next message."""
        if self._head is None:
            (n_parts,) = COUNT.unpack(self._target)
            self._head = bytearray(8 * n_parts)
            self._expect(self._head)
            return
        if not self._sizes:
            self._sizes = unpack_sizes(self._head)
        if len(self._parts) < len(self._sizes):
            part = bytearray(self._sizes[len(self._parts)])
            self._parts.append(part)
            self._expect(part)
            return
        self.messages.append(self._parts)
        self._parts, self._sizes, self._head = [], (), None
        self._expect(bytearray(COUNT.size))

    def _expect(self, target: bytearray) -> None:
        self._target = memoryview(target)
        self._filled = 0


class CallerChannel:
    """The caller's end.

    Attributes
    ----------
    is_open : bool
        False once the worker has gone or `close` was called.
    fault : str
        What is wrong with what the worker has sent, if anything: no more is read then.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader()
        self._scratch = memoryview(bytearray(READ_BYTES))
        self._outgoing: deque[memoryview] = deque()
        self.is_open = True
        self.fault = ""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._sock.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._outgoing)

    def send(self, parts: Sequence[Part]) -> None:
        """Send a message, as far as that goes without waiting; keep the rest."""
        self._outgoing.extend(memoryview(part).cast("B") for part in frame(parts))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as that goes without waiting."""
        outgoing = self._outgoing
        while outgoing and self.is_open:
            vector = [outgoing[i] for i in range(min(len(outgoing), MAX_VECTOR))]
            try:
                n_sent = self._sock.sendmsg(vector, [], SEND_FLAGS)
            except BlockingIOError:
                return
            except OSError:
                # The worker has gone. Its last words may still be in the pipe, so
                # `receive` finds out.
                outgoing.clear()
                return
            while n_sent:
                if n_sent >= len(outgoing[0]):
                    n_sent -= len(outgoing.popleft())
                else:
                    outgoing[0] = outgoing[0][n_sent:]
                    n_sent = 0

    def receive(self) -> list[list[bytearray]]:
        """Return the messages that have arrived whole, without waiting."""
        reader = self._reader
        while self.is_open:
            target = reader.missing()
            is_large = len(target) >= READ_BYTES
            try:
                n = self._sock.recv_into(target if is_large else self._scratch)
            except BlockingIOError:
                break
            except OSError:
                n = 0
            if not n:
                self.is_open = False
                break
            try:
                if is_large:
                    reader.advance(n)
                else:
                    reader.feed(self._scratch[:n])
            except (MemoryError, OverflowError) as error:
                self.give_up(f"it announced more than there is room for: {error}")
            if not is_large and n < READ_BYTES:
                break
        messages = list(reader.messages)
        reader.messages.clear()
        return messages

    def give_up(self, fault: str) -> None:
        """Read no more of what a worker sends that can't be understood."""
        self.fault = fault
        self.is_open = False

    def close(self) -> None:
        """Close the pipe; an idle worker ends when it sees that."""
        self.is_open = False
        self._outgoing.clear()
        self._sock.close()


class WorkerChannel:
    """The worker's end.

    Attributes
    ----------
    is_open : bool
        False once the caller has closed its end, or has gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._reader = FrameReader()
        self._scratch = memoryview(bytearray(READ_BYTES))
        self.is_open = True

    def send(self, parts: Sequence[Part]) -> None:
        """Send a message; wait until the pipe has taken it."""
        try:
            for part in frame(parts):
                self._sock.sendall(part)
        except ConnectionError:
            self.is_open = False
            raise

    def has_room(self) -> bool:
        """Whether the pipe takes a small message at once."""
        if not self.is_open:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(0))

    def receive(self, timeout_s: float | None = None) -> list[bytearray] | None:
        """Wait for a message; ``None`` at the end of the pipe or of the time."""
        self._sock.settimeout(timeout_s)
        reader = self._reader
        try:
            while not reader.messages:
                target = reader.missing()
                if len(target) >= READ_BYTES:
                    n = self._sock.recv_into(target)
                    reader.advance(n)
                else:
                    n = self._sock.recv_into(self._scratch)
                    reader.feed(self._scratch[:n])
                if not n:
                    self.is_open = False
                    return None
        except TimeoutError:
            return None
        except ConnectionError:
            self.is_open = False
            return None
        finally:
            self._sock.settimeout(None)
        return reader.messages.popleft()
