"""Runs that leave to others what others use."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import dask
import pytest
from dask.utils_test import inc

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.core.model import Machine
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.pool import live_processes
from amorsize_dask.measure.load import MIN_WINDOW_S, CoreUse, Load, LoadWatch, Pressure

MACHINE = Machine(n_cores=8, n_physical_cores=4, memory_bytes=4_000_000_000)

#: Others use five and a half of eight cores, and memory is short.
BUSY = Load(cores=(CoreUse("cores", 8, 5.5),), memory=Pressure("system", 0.1))


class Watch:
    """Sees what it is told to see, and keeps whom it was told to leave out."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.seen: list[set[int]] = []

    def look(self, pids: Iterable[int]) -> Load:
        self.seen.append(set(pids))
        return self.load


def run_busy(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> AmorsizeScheduler:
    """Compute on a machine that others use."""
    monkeypatch.setattr(
        "amorsize_dask.resources.measure_machine", lambda costs: MACHINE
    )
    with AmorsizeScheduler(respect_load=True, **arguments) as scheduler:
        scheduler._policy.load_watch = Watch(BUSY)  # type: ignore[assignment]
        tasks = [dask.delayed(digest)(i) for i in range(20)]
        assert dask.compute(*tasks, scheduler=scheduler) == tuple(range(1, 21))
    return scheduler


def digest(number: int) -> int:
    """Return the number after one, and leave the GIL to others for milliseconds.

    Of tasks that are over at once the first thread may have done all, and should.
    """
    hashlib.sha256(bytes(4_000_000))
    return number + 1


def test_fewer_workers_and_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are as many as cores are left, and the record says why."""
    record = run_busy(monkeypatch, lanes=("threads",)).last_run
    assert record is not None
    assert record.n_cores == 3
    # Where the machine is busy a thread may seem to hold the GIL, and be alone.
    assert record.lanes["threads"].n_workers <= 3
    # A tenth is left for what no one counts.
    assert record.memory_limit_bytes == 1_800_000_000
    assert record.load == BUSY.explain(8, 4_000_000_000)
    assert "\n  3 of 8 cores, since others use 5.5 of 8" in str(record)


def test_max_workers_is_no_wish_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It bounds the workers as ever, above or below what others leave."""
    for most, n_workers in ((2, 2), (7, 3)):
        scheduler = run_busy(monkeypatch, lanes=("threads",), max_workers=most)
        assert scheduler.last_run.lanes["threads"].n_workers <= n_workers


@pytest.mark.parametrize(
    ("limit", "n_bytes"), [("1 GB", 1_000_000_000), (0.5, 1_000_000_000)]
)
def test_memory_limits(
    monkeypatch: pytest.MonkeyPatch, limit: str | float, n_bytes: int
) -> None:
    """Bytes that the user names stay; a fraction is one of what is left."""
    record = run_busy(monkeypatch, memory_limit=limit).last_run
    assert record.memory_limit_bytes == n_bytes


def test_own_workers_are_no_others() -> None:
    """At each run it is told which processes work for this one."""
    with AmorsizeScheduler(respect_load=True, lanes=("processes",)) as scheduler:
        watch = scheduler._policy.load_watch = Watch(Load())  # type: ignore[assignment]
        for _ in range(2):
            dask.delayed(inc)(1).compute(scheduler=scheduler)
        assert len(watch.seen) == 2
        assert scheduler._pool.pids() <= watch.seen[1] <= live_processes()
        assert watch.seen[1] - watch.seen[0]


def test_only_if_asked_for() -> None:
    """By default nobody looks, and the record has nothing to say."""
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        assert scheduler._policy.load_watch is None
        assert dask.delayed(inc)(1).compute(scheduler=scheduler) == 2
        record = scheduler.last_run
        assert record.load is None
        assert record.n_cores >= 1
        assert record.memory_limit_bytes > 0


def test_setting() -> None:
    """The setting is the default, an argument wins, and copies do the same."""
    with dask.config.set({"amorsize.respect-load": True}):
        scheduler = AmorsizeScheduler()
        assert AmorsizeScheduler(respect_load=False)._policy.load_watch is None
    copy = pickle.loads(pickle.dumps(scheduler))
    for one in (scheduler, copy):
        assert one._policy.load_watch is not None


def test_what_is_no_yes_or_no_is_refused() -> None:
    """A text is neither, whatever it says."""
    with pytest.raises(ArgumentError, match=r"^respect_load="):
        AmorsizeScheduler(respect_load="no")  # type: ignore[arg-type]
    with (
        dask.config.set({"amorsize.respect-load": "maybe"}),
        pytest.raises(ArgumentError, match=r"^amorsize\.respect-load="),
    ):
        AmorsizeScheduler()


@pytest.fixture
def burning() -> Iterator[None]:
    """Keep all cores busy by other processes."""
    n_cores = LoadWatch()._sample(()).by_core
    program = "print(flush=True)\nwhile True: pass"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        for _ in n_cores
    ]
    try:
        for process in processes:
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("burning")
def test_a_machine_that_is_busy() -> None:
    """With all cores in use by others, one is taken."""
    watch = LoadWatch()
    end = time.monotonic() + 30
    while (n_left := watch.look().limit_cores(1000)) > 1 and time.monotonic() < end:
        time.sleep(MIN_WINDOW_S)
    assert n_left == 1
