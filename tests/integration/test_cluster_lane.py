"""The lane cluster: real clusters of Dask's, against `scheduler="sync"`."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import far_tasks as tasks
import numpy as np
import pytest
from dask.callbacks import Callback
from distributed import Client, LocalCluster
from packaging.version import Version

from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    ClusterError,
    Pipeline,
    Stage,
    WorkerLostError,
)
from amorsize_dask.execute import connection
from amorsize_dask.execute.far_worker import keep, run_far_batch

#: Any port for the dashboard: the usual one may be taken, which is a warning.
QUIET: dict[str, Any] = {"dashboard_address": ":0"}


@pytest.fixture(scope="module", autouse=True)
def environ(_module_leaves_nothing: None) -> Iterator[None]:
    """Put back what clusters of Dask set in the environment."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _own_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("amorsize")}


@pytest.fixture(autouse=True)
def _test_leaves_nothing(_module_leaves_nothing: None) -> Iterator[None]:
    """See that a test leaves no thread of ours: a cluster's come and go.

    It takes the place of the check that all tests have. What is left when the module's
    cluster has been closed is looked at as everywhere.
    """
    before = _own_threads()
    yield
    end = time.monotonic() + 5
    while _own_threads() - before:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared_client(environ: None) -> Iterator[Client]:
    """Return the client of a cluster of two workers; it is active."""
    with (
        # A worker that is started again takes a second or more.
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster,
        Client(cluster) as client,
    ):
        yield client


def tasks_of_scheduler(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.tasks)


def expect_nothing_left(client: Client) -> None:
    """Wait until the cluster has no task and no data."""
    end = time.monotonic() + 10
    while found := client.run_on_scheduler(tasks_of_scheduler):
        assert time.monotonic() < end, found
        gc.collect()  # futures may be in a cycle, with the frames of an exception
        time.sleep(0.02)


@pytest.fixture
def client(shared_client: Client) -> Iterator[Client]:
    """Return an active client, and see that the test leaves nothing on its cluster."""
    shared_client.wait_for_workers(2)
    yield shared_client
    expect_nothing_left(shared_client)


@pytest.fixture
def scheduler(client: Client) -> Iterator[AmorsizeScheduler]:
    """Return a scheduler that may use the cluster alone."""
    with AmorsizeScheduler(lanes=("cluster",), isolate=True) as scheduler:
        yield scheduler


def bag(function: Callable[..., Any], n: int, npartitions: int, **kwargs: Any) -> Any:
    """Return a bag of numbers that go through a function."""
    return db.from_sequence(range(n), npartitions=npartitions).map(function, **kwargs)


def expect_on_cluster(scheduler: AmorsizeScheduler, *, most_inline: int = 1) -> None:
    """Check that the last run was on the cluster, but for bookkeeping."""
    assert scheduler.last_run is not None
    lanes = scheduler.last_run.lanes
    assert lanes.keys() <= {"cluster", "inline"}
    assert lanes["cluster"].n_tasks > 0
    inline = lanes.get("inline")
    assert inline is None or inline.n_tasks <= most_inline


COLLECTIONS: dict[str, Callable[[], Any]] = {
    "map and sum": lambda: bag(tasks.square, 1000, 20).sum(),
    "lambda": lambda: bag(lambda x: x + 1, 50, 5),
    "filter and flatten": lambda: (
        bag(tasks.square, 60, 6)
        .filter(lambda x: x % 2)
        .map(lambda x: [x] * 2)
        .flatten()
    ),
    "fold": lambda: bag(tasks.square, 100, 10).fold(add),
    "frequencies": lambda: db.from_sequence(
        "abracadabra" * 9, npartitions=9
    ).frequencies(sort=True),
    "grouping": lambda: (
        bag(tasks.square, 100, 5)
        .groupby(lambda x: x % 3, shuffle="tasks")
        .map(lambda group: (group[0], sorted(group[1])))
    ),
    "large between": lambda: (
        db.from_sequence([300_000] * 6, npartitions=6).map(tasks.make).map(len)
    ),
    "large at the end": lambda: db.from_sequence(
        [300_000 + i for i in range(12)], npartitions=12
    ).map(tasks.make),
    "array": lambda: (da.ones((600, 600), chunks=300) + 1).sum(),
    "array of large blocks": lambda: da.arange(500_000, chunks=100_000).cumsum(axis=0),
    "delayed": lambda: dask.delayed(sum)(
        [dask.delayed(tasks.square)(i) for i in range(20)]
    ),
}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_results_are_as_under_sync(scheduler: AmorsizeScheduler, name: str) -> None:
    """Whatever is computed there comes out as it does here."""
    make = COLLECTIONS[name]
    expected, found = (
        make().compute(scheduler="sync"),
        make().compute(scheduler=scheduler),
    )
    if isinstance(expected, list):
        assert sorted(found, key=repr) == sorted(expected, key=repr)
    else:
        np.testing.assert_array_equal(found, expected)
    expect_on_cluster(scheduler, most_inline=200)


def test_large_values_pass_from_worker_to_worker(scheduler: AmorsizeScheduler) -> None:
    """What only tasks there need is never read here, and each is made once."""
    made = [dask.delayed(tasks.make, pure=False)(400_000 + i) for i in range(8)]
    seen = [dask.delayed(tasks.pid_and_length)(value) for value in made * 2]
    found = dask.compute(*seen, scheduler=scheduler)
    assert [length for _, length in found] == [400_000 + i for i in range(8)] * 2
    assert os.getpid() not in {process for process, _ in found}
    expect_on_cluster(scheduler, most_inline=0)


def test_both_workers_are_used(scheduler: AmorsizeScheduler) -> None:
    """Tasks that wait are shared out among the cluster's threads."""

    def where(x: int) -> int:
        tasks.nap(x, 0.05)
        return tasks.pid(x)

    assert len(set(bag(where, 12, 12).compute(scheduler=scheduler))) == 2


def test_large_literals_are_sent_once(
    client: Client, scheduler: AmorsizeScheduler
) -> None:
    """A value of the caller's that many tasks need is scattered, not embedded."""
    large = np.arange(400_000)
    wanted = [dask.delayed(np.take)(dask.delayed(large), [i]) for i in range(30)]
    found = dask.compute(*wanted, scheduler=scheduler)
    assert [int(value[0]) for value in found] == list(range(30))
    assert scheduler.last_run is not None
    (stage,) = [s for s in scheduler.last_run.stages if s.lanes.get("cluster")]
    assert stage.in_bytes < large.nbytes / 10


def test_arrays_that_come_back_are_writable(scheduler: AmorsizeScheduler) -> None:
    """Small ones, those in lists, and large ones."""
    for n in (10, 5_000, 100_000):
        (found,) = dask.compute(dask.delayed(np.zeros)(n), scheduler=scheduler)
        found += 1
        assert found.sum() == n


def test_errors_arrive_as_themselves(scheduler: AmorsizeScheduler) -> None:
    """With the frames of the worker, and a note that names task and lane."""
    with pytest.raises(KeyError, match="no 7") as caught:
        bag(tasks.fail_at, 20, 5).compute(scheduler=scheduler)
    text = "".join(traceback.format_exception(caught.value))
    assert "in fail_at" in text
    assert "in lane cluster" in text


def test_retries_are_followed(scheduler: AmorsizeScheduler, tmp_path: Path) -> None:
    """A task that raises is tried again, there."""
    marker = tmp_path / "seen"

    def fail_once(x: int) -> int:
        if x == 5 and not marker.exists():
            marker.touch()
            raise ValueError(x)
        return x

    found = bag(fail_once, 10, 5).sum().compute(scheduler=scheduler, retries=1)
    assert found == sum(range(10))


def test_warnings_go_through_the_filters_of_the_caller(
    scheduler: AmorsizeScheduler,
) -> None:
    """What a task warns of is seen here."""
    with pytest.warns(UserWarning, match="about"):
        bag(tasks.warn, 5, 5).compute(scheduler=scheduler)


def test_what_cannot_come_back_runs_in_the_caller(client: Client) -> None:
    """Where another lane may, it takes over what can't be pickled."""
    with AmorsizeScheduler(lanes=("cluster",)) as scheduler:
        (found,) = dask.compute(dask.delayed(tasks.unpicklable)(4), scheduler=scheduler)
    assert list(found) == [0, 1, 2, 3]


def test_a_worker_that_dies_costs_nothing_but_time(
    client: Client, scheduler: AmorsizeScheduler, tmp_path: Path
) -> None:
    """Dask runs again what it had; results that were on it are made again."""
    marker = str(tmp_path / "killed")
    made = [dask.delayed(tasks.make, pure=False)(200_000 + i) for i in range(4)]
    lengths = [dask.delayed(len)(value) for value in made]
    killing = [
        dask.delayed(tasks.kill_once)(i, marker, dask_key_name=f"k{i}")
        for i in range(40)
    ]
    total = dask.delayed(sum)([*lengths, *killing])
    found, *values = dask.compute(total, *made, scheduler=scheduler)
    assert Path(marker).exists()
    assert found == sum(200_000 + i for i in range(4)) + sum(range(40))
    assert [len(value) for value in values] == [200_000 + i for i in range(4)]
    expect_on_cluster(scheduler)


def test_a_task_that_kills_its_worker_is_named(client: Client) -> None:
    """It is tried alone, and then the run ends; the others may be run again."""
    keyed = [
        dask.delayed(tasks.kill_at)(i, 5, dask_key_name=f"task-{i}") for i in range(8)
    ]
    with (
        AmorsizeScheduler(lanes=("cluster",)) as scheduler,
        pytest.raises(WorkerLostError) as caught,
    ):
        dask.compute(*keyed, scheduler=scheduler)
    assert caught.value.key == "task-5"
    assert "KilledWorker" in caught.value.ending
    copied = pickle.loads(pickle.dumps(caught.value))
    assert copied.key == "task-5"
    assert copied.story == caught.value.story != ()


def test_tasks_may_compute(client: Client) -> None:
    """In a task of the cluster, nothing waits for the cluster."""
    with AmorsizeScheduler(lanes=("cluster",)) as scheduler:
        expected = sum(i * i for i in range(100))
        for total, lanes in bag(tasks.compute_inside, 0, 1).compute(
            scheduler=scheduler
        ):
            pytest.fail(f"{total} {lanes}")
        many = db.from_sequence([100] * 4, npartitions=4)
        found = many.map(tasks.compute_inside).compute(scheduler=scheduler)
        assert [total for total, _ in found] == [expected] * 4
        assert all(set(lanes) <= {"inline", "threads"} for _, lanes in found)
        forced = many.map(tasks.compute_inside_forced).compute(scheduler=scheduler)
        assert forced == [expected] * 4
        # And in a task that someone else has sent there.
        future = client.submit(tasks.compute_inside_forced, 100, pure=False)
        assert future.result() == expected


# -- streaming ------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_streams_yield_all(scheduler: AmorsizeScheduler, ordered: bool) -> None:
    """Small and large results are handed over, each once."""
    sizes = [10 + 200_000 * (i % 2) + i for i in range(20)]
    made = db.from_sequence(sizes, npartitions=20).map(tasks.make)
    found = [len(value) for value in scheduler.stream(made, ordered=ordered)]
    assert (found if ordered else sorted(found)) == (
        sizes if ordered else sorted(sizes)
    )
    expect_on_cluster(scheduler)


def test_streams_that_are_abandoned_leave_nothing(
    client: Client, scheduler: AmorsizeScheduler
) -> None:
    """What was made, and what waits to be, is forgotten there."""
    made = db.from_sequence([300_000] * 40, npartitions=40).map(tasks.make)
    stream = scheduler.stream(made)
    assert len(next(stream)) == 300_000
    stream.close()
    expect_nothing_left(client)


def test_streams_hold_the_cluster_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who doesn't take results finds no more made than there is room for."""
    n_bytes = 1_000_000
    real = connection.Connection.look

    def look_at_small_one(
        self: connection.Connection, machine: Any, **kwargs: Any
    ) -> Any:
        from dataclasses import replace

        cluster = real(self, machine, **kwargs)
        assert cluster is not None
        return replace(cluster, memory_bytes=100 * n_bytes)

    monkeypatch.setattr(connection.Connection, "look", look_at_small_one)
    with AmorsizeScheduler(lanes=("cluster",), isolate=True) as scheduler:
        made = db.from_sequence([n_bytes] * 300, npartitions=300).map(tasks.make)
        n_seen, most = 0, 0
        for value in scheduler.stream(made):
            assert len(value) == n_bytes
            n_seen += 1
            if n_seen % 50 == 1:
                time.sleep(0.05)
                held = client.run_on_scheduler(
                    lambda dask_scheduler: sum(
                        max(0, task.nbytes) for task in dask_scheduler.tasks.values()
                    )
                )
                most = max(most, held)
    assert n_seen == 300
    assert n_bytes < most <= 100 * n_bytes


# -- choosing -------------------------------------------------------------------------


def test_by_cost_the_cluster_is_one_of_the_lanes(client: Client) -> None:
    """Heavy work goes to an active client's cluster, small work stays."""
    with AmorsizeScheduler(lanes=("inline", "cluster")) as scheduler:
        heavy = db.from_sequence([150_000] * 80, npartitions=80).map(tasks.spin).sum()
        assert heavy.compute(scheduler=scheduler) == 80 * tasks.spin(150_000)
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes["cluster"].n_tasks > 20
        small = bag(tasks.square, 1000, 10).sum()
        small.compute(scheduler=scheduler)
        assert scheduler.last_run.lanes.keys() == {"inline"}


def test_an_active_client_is_found(client: Client) -> None:
    """The default lanes have the cluster while a client is active, and not after."""
    with AmorsizeScheduler() as scheduler:
        bag(tasks.square, 10, 2).compute(scheduler=scheduler)
    with AmorsizeScheduler(lanes=("processes",)) as forced:
        bag(tasks.square, 10, 2).compute(scheduler=forced)
        assert forced.last_run is not None
        assert "cluster" not in forced.last_run.lanes


def test_a_client_may_be_given(shared_client: Client) -> None:
    """It need not be the one that is active."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, **QUIET
        ) as cluster,
        Client(cluster, set_as_default=False) as other,
        AmorsizeScheduler(lanes=("cluster",), client=other) as scheduler,
    ):
        found = bag(tasks.pid, 10, 5).compute(scheduler=scheduler)
        assert set(found) == {os.getpid()}
        expect_nothing_left(other)


def test_pipelines_use_it(client: Client) -> None:
    """A stage of a pipeline may be said to run there."""
    with AmorsizeScheduler() as scheduler:
        stages = [Stage(tasks.square, lane="cluster"), Stage(tasks.square)]
        found = list(Pipeline(stages, scheduler=scheduler).run(range(50)))
        assert found == [i**4 for i in range(50)]
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes["cluster"].n_tasks >= 1


PERSISTED: dict[str, Callable[[Client], Any]] = {
    "bag": lambda client: client.persist(bag(tasks.square, 20, 4)),
    "mapped bag": lambda client: (
        client.persist(bag(tasks.square, 20, 4)).map(tasks.square).sum()
    ),
    "delayed": lambda client: dask.delayed(tasks.square)(
        client.persist(dask.delayed(tasks.square)(3))
    ),
    "array": lambda client: (client.persist(da.ones((40, 40), chunks=20)) + 1).sum(),
}

CALLED_WITH = {
    "futures": lambda client: dask.delayed(max)(
        client.map(tasks.square, range(3), pure=False)
    ),
    "a future": lambda client: dask.delayed(tasks.square)(
        client.submit(tasks.square, 3, pure=False)
    ),
}

#: In a delayed call the oldest Dask that is supported lets go of a future, and keeps
#: its key, or doesn't see it in a list.
keeps_futures = pytest.mark.skipif(
    Version(dask.__version__) < Version("2026.1"),
    reason="this Dask keeps no futures in delayed calls",
)


@pytest.mark.parametrize("lanes", [("inline",), ("processes",), ("cluster",)])
@pytest.mark.parametrize(
    "name", [*PERSISTED, *(pytest.param(n, marks=keeps_futures) for n in CALLED_WITH)]
)
def test_futures_in_a_graph_stand_for_their_values(
    client: Client, name: str, lanes: tuple[str, ...]
) -> None:
    """What was computed on a cluster before may be gone on with in any lane."""
    collection = {**PERSISTED, **CALLED_WITH}[name](client)
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        found = collection.compute(scheduler=scheduler)
        assert found == collection.compute(scheduler=client.get)
        # A callback sees the graph, too.
        with Callback(pretask=lambda key, dsk, state: None):
            assert collection.compute(scheduler=scheduler) == found


@keeps_futures
def test_a_future_that_is_lost_is_an_error(client: Client) -> None:
    """It is said what is missing; what the future's task has raised is raised."""
    future = client.submit(tasks.square, 3, pure=False)
    failed = client.submit(tasks.fail_at, 7, pure=False)
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        with pytest.raises(KeyError, match="no 7"):
            dask.delayed(tasks.square)(failed).compute(scheduler=scheduler)
        # Its state has the exception, whose traceback has this frame, which has it.
        failed.release()
        future.cancel()
        with pytest.raises(ClusterError, match="cancelled"):
            dask.delayed(tasks.square)(future).compute(scheduler=scheduler)


def test_small_recipes_go_along(
    client: Client, scheduler: AmorsizeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no worker is preferred because it has one; large ones are sent once."""
    sent = []
    submit = client.submit

    def note(function: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(function)
        return submit(function, *args, **kwargs)

    monkeypatch.setattr(client, "submit", note)
    bag(tasks.square, 20, 10).compute(scheduler=scheduler)
    assert run_far_batch in sent
    assert keep not in sent
    table = os.urandom(50_000)
    found = bag(lambda i: table[i], 20, 10).compute(scheduler=scheduler)
    assert found == list(table[:20])
    assert sent.count(keep) == 1


def test_workers_that_join_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is under way gives work to them as well."""
    monkeypatch.setattr(connection, "FRESH_S", 0.05)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, **QUIET
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        AmorsizeScheduler(lanes=("cluster",), client=client) as scheduler,
    ):
        made = bag(partial(tasks.nap, seconds=0.03), 150, 150)
        stream = scheduler.stream(made)
        found = [next(stream)]
        cluster.scale(3)
        found += stream
        assert found == list(range(150))
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes["cluster"].n_workers == 3
        expect_nothing_left(client)


def test_a_part_of_a_graph_may_be_sent(client: Client) -> None:
    """With `dask.annotate(lane="cluster")` the user says it for a layer."""
    with AmorsizeScheduler() as scheduler:
        with dask.annotate(lane="cluster"):
            first = [dask.delayed(tasks.pid)(i) for i in range(4)]
        found = dask.compute(*first, scheduler=scheduler)
        assert os.getpid() not in found
        assert scheduler.last_run is not None
        assert scheduler.last_run.lanes.keys() == {"cluster"}


# -- what can be wrong ----------------------------------------------------------------


def test_without_a_client_it_cannot_be_forced() -> None:
    """Nothing is run, and it is said what is missing."""
    code = (
        "from amorsize_dask import AmorsizeScheduler, ArgumentError\n"
        "import dask.bag as db, sys\n"
        "try: db.range(4, npartitions=2).compute("
        "scheduler=AmorsizeScheduler(lanes=('cluster',)))\n"
        "except ArgumentError as error: print(error)\n"
        "db.range(4, npartitions=2).compute(scheduler=AmorsizeScheduler())\n"
        "print('distributed' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "no distributed.Client is active" in done.stdout
    assert done.stdout.endswith("False\n")


def test_a_client_that_cannot_be_used_is_refused(client: Client) -> None:
    """Where lanes leave the cluster out, or it is no client at all."""
    with pytest.raises(ArgumentError, match="leave out 'cluster'"):
        AmorsizeScheduler(lanes=("inline",), client=client)
    with pytest.raises(ArgumentError, match=r"expected a distributed\.Client"):
        AmorsizeScheduler(client=3)


def test_a_scheduler_travels_without_its_client(client: Client) -> None:
    """In another process it uses the client that is active there."""
    with AmorsizeScheduler(client=client) as scheduler:
        copied = pickle.loads(pickle.dumps(scheduler))
        assert repr(copied) == repr(scheduler)
        copied.close()


@contextmanager
def doomed_cluster() -> Iterator[tuple[LocalCluster, Client]]:
    """Return a cluster that is going to be closed before its client is.

    Its loop is stopped here: who closes them in this order leaves it running.
    """
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster,
        Client(cluster) as client,
    ):
        loop = client.loop
        yield cluster, client
    with suppress(RuntimeError):
        loop.add_callback(loop.stop)


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "amorsize_dask":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Blocker())
"""


def test_workers_without_the_package_are_an_error_or_left_alone() -> None:
    """It is raised before anything is sent, or another lane does the work."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, preload=BLOCKER, **QUIET
        ) as cluster,
        Client(cluster) as client,
    ):
        with (
            AmorsizeScheduler(lanes=("cluster",)) as forced,
            pytest.raises(ClusterError, match="Install amorsize_dask") as caught,
        ):
            bag(tasks.square, 10, 2).compute(scheduler=forced)
        assert "No module named" in caught.value.reason
        with AmorsizeScheduler(lanes=("inline", "cluster")) as free:
            heavy = db.from_sequence([300_000] * 20, npartitions=20).map(tasks.spin)
            assert len(heavy.compute(scheduler=free)) == 20
            assert free.last_run is not None
            assert free.last_run.lanes.keys() == {"inline"}
        expect_nothing_left(client)


def test_a_cluster_that_closes_meanwhile() -> None:
    """What it had goes on in the caller; if results were left on it, it is an error."""
    with (
        doomed_cluster() as (cluster, client),
        AmorsizeScheduler(lanes=("cluster",), client=client) as scheduler,
    ):
        # The first makes sure that it has begun.
        made = db.from_sequence(range(30), npartitions=30).map(
            partial(tasks.nap, seconds=0.05)
        )
        stream = scheduler.stream(made)
        found = [next(stream)]
        cluster.close()
        found += stream
        assert found == list(range(30))
        assert scheduler.last_run is not None
        assert "inline" in scheduler.last_run.lanes


def test_a_client_that_closes_meanwhile(client: Client) -> None:
    """What it was to do goes on in the caller; no one waits for it forever."""
    with (
        Client(client.cluster) as other,
        AmorsizeScheduler(lanes=("cluster",), client=other) as scheduler,
    ):
        made = db.from_sequence(range(40), npartitions=40).map(
            partial(tasks.nap, seconds=0.05)
        )
        closing = threading.Timer(0.2, other.close)
        stream = scheduler.stream(made)
        found = [next(stream)]
        closing.start()
        found += stream
        closing.join()
        assert found == list(range(40))
        assert scheduler.last_run is not None
        assert "inline" in scheduler.last_run.lanes


def test_results_that_are_lost_with_the_cluster_are_an_error() -> None:
    """They aren't made again without anybody knowing."""
    with (
        doomed_cluster() as (cluster, client),
        AmorsizeScheduler(lanes=("cluster",), client=client) as scheduler,
    ):
        made = db.from_sequence([1_000_000] * 40, npartitions=40).map(tasks.make)
        stream = scheduler.stream(made)
        next(stream)
        # Batches that have come meanwhile are taken note of with the next results.
        time.sleep(0.5)
        for _ in range(3):
            assert len(next(stream)) == 1_000_000
        cluster.close()
        with pytest.raises(ClusterError, match="lost"):
            list(stream)
