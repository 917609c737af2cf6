"""Clusters that are started for some work, and how it goes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cluster_tasks as tasks
import dask
import dask.bag as db
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info

from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    cluster_kwargs,
    local_cluster,
    optimize,
)
from amorsize_dask.cluster import ClusterArguments
from amorsize_dask.measure import machine
from amorsize_dask.measure.machine import measure_machine

MB = 10**6

#: No dashboard: its port may be taken by someone else's cluster, which is a warning.
QUIET: dict[str, Any] = {"dashboard_address": None}


def bag(function: Any, items: Any) -> Any:
    """Return a bag with a partition for each item."""
    items = list(items)
    return db.from_sequence(items, npartitions=len(items)).map(function)


@pytest.fixture
def environ() -> Iterator[None]:
    """See that a test leaves the environment as it was, as clusters of Dask don't."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    for variables in (before, after):
        variables.pop("PYTEST_CURRENT_TEST", None)
    assert after == before


def see_worker(dask_worker: Any) -> dict[str, Any]:
    """Return what a worker has been given."""
    memory = dask_worker.memory_manager
    return {
        "pid": os.getpid(),
        "limit": memory.memory_limit,
        "thresholds": (
            memory.memory_target_fraction,
            memory.memory_spill_fraction,
            memory.memory_pause_fraction,
        ),
        "threads": dask_worker.state.nthreads,
        "directory": dask_worker.local_directory,
        "OMP": os.environ.get("OMP_NUM_THREADS"),
        "inner": {found["num_threads"] for found in threadpool_info()},
        "n_spilled": memory.data.spilled_total[0],
        "is_profiled": "profile" in dask_worker.periodic_callbacks,
    }


@pytest.mark.usefixtures("environ")
def test_work_that_holds_the_gil_runs_in_processes() -> None:
    """A real cluster, with workers as said, its client the default."""
    work = bag(tasks.compute, [200_000] * 20)
    expected = work.compute(scheduler="sync")
    with local_cluster(work, client=True, **QUIET) as cluster:
        assert isinstance(cluster, LocalCluster)
        assert work.compute() == expected
        workers = list(cluster.client.run(see_worker).values())
        arguments = cluster.arguments
    assert len(workers) == arguments["n_workers"] == measure_machine().n_physical_cores
    pids = {worker["pid"] for worker in workers}
    assert len(pids) == len(workers)
    assert os.getpid() not in pids
    for worker in workers:
        assert worker["threads"] == arguments["threads_per_worker"] == 1
        assert worker["limit"] == arguments["memory_limit"]
        assert worker["directory"].startswith(arguments["local_directory"])
        assert worker["OMP"] == arguments["env"]["OMP_NUM_THREADS"]
        assert worker["thresholds"] == (0.6, 0.7, 0.8)
        assert not worker["is_profiled"]
    assert "profiler" in arguments.reasons["config"]
    assert arguments.reasons.keys() == arguments.keys()


@pytest.mark.usefixtures("environ")
def test_work_that_waits_runs_in_many_threads_here() -> None:
    """There are more threads than cores, and no process."""
    work = bag(tasks.wait, range(200))
    with local_cluster(work, **QUIET) as cluster, Client(cluster) as client:
        assert cluster.client is None
        assert work.compute() == list(range(200))
        (worker,) = client.run(see_worker).values()
    assert worker["pid"] == os.getpid()
    n_threads = cluster.arguments["threads_per_worker"]
    assert worker["threads"] == n_threads > measure_machine().n_cores
    assert worker["limit"] == cluster.arguments["memory_limit"]
    assert worker["inner"] <= {1}


def test_heavy_work_finishes_without_spill_or_loss() -> None:
    """With the plain arguments: one task at a time, peaks above Dask's thresholds."""
    work = bag(tasks.take, [400 * MB] * 4)
    arguments = cluster_kwargs(work, memory_limit="700 MB")
    assert (arguments["n_workers"], arguments["threads_per_worker"]) == (1, 1)
    assert arguments["memory_limit"] == 700 * MB
    with LocalCluster(**{**arguments, **QUIET}) as cluster, Client(cluster) as client:
        found = work.compute()
        (worker,) = client.run(see_worker).values()
        events = client.get_events("worker-restart-memory")
    # One process has done all: none was killed for the next to take its place.
    assert {pid for _, pid in found} == {worker["pid"]} != {os.getpid()}
    assert not events
    target, spill, pause = worker["thresholds"]
    assert target < 0.6 < 0.8 < spill < pause
    assert worker["n_spilled"] == 0
    # One task at a time may use all cores.
    n_cores = measure_machine().n_physical_cores
    assert worker["OMP"] == str(n_cores)
    assert worker["inner"] <= {n_cores}


def test_work_that_can_not_be_sent_stays_here() -> None:
    """Results that can't be pickled are no hindrance in the calling process."""
    arguments = cluster_kwargs(bag(tasks.lock, range(4)))
    assert arguments["processes"] is False
    assert "pickle" in arguments.reasons["processes"]


def test_a_record_is_enough() -> None:
    """A run of the scheduler sizes the cluster that follows; nothing is run again."""
    work = bag(tasks.wait, range(40))
    with AmorsizeScheduler() as scheduler:
        work.compute(scheduler=scheduler)
        record = scheduler.last_run
    with local_cluster(record, client=True, **QUIET) as cluster:
        assert work.compute() == list(range(40))
        workers = list(cluster.scheduler_info["workers"].values())
    assert record is not None
    assert f"{record.stages[0].n_tasks} tasks" in cluster.arguments.reasons["n_workers"]
    assert {worker["nthreads"] for worker in workers} == {
        cluster.arguments["threads_per_worker"]
    }


def test_a_plan_is_enough() -> None:
    """What `optimize` has measured sizes a cluster; nothing is run again."""
    plan = optimize(tasks.wait, list(range(200)))
    with local_cluster(plan, client=True, **QUIET) as cluster:
        assert bag(tasks.wait, range(40)).compute() == list(range(40))
        (worker,) = cluster.scheduler_info["workers"].values()
    assert "200 tasks" in cluster.arguments.reasons["n_workers"]
    assert worker["nthreads"] == cluster.arguments["threads_per_worker"] > 2


def test_two_clusters_have_two_dashboards() -> None:
    """There is no warning of a port that is taken, as Dask's default has."""
    work = bag(tasks.wait, range(40))
    with local_cluster(work) as first, local_cluster(work) as second:
        assert first.dashboard_link != second.dashboard_link


def test_what_the_user_says_takes_precedence() -> None:
    """Arguments of LocalCluster replace those that were chosen."""
    work = (tasks.wait, range(100))
    with local_cluster(work, threads_per_worker=3, name="mine", **QUIET) as cluster:
        (worker,) = cluster.scheduler_info["workers"].values()
        assert cluster.name == "mine"
        assert worker["nthreads"] == 3


def test_limits_of_a_batch_system_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job gets its share of the node, not the node's cores and memory."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "900")
    # What was read a moment ago is taken to hold.
    for name in ("_left", "_granted"):
        read = getattr(machine, name)._look
        monkeypatch.setattr(machine, name, machine.Remembered(read))
    arguments = cluster_kwargs(bag(tasks.compute, [300_000] * 20))
    assert arguments["n_workers"] == arguments["threads_per_worker"] == 1
    assert arguments["memory_limit"] < 900 << 20


def test_a_task_that_does_not_fit_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the cluster is started, with the numbers."""
    arguments = ClusterArguments(
        {"n_workers": 1}, {"memory_limit": "NOT"}, fits=False, predicted_s=1.0
    )
    monkeypatch.setattr(
        "amorsize_dask.cluster.cluster_kwargs", lambda *a, **k: arguments
    )
    with pytest.warns(RuntimeWarning, match="NOT"):
        local_cluster(None, processes=False, **QUIET).close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_workers": 0},
        {"memory_limit": "much"},
        {"processes": "yes"},
        {"client": "yes"},
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """Before any task has run."""
    work = bag(tasks.fail, [1])
    (name,) = arguments
    with pytest.raises(ArgumentError, match=name):
        local_cluster(work, **arguments)


def test_a_client_that_can_not_be_had_leaves_no_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was started is closed again, and the error comes out."""

    def fail(_: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr("amorsize_dask.cluster.start.Client", fail)
    with pytest.raises(OSError, match="no"):
        local_cluster(bag(tasks.wait, range(40)), client=True, **QUIET)


@pytest.mark.usefixtures("environ")
def test_an_argument_that_dask_refuses_leaves_nothing() -> None:
    """No thread, no descriptor, no variable; the error is Dask's."""
    with pytest.raises(TypeError, match="bogus"):
        local_cluster(bag(tasks.wait, range(40)), bogus=1, **QUIET)


def test_settings_of_the_user_are_left_alone() -> None:
    """Starting and closing a cluster changes nothing of Dask's configuration."""
    before = dask.config.get("distributed.worker.memory")
    with local_cluster(bag(tasks.wait, range(40)), client=True, **QUIET):
        assert dask.config.get("distributed.worker.memory") == before
    assert dask.config.get("distributed.worker.memory") == before
    assert dask.config.get("scheduler", None) is None
