"""The record that a real cluster keeps, and the advice that follows from it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cluster_tasks as tasks
import dask
import pytest
from dask import compute, delayed
from distributed import Client, Event, LocalCluster, wait

from amorsize_dask import (
    AmorsizeScheduler,
    ClusterRecorder,
    MeasuredAdaptive,
    advise_workers,
    cluster_kwargs,
    cluster_record,
    predict_makespans,
)
from amorsize_dask.cluster import recorder as module
from amorsize_dask.cluster.record import ClusterRecord, ClusterStage
from amorsize_dask.core.units import format_seconds
from amorsize_dask.measure.history import History

MB = 10**6


@contextmanager
def in_process(
    *, n_workers: int, n_threads: int
) -> Iterator[tuple[LocalCluster, Client]]:
    """Start a cluster in this process, and a client of it."""
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=n_threads,
            processes=False,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


@pytest.fixture
def client() -> Iterator[Client]:
    """Return the client of a cluster in this process, which has a recorder."""
    with in_process(n_workers=1, n_threads=2) as (_, client):
        client.register_plugin(ClusterRecorder())
        yield client


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[History]:
    """Return the history that recorders made in this test write to."""
    mine = History(tmp_path)
    monkeypatch.setattr(module, "shared", mine)
    with dask.config.set({"amorsize.history": True}):
        yield mine


def until(is_so: Callable[[], Any]) -> Any:
    """Wait for something to be so, and return what it is."""
    while not (found := is_so()):
        time.sleep(0.05)
    return found


def find(record: ClusterRecord, name: str) -> ClusterStage:
    """Return a stage by its name."""
    (stage,) = (stage for stage in record.stages if stage.name == name)
    return stage


def block(name: str, i: int) -> int:
    """Wait until the test says so."""
    Event(name).wait()
    return i


def test_stages_are_recorded(client: Client) -> None:
    """Tasks, seconds, bytes, failures and what is left, by prefix."""
    waits = client.map(tasks.wait, range(10))
    sums = client.submit(sum, waits)
    assert sums.result() == 45
    failing = client.map(tasks.fail, range(3))
    wait(failing)
    blocked = client.map(block, ["go"] * 4, range(4))
    # Graphs are sent by another thread.
    until(lambda: cluster_record(client).n_left == 4)
    record = cluster_record(client)
    stage = find(record, "wait")
    assert (stage.n_finished, stage.n_left, stage.n_failed) == (10, 0, 0)
    assert stage.task is not None
    assert 0.02 <= stage.task.mean_s <= stage.longest_s <= stage.total_s
    assert stage.total_s == pytest.approx(10 * stage.task.mean_s)
    assert stage.task.out_bytes == pytest.approx(28)
    assert stage.worker_bytes >= stage.managed_bytes >= 0
    added = find(record, "sum").task
    assert added is not None
    assert added.in_bytes == pytest.approx(280)
    assert find(record, "fail").n_failed == 3
    assert find(record, "block").n_left == 4
    assert record.n_left == record.n_unknown == 4
    assert (record.n_workers, record.n_threads) == (1, 2)
    assert "wait: 10 finished" in str(record)
    Event("go").set()
    client.gather(blocked)
    assert cluster_record(client).n_left == 0


def test_shares_of_the_time_come_with_the_heartbeats(client: Client) -> None:
    """What waits is told from what computes."""
    client.gather(client.map(tasks.wait, range(10)))
    client.gather(client.map(tasks.compute, range(200_000, 200_010)))

    def shares() -> tuple[float, float] | None:
        record = cluster_record(client)
        waits, computes = find(record, "wait").task, find(record, "compute").task
        assert waits is not None
        assert computes is not None
        # Until a worker has told, all of the time is taken for computing.
        known = waits.cpu_fraction < 1 > computes.cpu_fraction
        return (waits.cpu_fraction, computes.cpu_fraction) if known else None

    waiting, computing = until(shares)
    # Of a thread that computes others may have the core or the GIL for a while.
    assert waiting < 0.1
    assert waiting < computing


def test_advice_follows_from_what_is_left(client: Client) -> None:
    """Long work pays for more workers, none at all for none."""
    client.gather(client.map(tasks.nap, [0.2, 0.21]))
    assert advise_workers(client).n_workers == 0
    naps = client.map(tasks.nap, [0.2 + i * 1e-6 for i in range(40)])
    until(lambda: cluster_record(client).n_left > 30)
    advice = advise_workers(client, start_s=0.1)
    assert advice.n_workers > 1
    assert set(range(1, 17)) <= advice.makespans.keys()
    # Two at a time.
    assert 0.2 * 20 / 2 <= advice.makespans[1] <= 0.2 * 40 / 2 * 1.2
    client.gather(naps)
    assert advise_workers(client).n_workers == 0


def test_a_record_is_work_for_the_next_cluster(client: Client) -> None:
    """Nothing is tried again."""
    client.gather(client.map(tasks.wait, range(40)))
    until(lambda: find(cluster_record(client), "wait").task.cpu_fraction < 0.5)  # type: ignore[union-attr]
    record = cluster_record(client)
    assert cluster_kwargs(record)["threads_per_worker"] > 2
    makespans = predict_makespans(record, [1, 2])
    assert makespans[1] == pytest.approx(2 * makespans[2], rel=0.2)


def test_spills_are_recorded() -> None:
    """Bytes to disk and back are those of the stage whose tasks made them go."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=400 * MB,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(ClusterRecorder())
        made = client.map(tasks.make, [30 * MB + i for i in range(16)])
        wait(made)
        lengths = client.map(len, made)
        assert sum(client.gather(lengths)) == 16 * 30 * MB + sum(range(16))
        stage = until(
            lambda: (s := find(cluster_record(client), "len")).read_bytes and s
        )
        record = cluster_record(client)
        assert stage.read_bytes >= 30 * MB
        assert record.spilled_bytes > 30 * MB
        assert find(record, "make").worker_bytes > 60 * MB
        assert f"{record.n_workers} workers" in str(record)


def test_what_is_seen_is_known_to_later_runs(history: History) -> None:
    """By code: here and there, and whatever the keys are called."""
    work = [delayed(tasks.wait)(i) for i in range(8)]
    with in_process(n_workers=1, n_threads=2) as (_, client):
        client.register_plugin(ClusterRecorder())
        compute(*work)
        entry = until(
            lambda: [e for e in history.entries().values() if e.name == "wait"]
        )[0]
        assert entry.experience.n_items == 8
        blocked = [
            delayed(block)("go", i, dask_key_name=f"other-{i}") for i in range(4)
        ]
        waits = [
            delayed(tasks.wait)(b, dask_key_name=f"named-{b.key}") for b in blocked
        ]
        futures = client.compute(waits)
        until(lambda: cluster_record(client).n_left == 8)
        # The same code after other code is another stage, of which nothing is known.
        assert cluster_record(client).n_unknown == 8
        Event("go").set()
        client.gather(futures)
    # Closing the cluster has written what came last.
    kept = {entry.name for entry in History(history._folder).entries().values()}
    assert "wait" in kept
    with AmorsizeScheduler(lanes=("threads",)) as scheduler:
        compute(*work, scheduler=scheduler)
    # The next cluster knows before the first task has finished.
    with in_process(n_workers=0, n_threads=2) as (_, client):
        client.register_plugin(ClusterRecorder())
        futures = client.compute(work)
        stage = until(
            lambda: [s for s in cluster_record(client).stages if s.name == "wait"]
        )[0]
        assert stage.is_recalled
        assert stage.task.mean_s == pytest.approx(0.02, rel=0.5)
        assert stage.n_left == 8
        advice = advise_workers(client, start_s=0.01)
        assert advice.n_workers >= 1
        del futures


def test_history_that_is_off_is_left_alone(history: History) -> None:
    """Whoever registers it says so."""
    with dask.config.set({"amorsize.history": False}):
        plugin = ClusterRecorder()
    with in_process(n_workers=1, n_threads=1) as (_, client):
        client.register_plugin(plugin)
        client.gather(client.map(tasks.wait, range(3)))
    assert not history.entries()


def test_what_this_package_sends_is_not_learned_twice(history: History) -> None:
    """It is recorded as anything else, and whoever has sent it learns of it."""
    with in_process(n_workers=1, n_threads=1) as (_, client):
        client.register_plugin(ClusterRecorder())
        client.gather(client.map(format_seconds, range(3)))
        assert find(cluster_record(client), "format_seconds").n_finished == 3
    assert not history.entries()


def test_two_functions_of_one_name_are_two_stages(client: Client) -> None:
    """The seconds of one aren't taken for those of the other."""
    client.gather(client.map(lambda i: time.sleep(0.1), range(4)))
    client.gather(client.map(lambda i: i, range(4)))
    task = find(cluster_record(client), "lambda").task
    assert task is not None
    assert task.mean_s < 0.05


def test_stages_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go."""
    monkeypatch.setattr(module, "MAX_STAGES", 3)
    for i in range(6):
        client.submit(tasks.wait, i, key=(f"stage{i}", 0)).result()
    names = [stage.name for stage in cluster_record(client).stages]
    assert names == ["stage3", "stage4", "stage5"]


def test_errors_stay_inside(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first is logged, the work goes on."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("in the recorder")

    monkeypatch.setattr(module.ObservedStage, "add", fail)
    monkeypatch.setattr(module.ObservedStage, "add_memory", fail)
    with caplog.at_level(logging.WARNING):
        assert client.gather(client.map(tasks.wait, range(5))) == list(range(5))
    failures = [r for r in caplog.records if "recorder has failed" in r.message]
    assert len(failures) == 1
    assert cluster_record(client).n_left == 0


def test_a_cluster_without_a_recorder_says_so() -> None:
    """With what to do about it; nothing has been changed."""
    with (
        in_process(n_workers=1, n_threads=1) as (_, client),
        pytest.raises(LookupError, match="register_plugin"),
    ):
        advise_workers(client)


def test_a_scheduler_in_this_process_takes_it_too() -> None:
    """By `add_plugin`, and lets go of it again."""
    plugin = ClusterRecorder()
    with in_process(n_workers=1, n_threads=1) as (cluster, client):
        cluster.scheduler.add_plugin(plugin)
        client.gather(client.map(tasks.wait, range(3)))
        assert find(cluster_record(client), "wait").n_finished == 3
        client.unregister_scheduler_plugin(ClusterRecorder.name)
        until(lambda: plugin._looking is None)
        with pytest.raises(LookupError):
            cluster_record(client)


def test_lost_workers_are_counted() -> None:
    """A worker that is killed is lost; its tasks are done by the next."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(ClusterRecorder())
        blocked = client.map(block, ["go"] * 2, range(2))
        until(lambda: client.processing())
        (pid,) = client.run(tasks.own_pid).values()
        tasks.kill(pid)
        until(lambda: cluster_record(client).n_lost)
        Event("go").set()
        assert client.gather(blocked) == [0, 1]
        assert cluster_record(client).n_lost == 1


def test_clusters_adapt_to_what_was_measured() -> None:
    """Workers come for what is left, no more than pay, and go."""
    with in_process(n_workers=1, n_threads=1) as (cluster, client):
        client.register_plugin(ClusterRecorder())
        client.gather(client.map(tasks.nap, [0.5, 0.51]))
        adaptive = cluster.adapt(
            Adaptive=MeasuredAdaptive,
            minimum=1,
            maximum=3,
            interval="100 ms",
            target_duration="1 s",
            start_s=0.05,
        )
        assert isinstance(adaptive, MeasuredAdaptive)
        naps = client.map(tasks.nap, [0.5 + i * 1e-6 for i in range(2, 20)])
        until(lambda: len(cluster.scheduler_info["workers"]) == 3)
        client.gather(naps)
        del naps
        until(lambda: len(cluster.scheduler_info["workers"]) == 1)
        adaptive.stop()


def test_adapting_without_a_recorder_is_dasks_own() -> None:
    """It asks for what Dask asks for."""
    with in_process(n_workers=1, n_threads=1) as (cluster, client):
        adaptive = MeasuredAdaptive(cluster, interval=0, minimum=1, maximum=2)
        found = asyncio.run_coroutine_threadsafe(
            adaptive.target(), cluster.loop.asyncio_loop
        )
        assert found.result() == 0
        del client
