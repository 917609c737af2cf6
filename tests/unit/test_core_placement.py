"""The lane and the number of workers, where they are plain to see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated import machine

from amorsize_dask.core.budget import HIGH_WATER
from amorsize_dask.core.cost import boot_s, predict, usable_cores
from amorsize_dask.core.model import Costs, Lane, Limits, Machine, Workload
from amorsize_dask.core.placement import (
    MAX_WAITING_THREADS,
    WORKER_BYTES,
    memory_ceiling,
    place,
    place_unmeasured,
)

COMPUTING = Workload(n_tasks=1000, mean_s=0.1)
GIL_FREE = replace(COMPUTING, gil_fraction=0.0)
WAITING = replace(COMPUTING, cpu_fraction=0.001, gil_fraction=0.001)


@pytest.mark.parametrize(
    ("workload", "lane", "n_workers", "reason"),
    [
        (COMPUTING, Lane.PROCESSES, 8, "1000 tasks of 100 ms that compute holding the"),
        (GIL_FREE, Lane.THREADS, 8, "that compute without the GIL"),
        (WAITING, Lane.THREADS, 125, "that wait: "),
        (replace(COMPUTING, n_tasks=1), Lane.INLINE, 1, "100 ms predicted against"),
        (replace(COMPUTING, n_tasks=0), Lane.INLINE, 1, "0 tasks"),
        (replace(COMPUTING, mean_s=0.0), Lane.INLINE, 1, "0 µs"),
        (replace(COMPUTING, out_bytes=1e8), Lane.INLINE, 1, "processes 250 s"),
    ],
)
def test_lanes_by_kind_of_work(
    workload: Workload, lane: Lane, n_workers: int, reason: str
) -> None:
    """Computing with or without the GIL, waiting, or too little of anything."""
    placement = place(workload, machine(8), Limits(), lanes=Lane)
    assert placement.lane is lane
    assert placement.n_workers == n_workers
    assert reason in placement.reason


def test_ties_go_to_the_simpler_lane() -> None:
    """Processes that would gain less than the margin aren't started."""
    costs = Costs(boot_first_s=48.0, boot_next_s=1e-6)
    slow = Machine(n_cores=2, n_physical_cores=2, memory_bytes=10**10, costs=costs)
    work = replace(COMPUTING, n_tasks=500)
    processes = predict(work, slow, Lane.PROCESSES, 2)
    assert 0.95 < processes.makespan_s / 50 < 1
    assert place(work, slow, Limits(), lanes=Lane).lane is Lane.INLINE


def test_threads_that_wait_end_together() -> None:
    """Fifty tasks get fifty threads: one fewer would take twice as long."""
    placement = place(replace(WAITING, n_tasks=50), machine(2), Limits(), lanes=Lane)
    assert placement.n_workers == 50
    assert placement.n_most == MAX_WAITING_THREADS


def test_hyperthreads_do_not_count_for_computing() -> None:
    """Two tasks that compute on one physical core gain little, two that wait a lot."""
    host = Machine(n_cores=8, n_physical_cores=4, memory_bytes=10**10)
    assert usable_cores(COMPUTING, host) == 4
    assert usable_cores(WAITING, host) == 8


def test_workers_that_are_up_boot_no_more() -> None:
    """The first worker is dearer than the others, and those that are up are free."""
    costs = Costs(boot_first_s=0.5, boot_next_s=0.1)
    assert boot_s(costs, 4, 0) == pytest.approx(0.8)
    assert boot_s(costs, 4, 1) == pytest.approx(0.3)
    assert boot_s(costs, 4, 4) == 0
    assert boot_s(costs, 2, 4) == 0


@pytest.mark.parametrize(
    ("lane", "n_workers"),
    [(Lane.INLINE, 1), (Lane.THREADS, 3), (Lane.PROCESSES, 3)],
)
def test_unmeasured_stage_gets_all_cores(lane: Lane, n_workers: int) -> None:
    """Where there is one lane only, it is taken without measuring."""
    limits = Limits(lanes=(lane,), max_workers=3)
    placement = place_unmeasured(machine(8), limits, lane, "because")
    assert placement.n_workers == placement.n_most == n_workers
    assert placement.predicted is None


def test_memory_ceiling() -> None:
    """Peaks must fit into what a run takes together, but one task must run."""
    host = machine(8, memory_bytes=10**9)
    hungry = replace(COMPUTING, peak_bytes=2e8)
    assert memory_ceiling(hungry, host, Limits(), Lane.THREADS) == 4
    assert memory_ceiling(hungry, host, Limits(), Lane.PROCESSES) == int(
        HIGH_WATER * 1e9 / (2e8 + WORKER_BYTES)
    )
    assert memory_ceiling(hungry, host, Limits(), Lane.THREADS, share=1.0) == 5
    tight = Limits(memory_limit_bytes=10**8)
    assert memory_ceiling(hungry, host, tight, Lane.THREADS) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Costs(boot_first_s=0), "boot_first_s must be > 0"),
        (lambda: Costs(bytes_per_s=float("nan")), "bytes_per_s must be > 0"),
        (lambda: Machine(n_cores=2, n_physical_cores=3, memory_bytes=1), "n_physical"),
        (lambda: Machine(n_cores=1, n_physical_cores=1, memory_bytes=0), "memory_byt"),
        (lambda: Limits(lanes=()), "no lane is allowed"),
        (lambda: Limits(lanes=(Lane.INLINE,), isolate=True), "no lane is allowed"),
    ],
)
def test_impossible_numbers_are_refused(make: object, message: str) -> None:
    """A machine or limits that can't be are an error where they are made."""
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("lanes", "allowed"),
    [
        (tuple(Lane), (Lane.PROCESSES, Lane.CLUSTER)),
        ((Lane.INLINE, Lane.THREADS), (Lane.THREADS,)),
        ((Lane.THREADS,), (Lane.THREADS,)),
    ],
)
def test_isolation_takes_the_lane_farthest_away(
    lanes: tuple[Lane, ...], allowed: tuple[Lane, ...]
) -> None:
    """Isolated tasks leave the process if that is allowed, or else the thread."""
    assert Limits(lanes=lanes, isolate=True).allowed_lanes == allowed
    assert Limits(lanes=lanes).allowed_lanes == lanes
