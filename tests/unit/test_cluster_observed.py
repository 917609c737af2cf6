"""What is kept of a stage that runs in a cluster."""

from __future__ import annotations

import pytest

from amorsize_dask.cluster.observed import ObservedStage, group_metrics
from amorsize_dask.core.experience import Experience

SEEN = Experience(
    n_items=10, mean_s=2.0, std_s=0.0, cpu_fraction=0.5, gil_fraction=0.25
)


def test_tasks_are_added_up() -> None:
    """Means, sums and the longest, with the shares that workers have counted."""
    stage = ObservedStage("work", "code")
    for seconds in (1.0, 3.0):
        stage.add(seconds, 0.5, in_bytes=100, out_bytes=10)
    counted = {("thread-cpu", "seconds"): 1.0, ("thread-noncpu", "seconds"): 3.0}
    workload = stage.find_workload(7, counted)
    assert (workload.n_tasks, workload.mean_s, workload.cpu_fraction) == (7, 2.0, 0.25)
    assert workload.gil_fraction == 0.25
    assert (workload.in_bytes, workload.out_bytes) == (100, 10)
    assert (stage.n_finished, stage.total_s, stage.longest_s) == (2, 4.0, 3.0)
    assert stage.transfer_s == 1.0


def test_what_was_counted_before_is_not_its_own() -> None:
    """A stage begins where its prefix has been before."""
    before = {("disk-write", "bytes"): 100}
    stage = ObservedStage("work", "code", metrics=before)
    assert stage.count({("disk-write", "bytes"): 130}, "disk-write", "bytes") == 30
    assert stage.count({}, "disk-write", "bytes") == 0


def test_earlier_runs_are_believed_until_a_task_has_finished() -> None:
    """Then what is seen counts; whether the GIL is held the cluster can't see."""
    stage = ObservedStage("work", "code", SEEN)
    assert stage.is_recalled
    assert stage.find_workload(1, {}).mean_s == 2.0
    assert stage.find_experience({}) is None
    stage.add(20.0, 0.0, 0, 0)
    assert not stage.is_recalled
    found = stage.find_experience({})
    assert found is not None
    assert found.mean_s == pytest.approx(20.0)
    assert found.gil_fraction == 0.25


def test_memory_is_kept_at_its_highest() -> None:
    """Of a worker and of a task."""
    stage = ObservedStage("work", "code")
    stage.add(1.0, 0.0, 0, 0)
    for n in (1, 3, 2):
        stage.add_memory(10 * n, 4 * n, 6 * n)
        stage.add_task_bytes(5 * n)
    found = stage.worker_bytes, stage.managed_bytes, stage.unmanaged_bytes
    assert found == (30, 12, 18)
    assert stage.find_workload(1, {}).peak_bytes == 15


def test_counts_are_told_apart_by_prefix() -> None:
    """What isn't a task's, or isn't asked for, is left out."""
    counted = {
        "latency": 1.0,
        ("get-data", "network", "seconds"): 2.0,
        ("execute", "a", "thread-cpu", "seconds"): 3.0,
        ("execute", "b", "thread-cpu", "seconds"): 4.0,
    }
    found = group_metrics(counted.items(), ["a", "c"])
    assert found == {"a": {("thread-cpu", "seconds"): 3.0}, "c": {}}
