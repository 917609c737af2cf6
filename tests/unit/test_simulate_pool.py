"""A simulated pool takes what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, pstdev

import pytest
from simulated import machine

from amorsize_dask.core.model import Limits, Machine, Workload
from amorsize_dask.core.placement import WORKER_BYTES
from amorsize_dask.planning.pools import SIZES, choose_pool
from amorsize_dask.simulate.pool import simulate_pool
from amorsize_dask.simulate.work import SimulatedTask

TASK = SimulatedTask(0.1)


def costless(n_cores: int) -> Machine:
    host = machine(n_cores)
    costs = replace(
        host.costs,
        boot_first_s=1e-9,
        boot_next_s=1e-9,
        batch_s=1e-9,
        echo_s=1e-9,
        item_s=1e-9,
        bytes_per_s=1e15,
    )
    return replace(host, costs=costs)


@pytest.mark.parametrize(
    ("n_jobs", "chunksize", "seconds"),
    [(1, 1, 4.0), (2, 1, 2.0), (4, 10, 1.0), (4, 20, 2.0), (3, 7, 1.4), (8, 1, 1.0)],
)
def test_chunks_are_shared_out(n_jobs: int, chunksize: int, seconds: float) -> None:
    """40 items on four cores: rounds of whole chunks, and never more than cores do."""
    run = simulate_pool([TASK] * 40, costless(4), n_jobs, chunksize)
    assert run.makespan_s == pytest.approx(seconds, rel=1e-3)


def test_processes_that_wait_need_no_core() -> None:
    waits = [SimulatedTask(0.1, 0.0, 0.0)] * 40
    run = simulate_pool(waits, costless(1), 8, 1)
    assert run.makespan_s == pytest.approx(0.5, rel=1e-3)


def test_processes_start_one_after_the_other() -> None:
    """Nothing is sent before the last has been started."""
    host = machine(4)
    run = simulate_pool([TASK] * 4, host, 4, 1)
    costs = host.costs
    boot_s = costs.boot_first_s + 3 * costs.boot_next_s
    most_s = boot_s + TASK.seconds + 5 * costs.batch_s
    assert boot_s + TASK.seconds < run.makespan_s < most_s


def test_the_caller_sends_one_chunk_after_the_other() -> None:
    """Bytes that take longer than the work hold it up, however many processes."""
    host = machine(64)
    large = SimulatedTask(0.001, in_bytes=int(host.costs.bytes_per_s / 10))
    two, many = (simulate_pool([large] * 50, host, n, 1) for n in (4, 64))
    assert two.makespan_s > 5.0
    assert many.makespan_s > 5.0


def test_each_process_takes_memory() -> None:
    """By itself, for its item, and for the results of its chunk."""
    hungry = SimulatedTask(0.1, out_bytes=1000, peak_bytes=10**6)
    run = simulate_pool([hungry] * 40, costless(4), 4, 10)
    assert run.peak_bytes == 4 * (WORKER_BYTES + 10**6 + 10 * 1000)


@pytest.mark.parametrize("n_cores", [2, 4, 16])
@pytest.mark.parametrize("n_items", [30, 200, 2000])
def test_chunks_suit_items_of_which_the_largest_are_last(
    n_cores: int, n_items: int
) -> None:
    """A last chunk of them would take long; what it takes is known before."""
    host = machine(n_cores)
    each_s = [0.001 + 0.05 * (i / n_items) ** 4 for i in range(n_items)]
    tasks = list(map(SimulatedTask, each_s))
    workload = Workload(n_tasks=n_items, mean_s=fmean(each_s), std_s=pstdev(each_s))
    arguments = workload, host, Limits()
    blind, seeing = (
        choose_pool(*arguments, target_chunk_s=0.2, costs=host.costs, each_s=known)
        for known in (None, each_s)
    )
    runs = {
        k: simulate_pool(tasks, host, seeing.n_jobs, k).makespan_s
        for k in (*SIZES, blind.chunksize)
        if k * seeing.n_jobs <= n_items
    }
    taken_s = simulate_pool(tasks, host, seeing.n_jobs, seeing.chunksize).makespan_s
    assert seeing.n_jobs == blind.n_jobs
    assert taken_s <= 1.02 * min(runs.values())
    assert seeing.predicted_s == pytest.approx(taken_s, rel=0.03)
