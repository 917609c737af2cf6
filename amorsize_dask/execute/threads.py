"""Threads of the caller that run batches, and the box where they leave what came.

Threads live as long as their run. They can't be killed: one that is cancelled ends
after its present task, and it is a daemon, so it doesn't keep the program alive.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from queue import SimpleQueue
from typing import Any

from amorsize_dask.execute.batch import BatchResult, Item, run_batch
from amorsize_dask.execute.fused import links_measured
from amorsize_dask.measure.clock import (
    RunDelay,
    read_run_delay_s,
    read_thread_cpu_s,
)


class Mailbox:
    """Messages from threads to the loop, with a descriptor that the loop waits for.

    Threads hold a lock only while they signal. The loop needs none: it would have to
    wait for a thread that writes, and with it for the GIL. What is put before the loop
    takes back the signal is taken then, and whoever puts something later signals again.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._messages: deque[tuple[int, BatchResult]] = deque()
        self._is_signalled = False
        self._is_woken = False
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._reader

    def put(self, worker: int, result: BatchResult) -> None:
        """Leave a message and wake the loop."""
        self._messages.append((worker, result))
        self._signal()

    def _signal(self) -> None:
        if self._is_signalled:
            return
        with self._lock:
            if not self._is_signalled and self._writer >= 0:
                self._is_signalled = True
                os.write(self._writer, b"!")

    def wake(self) -> None:
        """Wake the loop; there is news for those who ask for it."""
        self._is_woken = True
        self._signal()

    def take_wake(self) -> bool:
        """Whether `wake` was called since this was asked last."""
        if not self._is_woken:
            return False
        self._is_woken = False
        return True

    def take(self) -> list[tuple[int, BatchResult]]:
        """Take all messages."""
        with suppress(BlockingIOError):
            # One is there, or more where a thread was in the midst of signalling.
            os.read(self._reader, 64)
        self._is_signalled = False
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def close(self) -> None:
        """Close the descriptors; threads that still put something do no harm."""
        with self._lock:
            os.close(self._reader)
            os.close(self._writer)
            self._reader = self._writer = -1


class ThreadWorker:
    """One thread that runs the batches it is given, in order.

    Parameters
    ----------
    number : int
        The worker's number in the core.
    mailbox : Mailbox
        Where results go.
    values : mapping of key to value
        Where arguments are found; others may add to it meanwhile.
    context : Context
        The context variables that tasks see; a copy for this thread alone.

    Raises
    ------
    RuntimeError
        If the system can't start another thread.
    """

    def __init__(
        self,
        number: int,
        mailbox: Mailbox,
        values: Mapping[Any, Any],
        context: Context,
    ) -> None:
        self._number = number
        self._mailbox = mailbox
        self._values = values
        self._batches: SimpleQueue[tuple[Sequence[Item], bool] | None] = SimpleQueue()
        self._is_cancelled = False
        self._thread = threading.Thread(
            target=context.run,
            args=(self._serve,),
            name=f"amorsize-{number}",
            daemon=True,
        )
        self._thread.start()

    @property
    def ident(self) -> int:
        """The thread's identifier."""
        assert self._thread.ident is not None
        return self._thread.ident

    def read_use_s(self) -> tuple[float, float] | None:
        """Return the seconds that it has computed, and had no core for, if known.

        The thread must not have been told to stop.
        """
        cpu_s = read_thread_cpu_s(self.ident)
        if cpu_s is None or self._thread.native_id is None:
            return None
        return cpu_s, read_run_delay_s(self._thread.native_id)

    def give(self, items: Sequence[Item], *, measures_links: bool = False) -> None:
        """Run a batch, after those given before."""
        self._batches.put((items, measures_links))

    def stop(self) -> None:
        """End the thread when its batches are done."""
        self._batches.put(None)

    def join(self) -> None:
        """Wait for the end of a thread that was told to stop."""
        self._thread.join()

    def cancel(self) -> None:
        """End the thread after its present task, whose result no one takes."""
        self._is_cancelled = True
        self.stop()

    def interrupt(self) -> None:
        """Cancel, and raise KeyboardInterrupt in the present task.

        The task sees it between two steps of Python code; one that is inside of a
        call into C sees it when the call returns.
        """
        if self._thread.is_alive():
            # First of all: where one that is about to end is struck no one catches it.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.ident), ctypes.py_object(KeyboardInterrupt)
            )
        self.cancel()

    def _serve(self) -> None:
        # An interrupt may strike anywhere in here.
        with suppress(KeyboardInterrupt), RunDelay(threading.get_native_id()) as delay:
            while (batch := self._batches.get()) is not None:
                items, measures_links = batch
                if measures_links:
                    with links_measured(delay) as links:
                        result = self._run(items, delay)
                    result.links = links
                else:
                    result = self._run(items, delay)
                if self._is_cancelled:
                    return
                self._mailbox.put(self._number, result)
                # The arguments must not live until the next batch comes.
                del batch, items, result

    def _run(self, items: Sequence[Item], delay: RunDelay) -> BatchResult:
        return run_batch(items, self._values, delay, lambda: self._is_cancelled)
