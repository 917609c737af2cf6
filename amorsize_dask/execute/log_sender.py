"""Sends what is logged in a worker to the caller, at once, and never too much of it.

Records go through the pipe while a batch runs, before its answer. What is logged
between two batches, by threads that a task has left, goes along with the next one.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

from amorsize_dask.execute.channel import WorkerChannel
from amorsize_dask.execute.log_record import dump_record
from amorsize_dask.execute.wire import dump

#: Bytes of records that a worker may send at once, and those that may wait for room in
#: the pipe. Smaller: bursts, such as the log of a model's fit, have gaps; larger: they
#: take that much memory in each worker while the caller is busy with something else.
BURST_BYTES = 4_000_000

#: Bytes a second that it may send in the long run, some thousand records. Smaller:
#: tasks that say a lot aren't heard; larger: the caller does nothing but handle them.
BYTES_PER_S = 2_000_000


class LogSender(logging.Handler):
    """The handler of a worker's root logger.

    It sends what no other handler of its process takes, so that a task that sets up
    logging for itself has it its way, and nothing is said twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._channel: WorkerChannel | None = None
        # Held by who is sending. Others, a signal's handler in the midst of that for
        # one, never wait for it.
        self._sending = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._left_bytes = float(BURST_BYTES)
        self._at_s = perf_counter()
        self._n_left_out = 0

    def install(self) -> None:
        """Become the root logger's handler.

        `logging.basicConfig`, which does nothing where there is a handler, does in the
        place of this one what it would without it.
        """
        root, configure = logging.root, logging.basicConfig

        def configure_instead(**kwargs: Any) -> None:
            root.removeHandler(self)
            try:
                configure(**kwargs)
            finally:
                if not root.handlers:
                    root.addHandler(self)

        root.addHandler(self)
        logging.basicConfig = configure_instead

    def open(self, channel: WorkerChannel) -> None:
        """Send from now on what is logged, and what was before."""
        self._channel = channel
        self._send_waiting()

    def close_batch(self, channel: WorkerChannel) -> None:
        """Send all that waits, however long that takes, and nothing after it."""
        self._channel = None
        # Also where nothing waits: a thread may be in the midst of sending.
        with self._sending:
            self._send_all(channel, lambda: True)
            n_left_out, self._n_left_out = self._n_left_out, 0
            if n_left_out:
                channel.send(dump(("left out", n_left_out)))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or let it wait until the pipe has room for it."""
        if self._is_handled(logging.getLogger(record.name)):
            return
        if os.getpid() != self._pid:
            # The pipe is the parent's, of which a task has forked this process.
            if logging.lastResort and record.levelno >= logging.lastResort.level:
                logging.lastResort.handle(record)
            return
        try:
            self._refill()
            if self._left_bytes <= 0 or self._waiting_bytes > BURST_BYTES:
                self._n_left_out += 1
                return
            # Nothing in it is by name, so no other pickler has to see to it.
            message = pickle.dumps(("log", dump_record(record)), protocol=5)
        except Exception:
            self.handleError(record)
            return
        self._left_bytes -= len(message)
        self._waiting_bytes += len(message)
        self._waiting.append(message)
        self._send_waiting()

    def _is_handled(self, logger: logging.Logger | None) -> bool:
        while logger is not None:
            for handler in logger.handlers:
                if handler is not self and not isinstance(handler, logging.NullHandler):
                    return True
            logger = logger.parent if logger.propagate else None
        return False

    def _refill(self) -> None:
        now = perf_counter()
        left_bytes = self._left_bytes + BYTES_PER_S * (now - self._at_s)
        self._left_bytes, self._at_s = min(left_bytes, float(BURST_BYTES)), now

    def _send_waiting(self) -> None:
        # Who comes meanwhile leaves it to who is at it, who looks again afterwards.
        while self._waiting and self._sending.acquire(blocking=False):
            try:
                channel = self._channel
                if channel is None or not channel.has_room():
                    return
                self._send_all(channel, channel.has_room)
            finally:
                self._sending.release()

    def _send_all(self, channel: WorkerChannel, may_go_on: Callable[[], bool]) -> None:
        try:
            while self._waiting and may_go_on():
                message = self._waiting.popleft()
                self._waiting_bytes -= len(message)
                channel.send([message])
        except OSError:
            # The caller has gone, or a task has closed the pipe: its batch's answer
            # finds out.
            self._channel = None
