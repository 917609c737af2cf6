"""The costs of this machine: read from disk, measured when the first worker is up.

Nothing is started for a measurement. The first time that worker processes boot on a
machine, how long that took is noted, and at the end of that run one of them echoes some
bytes, and short runs show what batches cost, which takes some tens of milliseconds.
Later processes of this user read the result.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from time import perf_counter

from amorsize_dask.core.model import Costs
from amorsize_dask.errors import AmorsizeError
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.probing import measure_batch_s, measure_thread_costs
from amorsize_dask.execute.spool import Spooled, SpoolPlace, read, remove
from amorsize_dask.execute.spool_folder import SpoolFolder
from amorsize_dask.execute.wire import dump, load
from amorsize_dask.measure.costs import (
    load_costs,
    measure_bytes_per_s,
    measure_copy_bytes_per_s,
    measure_echo_s,
    measure_load_bytes_per_s,
    save_costs,
)

#: Seconds to wait for an echo. A worker that has just booted answers in a fraction of
#: a millisecond; without an answer the defaults stay.
ECHO_TIMEOUT_S = 1.0

#: Seconds below which no cost is believed: two looks at the clock are that far apart.
MIN_COST_S = 1e-6

#: Share of a known cost below which a lower one is worth writing to disk. Smaller: a
#: cost that was measured on a busy machine stays; larger: the file is written anew
#: after each boot.
NEWS = 0.8


class Calibration:
    """The costs as far as they are known.

    Attributes
    ----------
    costs : Costs
        Those on disk, or else the defaults until the first worker is up.
    """

    def __init__(self) -> None:
        known = load_costs()
        self.costs = known or Costs()
        self._is_complete = known is not None
        # Costs that were measured, here or earlier; the others are defaults.
        self._noted = {f.name for f in fields(Costs)} if self._is_complete else set()
        self._last_ready: float | None = None
        self._regret_s = 0.0

    def costs_for(self, modules: Sequence[str]) -> Costs:
        """Return the costs where workers import modules of Dask when they boot.

        What earlier runs would have saved with workers that are up counts against
        their boot: of many runs none of which is worth one, all together may be.
        """
        boot_first_s = self.costs.boot_first_s
        if modules:
            boot_first_s += self.costs.import_dask_s
        boot_first_s = max(MIN_COST_S, boot_first_s - self._regret_s)
        if boot_first_s == self.costs.boot_first_s:
            return self.costs
        return replace(self.costs, boot_first_s=boot_first_s)

    def note_regret(self, seconds: float) -> None:
        """Take note of what workers would have saved in a run that had none."""
        self._regret_s += seconds

    @property
    def is_complete(self) -> bool:
        """Whether all costs have been measured, here or earlier."""
        return self._is_complete

    def note_ready(self, worker: ProcessWorker) -> None:
        """Take note of how long a worker has taken to boot."""
        self._regret_s = 0.0
        boot_s = worker.ready_at - worker.asked_at
        if worker.is_first and worker.has_imported:
            if "boot_first_s" not in self._noted:
                # Until there is one without imports: in the proportion of the defaults.
                usual = Costs()
                whole_s = usual.boot_first_s + usual.import_dask_s
                self._note(boot_first_s=boot_s * usual.boot_first_s / whole_s)
            self._note(import_dask_s=boot_s - self.costs.boot_first_s)
        elif worker.is_first:
            self._note(boot_first_s=boot_s)
        elif self._last_ready is not None:
            # Asked for together with the one before it, or long after.
            start = max(self._last_ready, worker.asked_at)
            self._note(boot_next_s=worker.ready_at - start)
        self._last_ready = worker.ready_at

    def complete(self, worker: ProcessWorker) -> None:
        """Measure the other costs with an idle worker, and keep all on disk.

        To be called when no task is running: one that holds the GIL would make
        everything seem to take five milliseconds. A worker that doesn't answer is
        killed, and the defaults stay.
        """
        self._is_complete = True
        self._measure_pipe(worker)
        save_costs(self.costs)

    def probe(self, pool: WorkerPool) -> None:
        """Measure what batches cost, in short runs, and keep it on disk.

        To be called after `complete`. What can't be measured keeps its default.

        Parameters
        ----------
        pool : WorkerPool
            If it has no idle worker batches in processes aren't measured.
        """
        # No thread can be started now, or a worker was lost.
        with suppress(AmorsizeError):
            thread_start_s, hand_off_s = measure_thread_costs(pool)
            if min(thread_start_s, hand_off_s) > 0:
                self._note(thread_start_s=thread_start_s, hand_off_s=hand_off_s)
            if pool.n_idle:
                self._note(batch_s=measure_batch_s(pool))
        save_costs(self.costs)

    def _note(self, **measured: float) -> None:
        """Take over what was measured; of several values of one cost the lowest.

        What makes the others higher is that the machine was busy at the time.
        """
        lower = {
            name: max(value, MIN_COST_S)
            for name, value in measured.items()
            if name not in self._noted or value < getattr(self.costs, name)
        }
        is_news = any(
            name not in self._noted or value < NEWS * getattr(self.costs, name)
            for name, value in lower.items()
        )
        self.costs = replace(self.costs, **lower)
        self._noted.update(lower)
        if self._is_complete and is_news:
            save_costs(self.costs)

    def _measure_pipe(self, worker: ProcessWorker) -> None:
        def echo(data: bytes) -> bytes:
            return echo_through(worker, data)

        try:
            echo_s = measure_echo_s(echo)
            bytes_per_s = measure_bytes_per_s(echo)
        except ConnectionError:
            worker.kill()
            return
        self._note(echo_s=echo_s)
        folder = SpoolFolder()
        try:
            write = partial(_write, folder.place)
            copied = measure_copy_bytes_per_s(lambda data: _take_out(write(data)))
            load_bytes_per_s = measure_load_bytes_per_s(write, _take_out)
        finally:
            folder.close()
        # Where bytes are so many that their number matters they take the better way.
        self.costs = replace(
            self.costs,
            bytes_per_s=max(bytes_per_s, copied),
            load_bytes_per_s=load_bytes_per_s,
        )


def _write(place: SpoolPlace, data: bytes) -> Spooled:
    """Write data as one process does for another.

    Raises
    ------
    OSError
        If it can't be written anywhere.
    """
    spooled = place.write([data])
    if spooled is None:
        raise OSError("no place for spool files has room")
    return spooled


def _take_out(spooled: Spooled) -> bytes:
    """Read data, as the other process does."""
    (found,) = read(spooled)
    remove(spooled)
    return bytes(found)


def echo_through(worker: ProcessWorker, data: bytes) -> bytes:
    """Send bytes to an idle worker and wait until they are back.

    Raises
    ------
    ConnectionError
        If it doesn't answer within `ECHO_TIMEOUT_S`.
    """
    channel = worker.channel
    channel.send(dump(("echo", data)))
    end = perf_counter() + ECHO_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while channel.is_open and (left_s := end - perf_counter()) > 0:
            is_writing = channel.wants_to_write
            selector.modify(
                channel, selectors.EVENT_READ | is_writing * selectors.EVENT_WRITE
            )
            selector.select(left_s)
            channel.flush()
            for message in channel.receive():
                kind, answer = load(message)
                if kind == "echo":
                    return bytes(answer)
    raise ConnectionError("the worker does not answer")
