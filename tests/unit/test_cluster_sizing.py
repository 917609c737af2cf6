"""The shape of a cluster, where it is plain to see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated import machine

from amorsize_dask.cluster.arguments import make_arguments
from amorsize_dask.cluster.sizing import (
    DASK_THRESHOLDS,
    DISTRIBUTED_WORKER_BYTES,
    PEAK_SPILL,
    ClusterSize,
    Needs,
    choose_size,
    choose_thresholds,
    predict_s,
)
from amorsize_dask.core.model import Lane, Limits, Machine, Workload
from amorsize_dask.core.placement import place

GB = 10**9
COMPUTING = Workload(n_tasks=1000, mean_s=0.1)
GIL_FREE = replace(COMPUTING, gil_fraction=0.0)
WAITING = replace(COMPUTING, cpu_fraction=0.001, gil_fraction=0.001)
HEAVY = replace(COMPUTING, peak_bytes=3 * GB)


def choose(
    *stages: Workload,
    n_cores: int = 8,
    memory_bytes: int = 16 * GB,
    limits: Limits | None = None,
    held_bytes: float = 0.0,
    caller_bytes: int = 0,
    processes: bool | None = None,
) -> ClusterSize:
    """Choose for stages on a machine."""
    return choose_size(
        Needs(
            stages=stages,
            machine=machine(n_cores, memory_bytes),
            limits=limits or Limits(),
            held_bytes=held_bytes,
            caller_bytes=caller_bytes,
            processes=processes,
        )
    )


@pytest.mark.parametrize("n_cores", [2, 4, 8, 16, 32, 64])
def test_work_that_holds_the_gil_gets_a_process_for_each_core(n_cores: int) -> None:
    """Processes with one thread each, as many as there are cores."""
    uneven = replace(COMPUTING, std_s=COMPUTING.mean_s / 2)
    size = choose(uneven, n_cores=n_cores)
    assert (size.n_workers, size.threads_per_worker) == (n_cores, 1)
    assert size.processes
    assert size.n_inner_threads == 1


@pytest.mark.parametrize("n_cores", [2, 4, 8, 16])
def test_work_without_the_gil_gets_threads_of_one_process(n_cores: int) -> None:
    """One worker with a thread for each core, and nothing to start or to send."""
    size = choose(GIL_FREE, n_cores=n_cores)
    assert (size.n_workers, size.threads_per_worker) == (1, n_cores)
    assert not size.processes


def test_many_cores_get_several_processes_with_several_threads() -> None:
    """On 64 cores a little of the GIL in each task is too much for one process."""
    size = choose(replace(GIL_FREE, gil_fraction=0.05), n_cores=64)
    assert 2 <= size.n_workers <= 8
    assert size.n_workers * size.threads_per_worker == 64
    assert size.processes


@pytest.mark.parametrize("n_cores", [1, 2, 64])
def test_work_that_waits_gets_many_threads(n_cores: int) -> None:
    """More threads than cores, in the calling process."""
    size = choose(WAITING, n_cores=n_cores)
    assert size.n_workers == 1
    assert size.threads_per_worker >= 100
    assert not size.processes
    assert size.n_inner_threads == 1


@pytest.mark.parametrize("stage", [COMPUTING, GIL_FREE, WAITING])
@pytest.mark.parametrize("n_cores", [2, 8, 64])
def test_a_cluster_runs_as_many_at_once_as_the_scheduler(
    stage: Workload, n_cores: int
) -> None:
    """For plain work cluster and scheduler agree on how many tasks run at once."""
    size = choose(stage, n_cores=n_cores, memory_bytes=10**12)
    lane = Lane.PROCESSES if stage is COMPUTING else Lane.THREADS
    placed = place(stage, machine(n_cores, 10**12), Limits(), lanes=[lane])
    n_at_once = size.n_workers * size.threads_per_worker
    assert n_at_once == pytest.approx(placed.n_workers, rel=0.1)


def test_heavy_work_runs_as_few_at_once_as_fit() -> None:
    """Of 3 GB tasks three fit below where workers of 16 GB in all would spill."""
    size = choose(HEAVY)
    assert size.n_workers * size.threads_per_worker == 3
    assert size.fits
    assert size.processes


def test_heavy_work_that_fits_once_gets_all_memory() -> None:
    """A task of 11 GB of 16 runs alone, and libraries may use all cores in it."""
    size = choose(replace(HEAVY, peak_bytes=11 * GB))
    assert (size.n_workers, size.threads_per_worker) == (1, 1)
    assert size.fits
    assert size.memory_limit_bytes == int(0.9 * 16 * GB)
    assert size.n_inner_threads == 8


def test_work_that_cannot_fit_is_said_not_to() -> None:
    """A task that takes more than there is gets everything, and it is known."""
    size = choose(replace(HEAVY, peak_bytes=20 * GB))
    assert (size.n_workers, size.threads_per_worker) == (1, 1)
    assert not size.fits


@pytest.mark.parametrize(("mean_s", "n_workers"), [(0.01, 1), (0.1, 2)])
def test_results_are_not_spilled_unless_that_is_faster(
    mean_s: float, n_workers: int
) -> None:
    """Of two workers of 7 GB the one that gets all 10 GB of results spills; one not."""
    small = replace(COMPUTING, mean_s=mean_s)
    limits = Limits(memory_limit_bytes=14 * GB)
    assert choose(small, n_cores=2, limits=limits).n_workers == 2
    size = choose(small, n_cores=2, held_bytes=10 * GB, limits=limits)
    assert size.n_workers == n_workers
    if n_workers == 1:
        assert size.thresholds.target * size.memory_limit_bytes >= 10 * GB


def test_the_caller_keeps_room_for_results() -> None:
    """What is gathered is there twice for a while, so workers get less."""
    free = choose(COMPUTING, n_cores=1)
    held = choose(COMPUTING, n_cores=1, held_bytes=5 * GB)
    assert free.memory_limit_bytes == int(0.9 * 16 * GB)
    assert held.memory_limit_bytes == 11 * GB


def test_large_results_are_kept_out_of_the_caller() -> None:
    """Work without the GIL whose results are large gets a process of its own."""
    assert choose(GIL_FREE, held_bytes=6 * GB).processes
    assert not choose(GIL_FREE, held_bytes=1 * GB).processes


def test_a_caller_that_has_much_gets_no_worker_inside() -> None:
    """A worker inside a process of 10 GB would look full at once, and pause."""
    assert choose(GIL_FREE, memory_bytes=4 * GB, caller_bytes=10 * GB).processes
    inside = choose(GIL_FREE, memory_bytes=4 * GB, caller_bytes=GB)
    assert not inside.processes
    assert inside.memory_limit_bytes == int(0.9 * 4 * GB) + GB


def test_processes_can_be_asked_for_and_forbidden() -> None:
    """What the user says about processes holds, and threads suit it."""
    asked = choose(WAITING, processes=True)
    assert asked.processes
    assert asked.threads_per_worker >= 100
    forbidden = choose(COMPUTING, processes=False)
    assert not forbidden.processes
    # More threads would wait for the one GIL.
    assert (forbidden.n_workers, forbidden.threads_per_worker) == (1, 1)


def test_stages_of_two_kinds_get_both() -> None:
    """Work that waits and then computes gets several processes of many threads."""
    size = choose(WAITING, replace(COMPUTING, mean_s=0.05), n_cores=4)
    assert size.n_workers == 4
    assert size.n_workers * size.threads_per_worker >= 64


def test_no_more_workers_than_tasks_or_allowed() -> None:
    """Three tasks get three workers; a limit is kept."""
    assert choose(replace(COMPUTING, n_tasks=3)).n_workers == 3
    assert choose(COMPUTING, limits=Limits(max_workers=5)).n_workers == 5


def test_only_physical_cores_count_for_computing() -> None:
    """Eight logical cores that are four get four processes."""
    needs = Needs(
        stages=(COMPUTING,),
        machine=Machine(n_cores=8, n_physical_cores=4, memory_bytes=16 * GB),
        limits=Limits(),
    )
    assert choose_size(needs).n_workers == 4


def test_a_worker_can_start_whatever_the_limit() -> None:
    """A limit below what a worker takes by itself is not taken at its word."""
    size = choose(COMPUTING, limits=Limits(memory_limit_bytes=10**7))
    assert size.n_workers == 1
    assert not size.fits
    assert size.memory_limit_bytes > DISTRIBUTED_WORKER_BYTES


def test_light_work_keeps_the_thresholds_of_dask() -> None:
    """There is no setting where there is no need."""
    assert choose_thresholds(10**8, 10**8, 10**8, 4 * GB) is DASK_THRESHOLDS
    assert choose(COMPUTING).thresholds is DASK_THRESHOLDS


def test_peaks_leave_less_for_results() -> None:
    """Results go to disk early enough for peaks not to pause anything."""
    found = choose_thresholds(10**8, 5 * GB, 0, 10 * GB)
    assert found.target + 0.51 == pytest.approx(PEAK_SPILL)
    assert found.target < found.spill < found.pause < 0.95


def test_predictions_follow_the_formula() -> None:
    """One process of eight threads takes as long as its one GIL lets it."""
    needs = Needs(stages=(COMPUTING,), machine=machine(8), limits=Limits())
    assert predict_s(needs, 1, 1) == pytest.approx(100.0)
    assert predict_s(needs, 1, 8) == pytest.approx(110.0)
    assert predict_s(needs, 8, 1) == pytest.approx(12.54, abs=0.1)


@pytest.mark.parametrize(
    ("stage", "is_off"), [(COMPUTING, True), (GIL_FREE, False), (WAITING, True)]
)
def test_the_profiler_is_off_where_it_costs(stage: Workload, is_off: bool) -> None:
    """Where tasks hold the GIL, or are many in a process that can be told."""
    needs = Needs(
        stages=(stage,), machine=machine(4, 16 * GB), limits=Limits(), processes=True
    )
    size = choose_size(needs)
    arguments = make_arguments(needs, size, local_directory="/var/tmp")
    settings = arguments.get("config", {})
    assert (settings.get("distributed.worker.profile.enabled") is False) is is_off
    assert ("profiler" in arguments.reasons.get("config", "")) is is_off
