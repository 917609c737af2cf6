"""A `multiprocessing.Pool` on a simulated machine, to hold plans for pools against.

Covers: processes that are started one after the other before anything is sent; a
thread of the caller that sends chunks, as far ahead as a pipe has room; processes that
each take the next chunk when they are free; another thread that receives results. The
two threads share the GIL, and all share the cores. Does not cover what isn't simulated
elsewhere: caches, page faults, the locks of the pipes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from amorsize_dask.core.model import Costs, Machine
from amorsize_dask.core.placement import WORKER_BYTES
from amorsize_dask.simulate.processor import Processor
from amorsize_dask.simulate.work import SimulatedTask

#: Bytes that a pipe holds before who writes to it has to wait, as on Linux.
PIPE_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRun:
    """What came of a simulated pool."""

    #: Seconds from making the pool to the last result.
    makespan_s: float
    #: Most bytes that its processes held together: each by itself, what its item
    #: takes, and the results of its chunk.
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What a chunk takes, added up over its items."""

    n_items: int
    cpu_s: float
    wait_s: float
    in_bytes: int
    out_bytes: int
    peak_bytes: int


def simulate_pool(
    tasks: Sequence[SimulatedTask], machine: Machine, n_jobs: int, chunksize: int
) -> PoolRun:
    """Call a simulated function with each item in a pool made for it.

    Parameters
    ----------
    tasks : sequence of SimulatedTask
        What the items take, in order.
    machine : Machine
        Cores, and what the pool costs.
    n_jobs : int
        Processes, >= 1. One stands for a loop, without a pool.
    chunksize : int
        Items that are sent at once, >= 1.

    Returns
    -------
    PoolRun
        What it took.
    """
    if n_jobs == 1:
        return PoolRun(
            makespan_s=sum(task.seconds for task in tasks),
            peak_bytes=max((task.peak_bytes for task in tasks), default=0),
        )
    chunks = [
        _add_up(tasks[start : start + chunksize])
        for start in range(0, len(tasks), chunksize)
    ]
    return _SimulatedPool(chunks, machine, n_jobs).run()


def _add_up(tasks: Sequence[SimulatedTask]) -> _Chunk:
    cpu_s = sum(task.seconds * task.cpu_fraction for task in tasks)
    out_bytes = sum(task.out_bytes for task in tasks)
    return _Chunk(
        n_items=len(tasks),
        cpu_s=cpu_s,
        wait_s=sum(task.seconds for task in tasks) - cpu_s,
        in_bytes=sum(task.in_bytes for task in tasks),
        out_bytes=out_bytes,
        peak_bytes=out_bytes + max(task.peak_bytes for task in tasks),
    )


class _SimulatedPool:
    """The processes of a pool, and the two threads that serve them."""

    def __init__(self, chunks: list[_Chunk], machine: Machine, n_jobs: int) -> None:
        self._costs: Costs = machine.costs
        self._processor = Processor(machine.n_physical_cores)
        self._unsent = deque(chunks)
        #: What is in the pipe, and what has come back.
        self._sent: deque[_Chunk] = deque()
        self._sent_bytes = 0
        self._answers: deque[_Chunk] = deque()
        self._is_sending = self._is_receiving = False
        self._n_jobs = n_jobs
        self._n_free = 0
        self._n_left = len(chunks)
        self._held_bytes = self._peak_bytes = n_jobs * WORKER_BYTES

    def run(self) -> PoolRun:
        """Run until the last result has been received."""
        costs, timers = self._costs, self._processor.timers
        boot_s = costs.boot_first_s + (self._n_jobs - 1) * costs.boot_next_s
        timers.add(boot_s, self._begin)
        while self._processor.step() and self._n_left:
            pass
        return PoolRun(makespan_s=self._processor.now_s, peak_bytes=self._peak_bytes)

    def _begin(self) -> None:
        self._n_free = self._n_jobs
        self._send()

    # -- the caller's two threads ---------------------------------------------------

    def _serve_s(self, chunk: _Chunk, n_bytes: int) -> float:
        """Seconds to send a chunk or to receive what came of it, on either side."""
        costs = self._costs
        handling_s = chunk.n_items * costs.item_s / 2
        return costs.echo_s / 4 + n_bytes / costs.bytes_per_s + handling_s

    def _send(self) -> None:
        if self._is_sending or not self._unsent or self._sent_bytes >= PIPE_BYTES:
            return
        chunk = self._unsent.popleft()
        self._is_sending = True
        seconds = self._serve_s(chunk, chunk.in_bytes)
        self._processor.gil.add(seconds, partial(self._end_send, chunk))

    def _end_send(self, chunk: _Chunk) -> None:
        self._is_sending = False
        self._sent.append(chunk)
        self._sent_bytes += chunk.in_bytes
        self._take()
        self._send()

    def _receive(self) -> None:
        if self._is_receiving or not self._answers:
            return
        chunk = self._answers.popleft()
        self._is_receiving = True
        seconds = self._serve_s(chunk, chunk.out_bytes)
        self._processor.gil.add(seconds, self._end_receive)

    def _end_receive(self) -> None:
        self._is_receiving = False
        self._n_left -= 1
        self._receive()

    # -- the processes --------------------------------------------------------------

    def _take(self) -> None:
        """Let processes that are free take what is in the pipe."""
        while self._n_free and self._sent:
            chunk = self._sent.popleft()
            self._sent_bytes -= chunk.in_bytes
            self._n_free -= 1
            self._held_bytes += chunk.peak_bytes
            self._peak_bytes = max(self._peak_bytes, self._held_bytes)
            seconds = self._serve_s(chunk, chunk.in_bytes) + chunk.cpu_s
            self._processor.cores.add(seconds, partial(self._wait, chunk))
        self._send()

    def _wait(self, chunk: _Chunk) -> None:
        if chunk.wait_s:
            self._processor.timers.add(chunk.wait_s, partial(self._answer, chunk))
        else:
            self._answer(chunk)

    def _answer(self, chunk: _Chunk) -> None:
        seconds = self._serve_s(chunk, chunk.out_bytes)
        self._processor.cores.add(seconds, partial(self._end, chunk))

    def _end(self, chunk: _Chunk) -> None:
        self._held_bytes -= chunk.peak_bytes
        self._n_free += 1
        self._answers.append(chunk)
        self._receive()
        self._take()
