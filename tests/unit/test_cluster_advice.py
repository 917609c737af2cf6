"""How many workers pay for what a cluster has left to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from amorsize_dask import ArgumentError
from amorsize_dask.cluster.advice import (
    advise,
    estimate_stage,
)
from amorsize_dask.cluster.makespans import find_cluster_costs, simulate_stage
from amorsize_dask.cluster.record import ClusterRecord, ClusterStage
from amorsize_dask.cluster.work import measure_work
from amorsize_dask.core.model import Costs, Workload

SECOND = Workload(n_tasks=1, mean_s=1.0)


def stage(n_left: int, task: Workload | None = SECOND, **more: Any) -> ClusterStage:
    """Return a stage of which so many tasks are left."""
    return ClusterStage(
        name="work", n_finished=1, n_failed=0, n_left=n_left, task=task, **more
    )


def record(*stages: ClusterStage, n_workers: int = 1, **more: Any) -> ClusterRecord:
    """Return the record of a cluster whose workers have a thread each."""
    plain: dict[str, Any] = {
        "n_threads": n_workers,
        "n_lost": 0,
        "held_bytes": 0,
        "spilled_bytes": 0,
        "limit_bytes": 10**9,
        "bytes_per_s": 1e8,
    }
    return ClusterRecord(stages=stages, n_workers=n_workers, **{**plain, **more})


def test_long_work_pays_for_many_workers() -> None:
    """Of 640 tasks of a second, 64 workers do ten each, and the curve falls."""
    advice = advise(record(stage(640)), start_s=1.0)
    assert 64 <= advice.n_workers <= 256
    seconds = list(advice.makespans.values())
    assert all(b <= 1.05 * a for a, b in pairwise(seconds))
    assert next(iter(advice.makespans)) == 1
    assert advice.makespans[1] == pytest.approx(640, rel=0.05)
    assert str(advice).count("<-") == 1


def test_workers_that_come_too_late_do_not_pay() -> None:
    """What one worker has done in a second is no reason to start others."""
    advice = advise(record(stage(1)), start_s=5.0)
    assert advice.n_workers == 1
    assert advice.makespans[256] == pytest.approx(advice.makespans[1])


def test_more_workers_than_tasks_do_not_pay() -> None:
    """Three tasks are for three workers."""
    assert advise(record(stage(3, replace(SECOND, mean_s=100.0)))).n_workers == 3


def test_a_target_takes_the_fewest_workers_that_reach_it() -> None:
    """100 tasks of a second in 50 s: two workers and a bit for their start."""
    advice = advise(record(stage(100)), target_s=50.0, start_s=1.0)
    assert advice.n_workers == 3
    assert advice.makespans[3] <= 50.0 < advice.makespans[2]


def test_a_maximum_is_kept_and_shown() -> None:
    """The curve ends there."""
    advice = advise(record(stage(1000)), maximum=5)
    assert advice.n_workers == 5
    assert list(advice.makespans) == [1, 2, 3, 4, 5]


def test_threads_of_workers_count() -> None:
    """Workers with four threads are four times as many."""
    one = advise(record(stage(640)), start_s=0.1)
    four = advise(record(stage(640), n_threads=4), start_s=0.1)
    assert four.makespans[4] == pytest.approx(one.makespans[16], rel=0.15)


@pytest.mark.parametrize("n_threads", [1, 2, 7, 40, 256])
@pytest.mark.parametrize(
    ("n_tasks", "mean_s"), [(5, 1.0), (100, 0.05), (1000, 0.01), (20_000, 0.001)]
)
def test_the_formula_agrees_with_the_simulation(
    n_threads: int, n_tasks: int, mean_s: float
) -> None:
    """It is what advice goes by, which may be asked for every second."""
    costs = find_cluster_costs(Costs())
    stage = Workload(n_tasks=n_tasks, mean_s=mean_s, out_bytes=1000)
    expected_s = simulate_stage(stage, n_threads, n_threads, costs)
    found_s = estimate_stage(stage, n_threads, costs)
    assert found_s == pytest.approx(expected_s, rel=0.25)


def test_nothing_left_needs_no_worker() -> None:
    """Nor has it a curve."""
    advice = advise(record(stage(0)))
    assert (advice.n_workers, dict(advice.makespans)) == (0, {})


def test_nothing_known_leaves_it_as_it_is() -> None:
    """The workers that are there stay, and at least one."""
    unknown = stage(10, task=None)
    assert advise(record(unknown, n_workers=3)).n_workers == 3
    assert advise(record(unknown, n_workers=0)).n_workers == 1
    advice = advise(record(stage(100), unknown))
    assert advice.n_workers > 1
    assert "10 tasks are left out" in advice.reason


def test_without_workers_all_must_come_first() -> None:
    """The time in which they come is in each number."""
    advice = advise(record(stage(4), n_workers=0, limit_bytes=0), start_s=10.0)
    assert advice.makespans[4] == pytest.approx(11, rel=0.05)
    assert advice.n_workers >= 1


def test_full_workers_get_others_beside_them() -> None:
    """As Dask does it: twice as many when little memory is left."""
    full = record(stage(4), n_workers=4, held_bytes=7 * 10**8)
    assert advise(full).n_workers == 8
    assert advise(full, maximum=6).n_workers == 6


def test_a_record_is_work() -> None:
    """What was done and what is left counts, and what no one knows doesn't."""
    known = measure_work(record(stage(9), stage(5, task=None)))
    assert [found.n_tasks for found in known.stages] == [10]
    with pytest.raises(ArgumentError, match="nothing to do"):
        measure_work(record(stage(5, task=None)))


def test_records_are_told_in_words() -> None:
    """With what was spilled and what was lost."""
    found = str(
        record(stage(9, worker_bytes=10**8, written_bytes=10**6), n_lost=2, n_workers=3)
    )
    assert "2 lost" in found
    assert "1 MB to disk" in found
    assert "1 finished, 9 left" in found


@pytest.mark.parametrize("arguments", [{"maximum": 0}, {"target_s": 0}, {"start_s": 0}])
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """By name."""
    (name,) = arguments
    with pytest.raises(ArgumentError, match=name):
        advise(record(stage(9)), **arguments)
