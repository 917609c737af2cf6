"""The core with a cluster: what is sent there, in what batches, and what stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated import bag, cluster, machine, staged

from amorsize_dask.core.events import (
    BatchDone,
    ClusterGrown,
    Drop,
    GiveUp,
    Run,
    StartFailed,
    StartWorkers,
    Taken,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.placing import SENT_S
from amorsize_dask.core.scheduling import CLUSTER_FRACTION, Scheduling
from amorsize_dask.core.slicing import SLICE_BYTES
from amorsize_dask.simulate.machine import SimulatedRun, simulate
from amorsize_dask.simulate.work import Faults, SimulatedTask

CLUSTER = Limits(lanes=(Lane.CLUSTER,))
ANY = Limits(lanes=tuple(Lane))
COMPUTING = SimulatedTask(0.1)


def connected(
    n_workers: int = 4, n_threads: int = 4, n_cores: int = 2, **costs: float
) -> Machine:
    """Return a small machine that is connected to a cluster."""
    return replace(machine(n_cores), cluster=cluster(n_workers, n_threads, **costs))


def run_bag(
    n_tasks: int,
    task: SimulatedTask,
    there: Machine,
    limits: Limits = ANY,
    faults: Faults | None = None,
) -> SimulatedRun:
    """Simulate equal tasks of one stage."""
    return simulate(
        bag(n_tasks), [task] * n_tasks, there, limits, faults=faults or Faults()
    )


def test_large_work_goes_to_a_large_cluster() -> None:
    """What 64 threads elsewhere do sooner than 2 cores here is sent there."""
    run = run_bag(2000, COMPUTING, connected(64, 64))
    assert run.n_tasks[Lane.CLUSTER] > 1900
    assert run.makespan_s < 2000 * 0.1 / 64 * 1.3


def test_small_work_is_not_sent() -> None:
    """Work of a twentieth of a second stays, however large the cluster is."""
    n = 10
    run = run_bag(n, SimulatedTask(SENT_S / n), connected(64, 64, round_trip_s=1e-4))
    assert run.n_tasks[Lane.CLUSTER] == 0


def test_work_stays_where_sending_it_costs_more() -> None:
    """Results of 10 MB that take 5 ms to make aren't made where they are far away."""
    task = SimulatedTask(0.005, out_bytes=10**7)
    run = run_bag(500, task, connected(16, 16))
    assert run.n_tasks[Lane.CLUSTER] == 0


@pytest.mark.parametrize("n_threads", [1, 3, 40])
def test_each_thread_has_work(n_threads: int) -> None:
    """A forced cluster is used with all of its threads, and takes what it should."""
    run = run_bag(400, COMPUTING, connected(n_threads, n_threads), CLUSTER)
    assert run.n_tasks[Lane.CLUSTER] == 400
    assert run.n_workers[Lane.CLUSTER] == n_threads
    assert run.makespan_s < 400 * 0.1 / n_threads * 1.15 + 0.3


def test_threads_that_share_a_gil_are_not_counted_on() -> None:
    """Of 4 workers with 4 threads each, tasks that hold the GIL get 4 or 5 threads."""
    n_threads = [
        run_bag(4000, task, connected(4, 16)).decisions[-1].placement.n_workers
        for task in (COMPUTING, COMPUTING._replace(gil_fraction=0.0))
    ]
    assert n_threads[0] <= 5
    assert n_threads[1] == 16


def test_no_more_run_at_once_than_fit_into_the_workers() -> None:
    """Memory is the workers' own: two peaks in each of four, whatever is here."""
    task = SimulatedTask(0.05, gil_fraction=0.0, peak_bytes=2 * 10**9)
    there = replace(connected(4, 32), memory_bytes=10**9)
    run = run_bag(500, task, there, replace(ANY, lanes=(Lane.INLINE, Lane.CLUSTER)))
    assert run.n_tasks[Lane.CLUSTER] > 400
    assert run.decisions[-1].placement.n_most == 8


def begin(core: Scheduling) -> list[Run]:
    """Let a core start the threads that it wants; return what they are given."""
    actions = core.handle()
    (start,) = [a for a in actions if isinstance(a, StartWorkers)]
    assert start.lane is Lane.CLUSTER
    return runs_of(core.handle(*map(WorkerReady, start.workers)))


def runs_of(actions: list[object]) -> list[Run]:
    return [action for action in actions if isinstance(action, Run)]


def done(run: Run, out_bytes: int, position: int = 0) -> BatchDone:
    """Return the end of a batch whose results stay where they were made."""
    outcomes = [Outcome(t, 0.01, 0.01, out_bytes, is_away=True) for t in run.tasks]
    return BatchDone(run.worker, outcomes, position=position)


def test_batches_end_in_any_order() -> None:
    """A thread's second batch may be done before its first."""
    core = Scheduling(bag(1000), connected(1, 1), CLUSTER)
    first = begin(core)
    waiting = runs_of(core.handle(done(first[0], 10)))
    assert len(waiting) == 2
    more = runs_of(core.handle(done(waiting[1], 10, position=1)))
    core.validate()
    assert more
    core.handle(done(waiting[0], 10))
    core.validate()


def test_what_stays_there_takes_no_memory_here() -> None:
    """Results on the cluster aren't counted until a task in the caller needs them."""
    graph = staged([0, 0, 1], [(), (), (0, 1)], caller_stages=[1])
    core = Scheduling(graph, connected(2, 2), CLUSTER)
    runs = begin(core)
    assert len(runs) == 2
    core.handle(done(runs[0], 10**7))
    assert core.budget.held_bytes == 0
    core.handle(done(runs[1], 10**7))
    assert core.budget.held_bytes == 2 * 10**7


def test_batches_are_bounded_in_bytes() -> None:
    """No message has results of more bytes than the caller would make in one slice."""
    core = Scheduling(bag(1000), connected(1, 1), CLUSTER)
    (run,) = begin(core)
    for more in runs_of(core.handle(done(run, int(SLICE_BYTES / 10)))):
        assert len(more.tasks) <= 10


def test_who_streams_holds_the_cluster_back() -> None:
    """No more results are made than its workers have room for, until some are taken."""
    there = connected(2, 2)
    assert there.cluster is not None
    most_bytes = there.cluster.memory_bytes * CLUSTER_FRACTION
    out_bytes = int(most_bytes / 10)
    core = Scheduling(bag(100), there, CLUSTER, is_streamed=True)
    runs, n_finished = begin(core), 0
    while runs and n_finished < 50:
        run = runs.pop(0)
        n_finished += len(run.tasks)
        runs += runs_of(core.handle(done(run, out_bytes)))
        # One goes on when all others have ended.
        n_in_flight = sum(len(run.tasks) for run in runs)
        assert n_finished + n_in_flight <= 8 or n_in_flight == 1
        if n_finished > 8:
            break
    actions = core.handle(Taken(range(4)))
    assert any(isinstance(action, Drop) for action in actions)
    assert sum(len(run.tasks) for run in runs_of(actions)) in (2, 3)
    core.validate()


def test_threads_that_come_get_work() -> None:
    """A cluster that grows during a run is used with all that it has."""
    core = Scheduling(bag(1000), connected(1, 1), CLUSTER)
    (run,) = begin(core)
    core.handle(done(run, 10))
    core.validate()
    grown = ClusterGrown(cluster(4, 4))
    actions = core.handle(grown)
    (start,) = [a for a in actions if isinstance(a, StartWorkers)]
    assert start.lane is Lane.CLUSTER
    assert len(start.workers) == 3
    runs = runs_of(core.handle(*map(WorkerReady, start.workers)))
    assert {run.worker for run in runs} >= set(start.workers)
    assert core.machine.cluster == grown.cluster
    core.validate()


def test_a_batch_that_killed_several_workers_is_tried_task_by_task() -> None:
    """Each of its tasks runs alone, and the one that kills again ends the run."""
    core = Scheduling(bag(4), connected(1, 1), CLUSTER)
    (first,) = begin(core)
    batches = runs_of(core.handle(done(first, 10)))
    (batch, *_) = batches
    lost = WorkerLost(batch.worker, "KilledWorker", position=0, n_lost=4)
    actions = core.handle(lost)
    for _ in range(10):
        starts = [a for a in actions if isinstance(a, StartWorkers)]
        if starts:
            actions = core.handle(*map(WorkerReady, starts[0].workers))
        gave_up = [a for a in actions if isinstance(a, GiveUp)]
        if gave_up:
            assert gave_up[0].task == batch.tasks[-1]
            assert gave_up[0].kind == "lost"
            return
        (run,) = runs_of(actions)
        assert len(run.tasks) == 1
        if run.tasks[0] == batch.tasks[-1]:
            lost = WorkerLost(run.worker, "KilledWorker", position=0, n_lost=4)
            actions = core.handle(lost)
        else:
            actions = core.handle(done(run, 10))
    pytest.fail("nothing was given up")


def test_a_cluster_that_closes_is_no_ones_fault() -> None:
    """Its tasks go on in another lane, in the caller as well."""
    core = Scheduling(bag(100), connected(2, 2), CLUSTER)
    runs = begin(core)
    losses = [
        WorkerLost(run.worker, "the cluster is closed", position=-1) for run in runs
    ]
    actions = core.handle(*losses, StartFailed(Lane.CLUSTER, (), "it is closed"))
    assert {run.worker for run in runs_of(actions)} <= {0, 1}
    assert runs_of(actions)
    core.validate()


def test_a_cluster_that_is_not_there_is_not_chosen() -> None:
    """Where there is none, the lane is as if it weren't allowed."""
    run = run_bag(500, COMPUTING, machine(4))
    assert run.n_tasks[Lane.CLUSTER] == 0


@pytest.mark.parametrize(("n_threads", "lane"), [(2, Lane.CLUSTER), (4, Lane.INLINE)])
def test_stages_that_seed_avoid_workers_with_threads(
    n_threads: int, lane: Lane
) -> None:
    """No two tasks that seed global random numbers are in one process at once."""
    limits = Limits(lanes=(Lane.INLINE, Lane.CLUSTER))
    core = Scheduling(
        bag(100), connected(2, n_threads), limits, lone_stages=frozenset([0])
    )
    (run,) = runs_of(core.handle())
    core.handle(BatchDone(run.worker, [Outcome(t, 1.0, 1.0, 10) for t in run.tasks]))
    assert core.decisions[-1].placement.lane is lane
