"""The makespans of clusters of any size, simulated."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from amorsize_dask import ArgumentError, predict_makespans
from amorsize_dask.cluster.makespans import (
    MOST_WORKERS,
    find_cluster_costs,
    list_counts,
    simulate_stage,
)
from amorsize_dask.core.model import Costs, Workload

COSTS = find_cluster_costs(Costs())
SECONDS = Workload(n_tasks=2048, mean_s=1.0)


def test_curves_go_from_1_to_256_workers() -> None:
    """Every number at first, and few of the large ones."""
    counts = list_counts()
    assert counts[:16] == list(range(1, 17))
    assert counts[-1] == MOST_WORKERS == 256
    assert len(counts) < 50
    assert counts == sorted(set(counts))


def test_long_tasks_scale_to_256_workers() -> None:
    """Where each worker has a core, twice the workers take half the time."""
    for n in (1, 2, 16, 256):
        seconds = simulate_stage(SECONDS, n, n, COSTS)
        assert seconds == pytest.approx(2048 / n, rel=0.1)


@pytest.mark.parametrize(("cpu_fraction", "expected_s"), [(1.0, 512), (0.0, 128)])
def test_more_workers_than_cores_help_those_that_wait(
    cpu_fraction: float, expected_s: float
) -> None:
    """On 4 cores 16 workers are worth 4 if they compute, and 16 if they wait."""
    stage = Workload(
        n_tasks=2048, mean_s=1.0, cpu_fraction=cpu_fraction, gil_fraction=cpu_fraction
    )
    assert simulate_stage(stage, 16, 4, COSTS) == pytest.approx(expected_s, rel=0.05)


def test_short_tasks_scale_no_further_than_the_scheduler() -> None:
    """Of a million tasks of a millisecond Dask hands out 2000 a second, at most."""
    stage = Workload(n_tasks=10**6, mean_s=0.001)
    few_s, many_s = (simulate_stage(stage, n, n, COSTS) for n in (1, 256))
    assert few_s > 1000
    assert many_s == pytest.approx(500, rel=0.1)


def test_more_workers_take_no_longer() -> None:
    """Within the grain of rounds, a curve only falls."""
    seconds = [simulate_stage(SECONDS, n, n, COSTS) for n in (1, 3, 8, 64, 256)]
    assert all(b <= 1.05 * a for a, b in pairwise(seconds))


def test_nothing_takes_no_time() -> None:
    """A stage of no tasks isn't simulated."""
    assert simulate_stage(Workload(n_tasks=0, mean_s=1.0), 4, 4, COSTS) == 0


def test_a_function_with_data_has_a_curve() -> None:
    """What was measured of a few items is simulated for all."""

    def wait(_: Any) -> None:
        time.sleep(0.01)

    makespans = predict_makespans((wait, range(1000)), [1, 10])
    assert makespans[1] == pytest.approx(10, rel=0.2)
    assert makespans[10] == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("arguments", [{"n_workers": [0]}, {"n_cores": 0}])
def test_bad_counts_are_refused(arguments: dict[str, Any]) -> None:
    """Before any task has run."""
    (name,) = arguments
    with pytest.raises(ArgumentError, match=name):
        predict_makespans((abs, [1]), **arguments)
