"""Simulated clusters take as long as real ones of Dask's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import fmean, stdev

import cluster_tasks as tasks
import pytest
from dask import compute, delayed
from distributed import Client, LocalCluster

from amorsize_dask.cluster.makespans import find_cluster_costs, simulate_stage
from amorsize_dask.core.model import Workload
from amorsize_dask.measure.machine import measure_machine

N_TASKS = 40
TASK_S = 0.05

#: Share by which the two may differ.
TOLERANCE = 0.2

#: Runs of which one must agree. Fewer: a busy machine fails the test; more: one that is
#: wrong takes longer to be found out.
MOST_RUNS = 6


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize(
    ("function", "fraction"), [(tasks.nap, 0.0), (tasks.spin, 1.0)]
)
def test_makespans_agree_with_real_clusters(
    n_workers: int, function: Callable[[float], float], fraction: float
) -> None:
    """Tasks that wait or compute take what they are predicted to, within a fifth.

    What a task takes is measured in the same run, so that others who use the machine
    make the tasks slower and not the prediction wrong. What they take from Dask's own
    processes is no one's to predict: the best of several runs counts.
    """
    costs = find_cluster_costs(measure_machine().costs)
    errors = []
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        for _ in range(MOST_RUNS):
            took, real_s = run_really(function)
            stage = Workload(
                n_tasks=N_TASKS,
                mean_s=fmean(took),
                std_s=stdev(took),
                cpu_fraction=fraction,
                gil_fraction=fraction,
            )
            # The seconds that were measured are those with as many cores as there are.
            expected_s = simulate_stage(stage, n_workers, n_workers, costs)
            errors.append(expected_s / real_s - 1)
            if abs(errors[-1]) <= TOLERANCE:
                return
    pytest.fail(f"predictions are off by {[f'{error:+.0%}' for error in errors]}")


def run_really(function: Callable[[float], float]) -> tuple[tuple[float, ...], float]:
    """Return what each task took, and the seconds until all had."""
    work = [
        delayed(function)(TASK_S, dask_key_name=f"task-{os.urandom(4).hex()}")
        for _ in range(N_TASKS)
    ]
    start = time.perf_counter()
    took = compute(*work)
    return took, time.perf_counter() - start
