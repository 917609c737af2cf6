"""The worker processes of a scheduler, kept between its runs.

A run takes workers out and gives them back; two runs at the same time never share
one. What comes back busy or dead is not kept. What comes back while it is still booting
is: a run may be over before its workers are up, and the next one finds them ready.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

from amorsize_dask.errors import ArgumentError, WorkerStartError
from amorsize_dask.execute.channel import CallerChannel
from amorsize_dask.execute.launch import (
    ForkserverLauncher,
    Launcher,
    SpawnLauncher,
    hold_interrupts,
)
from amorsize_dask.execute.preload import of_dask
from amorsize_dask.execute.recipe import Sender
from amorsize_dask.execute.spool import Spooled
from amorsize_dask.execute.wire import dump, load

#: How worker processes may be started.
START_METHODS = ("forkserver", "spawn")


class SentBatch(NamedTuple):
    """A batch that a worker has been sent."""

    tasks: list[int]
    #: Bytes of its message, and the seconds that pickling them took.
    n_bytes: int
    pack_s: float
    #: The file that the message is in, if it is in one.
    spooled: Spooled | None


class ProcessWorker:
    """A worker process, as the caller sees it.

    Attributes
    ----------
    channel : CallerChannel
        The caller's end of its pipe.
    pid : int or None
        Its process; ``None`` until it has answered for the first time.
    sentinel : int or None
        A descriptor that becomes readable when the process ends, where the system
        has such a thing.
    batches : deque of SentBatch
        What it was sent and has not answered.
    state : bytes
        The state of the caller that it was sent last.
    sender : Sender
        What it has been sent of the recipes of a run.
    asked_at : float
        When it was asked for, by `time.perf_counter`.
    ready_at : float
        When it was up, by its own `time.perf_counter`, which is the system's. The
        caller may have been busy and have heard of it later.
    is_first : bool
        Whether nothing was up then.
    has_imported : bool
        Whether there were modules of Dask to import before.
    n_imports : int
        How many requests to import something it has not answered yet.
    rss_bytes : int
        Its resident bytes when it was up.
    peak_rss_bytes : int
        Its highest resident bytes, once it has ended; 0 if that isn't known.
    was_ended : bool
        Whether this process has ended it.
    """

    def __init__(
        self,
        channel: CallerChannel,
        *,
        asked_at: float,
        is_first: bool,
        has_imported: bool = False,
    ) -> None:
        self.asked_at = asked_at
        self.ready_at = asked_at
        self.is_first = is_first
        self.has_imported = has_imported
        self.n_imports = 0
        self.rss_bytes = 0
        self.peak_rss_bytes = 0
        self.was_ended = False
        self.channel = channel
        self.pid: int | None = None
        self.sentinel: int | None = None
        self.batches: deque[SentBatch] = deque()
        self.state = b""
        self.sender = Sender()

    def set_up(self, pid: int, ready_at: float, rss_bytes: int) -> None:
        """Note the process that has answered, when it did, and what it took then."""
        self.pid = pid
        self.rss_bytes = rss_bytes
        self.ready_at = ready_at
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel: the end of its pipe has to do
                self.sentinel = os.pidfd_open(pid)

    @property
    def is_ready(self) -> bool:
        """Whether it can run a batch as soon as it gets one."""
        return self.pid is not None and not self.n_imports

    def ask_to_import(self, modules: Sequence[str]) -> None:
        """Let it import something before it is taken to be ready."""
        self.n_imports += 1
        self.channel.send(dump(("import", modules)))

    def hear(self) -> None:
        """Take in what it has answered, if no run waits for that."""
        for message in self.channel.receive():
            kind, *content = load(message)
            if kind == "ready":
                self.set_up(*content)
            elif kind == "imported":
                self.n_imports -= 1

    def close(self) -> None:
        """Let go of it; if it is idle, it ends."""
        self.channel.close()
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None

    def retire(self) -> None:
        """Let it end as soon as it reads this; it mustn't have a batch."""
        # More than a closed pipe, at which it would remove the files of the run.
        self.channel.send([dump(("end",))[0]])
        self.close()

    def is_up(self) -> bool:
        """Whether its pipe is open: one that has ended shows it by closing it."""
        self.channel.receive()
        return self.channel.is_open

    def end(self) -> None:
        """End its process at once; whoever has it taken out sees the pipe close."""
        self.was_ended = True
        self.send_kill()

    def send_kill(self) -> None:
        """Make sure that its process is gone, which isn't what it ends by."""
        with suppress(ProcessLookupError):
            if self.sentinel is not None:
                signal.pidfd_send_signal(self.sentinel, signal.SIGKILL)
            elif self.pid is not None and self.channel.is_open:
                # One that has ended by itself has left its number to others.
                os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it at once and let go of it."""
        if self.sentinel is None:
            self.is_up()
        self.end()
        self.pid = None
        self.close()


class WorkerPool:
    """Starts worker processes and keeps the idle ones.

    Parameters
    ----------
    start_method : {"forkserver", "spawn"}
        How workers are started.
    idle_s : float or None
        Seconds without work after which a worker ends by itself; ``None``: never.

    Raises
    ------
    ArgumentError
        If the start method is an unknown one.
    """

    def __init__(self, start_method: str, idle_s: float | None) -> None:
        if start_method not in START_METHODS:
            expected = f"the start methods are {', '.join(START_METHODS)}"
            raise ArgumentError("start_method", start_method, expected)
        self._start_method = start_method
        self._idle_s = idle_s
        self._lock = threading.RLock()
        self._forget()
        _pools.add(self)

    def _forget(self) -> None:
        """Start anew, without touching what was started."""
        kind = (
            ForkserverLauncher if self._start_method == "forkserver" else SpawnLauncher
        )
        self._launcher: Launcher = kind(self._idle_s)
        self._idle: list[ProcessWorker] = []
        self._booting: list[ProcessWorker] = []
        self._lent: set[ProcessWorker] = set()

    @property
    def n_idle(self) -> int:
        """How many workers are ready to be taken."""
        with self._lock:
            self._hear()
            return len(self._idle)

    def _hear(self) -> None:
        """See which of those that no run waits for have got up meanwhile."""
        booting, self._booting = self._booting, []
        for worker in booting:
            worker.hear()
            if not worker.channel.is_open:
                worker.close()
            elif worker.is_ready:
                self._idle.append(worker)
            else:
                self._booting.append(worker)

    def take(self, n: int) -> list[ProcessWorker]:
        """Take out up to `n` workers that are up and idle."""
        with self._lock:
            self._hear()
            taken: list[ProcessWorker] = []
            while self._idle and len(taken) < n:
                worker = self._idle.pop()
                if worker.is_up():
                    taken.append(worker)
                else:
                    worker.close()
            self._lent.update(taken)
            return taken

    def boot(self, n: int, modules: Sequence[str] = ()) -> list[ProcessWorker]:
        """Start `n` workers in the background.

        Those that are booting, and that no run waits for, are among them.

        Parameters
        ----------
        n : int
            How many, >= 0.
        modules : sequence of str, optional
            What they are going to import; if they come from a fork server that isn't
            up yet, it does it for all of them.

        Raises
        ------
        WorkerStartError
            If the system won't; those that were started end when they are up.
        """
        with hold_interrupts(), self._lock:
            booted, self._booting = self._booting[:n], self._booting[n:]
            try:
                for _ in range(n - len(booted)):
                    is_first = not (booted or self.pids())
                    asked_at = perf_counter()
                    worker = ProcessWorker(
                        CallerChannel(self._launcher.launch(modules)),
                        asked_at=asked_at,
                        is_first=is_first,
                        has_imported=bool(of_dask(modules)),
                    )
                    booted.append(worker)
            except BaseException as error:
                for worker in booted:
                    worker.close()
                if isinstance(error, OSError):
                    message = f"Worker processes can't be started: {error}"
                    raise WorkerStartError(message) from error
                raise
            self._lent.update(booted)
            return booted

    def ending(self, worker: ProcessWorker) -> str:
        """Say how a worker that has gone ended, and forget it."""
        self._lent.discard(worker)
        if worker.pid is None:
            worker.close()
            return "not getting up"
        if worker.channel.fault:
            worker.end()
            worker.close()
            return f"being killed, for its answer made no sense: {worker.channel.fault}"
        ending = self._launcher.ending(worker.pid)
        # Its pipe is closed, which a task can do as well, or start another program in
        # its place. No one would hear of it any more.
        worker.send_kill()
        worker.close()
        worker.peak_rss_bytes = ending.peak_rss_bytes
        return ending.cause

    def retire(self, worker: ProcessWorker) -> None:
        """End a worker that is taken out and idle, in an orderly way."""
        with self._lock:
            self._lent.discard(worker)
            worker.retire()

    def give_back(self, worker: ProcessWorker) -> None:
        """Put a worker back that is up or booting, or kill it if it is busy."""
        with self._lock:
            # Otherwise the pool was closed while it was taken out.
            is_known = worker in self._lent
            self._lent.discard(worker)
            if not is_known or worker.batches or not worker.channel.is_open:
                worker.kill()
            elif worker.is_ready:
                self._idle.append(worker)
            else:
                self._booting.append(worker)

    def note_folders(self, folders: Sequence[str]) -> None:
        """Say which folders a run has, to be removed if this process is killed."""
        self._launcher.note_folders(folders)

    def pids(self) -> set[int]:
        """Return all processes that this pool keeps running."""
        with self._lock:
            self._hear()
            workers = [*self._idle, *self._booting, *self._lent]
        pids = {worker.pid for worker in workers if worker.pid is not None}
        return pids | self._launcher.pids()

    def close(self) -> None:
        """End all workers, also those that are taken out; can be called twice.

        A run that has taken some out loses them: it sees their pipes close, which it
        couldn't if they were closed here.
        """
        with self._lock:
            for worker in (*self._idle, *self._booting):
                worker.kill()
            for worker in self._lent:
                worker.end()
            self._idle.clear()
            self._booting.clear()
            self._lent.clear()
            self._launcher.close()


#: Every pool of this process.
_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def live_processes() -> set[int]:
    """Return the processes that the pools of this process keep running."""
    return {pid for pool in _pools for pid in pool.pids()}


def _forget_all() -> None:
    # In a process that the user has forked, the workers are its parent's.
    for pool in _pools:
        pool._lock = threading.RLock()
        for worker in (*pool._idle, *pool._booting, *pool._lent):
            worker.close()
        pool._launcher.forget()
        pool._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
