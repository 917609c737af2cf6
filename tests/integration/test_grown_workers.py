"""Workers that keep more with each task are replaced, those that need it are not."""

from __future__ import annotations

from collections import Counter

import dask
import psutil
import pytest
from dask import delayed
from leaking_tasks import leak, leave_a_little, load_once

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.execute.pool import live_processes

N_TASKS = 24


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_workers_that_leak_are_replaced(start_method: str) -> None:
    """24 tasks that leave 60 MB each, in 200 MB; no result is lost with its worker."""
    with (
        dask.config.set({"amorsize.start-method": start_method}),
        AmorsizeScheduler(
            lanes=("processes",), memory_limit="200 MB", max_workers=2
        ) as scheduler,
    ):
        made = [delayed(leak)(i) for i in range(N_TASKS)]
        found = dask.compute(*made, scheduler=scheduler)
        run = scheduler.last_run
        assert run is not None
        kept = live_processes()
        sizes = [psutil.Process(pid).memory_info().rss for pid in kept]
    assert [(i, data) for i, _, data in found] == [
        (i, bytes([i]) * 200_000) for i in range(N_TASKS)
    ]
    n_tasks_by_worker = Counter(pid for _, pid, _ in found)
    assert run.n_retired >= 2
    assert len(n_tasks_by_worker) >= 3
    assert run.lanes["processes"].n_workers <= 2
    assert f"{run.n_retired} workers ended since they had grown" in str(run)
    # None that has leaked much is kept for the next run.
    assert max(sizes, default=0) < 250_000_000


def test_what_is_loaded_once_is_no_leak() -> None:
    """A model in a global stays, within a run and between two."""
    with AmorsizeScheduler(
        lanes=("processes",), memory_limit="500 MB", max_workers=2
    ) as scheduler:
        pids = set()
        for _ in range(3):
            made = [delayed(load_once)(i) for i in range(12)]
            pids.update(dask.compute(*made, scheduler=scheduler))
            assert scheduler.last_run is not None
            assert scheduler.last_run.n_retired == 0
    assert len(pids) <= 2


def test_a_leak_that_does_not_matter() -> None:
    """60 MB are little of what a machine has."""
    with AmorsizeScheduler(
        lanes=("processes",), memory_limit="100 GB", max_workers=1
    ) as scheduler:
        made = [delayed(leave_a_little)(i) for i in range(6)]
        pids = set(dask.compute(*made, scheduler=scheduler))
        assert scheduler.last_run is not None
        assert scheduler.last_run.n_retired == 0
    assert len(pids) == 1
