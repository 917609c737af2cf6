"""What the core decides: which lane, how many workers, and what when things fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from statistics import fmean, pstdev
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import bag, machine, staged

from amorsize_dask.core.caller import OVERTIME_S
from amorsize_dask.core.events import (
    CALLER,
    SIDE,
    Action,
    Added,
    Away,
    BatchDone,
    Drop,
    Event,
    GiveUp,
    Glimpse,
    Immovable,
    Run,
    Spill,
    StartFailed,
    StartWorkers,
    Taken,
    Unshippable,
    WorkerLost,
    WorkerReady,
)
from amorsize_dask.core.experience import Experience, Sampled
from amorsize_dask.core.fitting import Fitting
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.core.slicing import SLICE_BYTES, SLICE_GROWTH, TRUST_S
from amorsize_dask.core.workers import MOST_DEPTH
from amorsize_dask.simulate.machine import SimulatedRun, simulate
from amorsize_dask.simulate.work import Faults, SimulatedPartition, SimulatedTask

T = TypeVar("T")

INLINE, THREADS, PROCESSES, CLUSTER = Lane
PROCESSES_ONLY = Limits(lanes=(PROCESSES,))

# Kinds of tasks, by the seconds of one.
COMPUTING = SimulatedTask(0.1)
GIL_FREE = SimulatedTask(0.1, gil_fraction=0.02)
WAITING = SimulatedTask(0.02, cpu_fraction=0.01, gil_fraction=0.01)


def run_bag(
    n_tasks: int, task: SimulatedTask, n_cores: int = 4, limits: Limits | None = None
) -> SimulatedRun:
    """Simulate equal tasks of one stage."""
    return simulate(
        bag(n_tasks), [task] * n_tasks, machine(n_cores), limits or Limits()
    )


def only(kind: type[T], actions: Sequence[Action]) -> list[T]:
    """Return the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def done(
    worker: int, tasks: Sequence[int], seconds: float = 0.1, **fields: object
) -> BatchDone:
    """Return the end of a batch of tasks that compute and hold the GIL."""
    outcomes = [Outcome(task, seconds, seconds, 100) for task in tasks]
    if worker == SIDE:
        fields.setdefault("gil_fraction", 1.0)
    return BatchDone(worker, outcomes, **fields)  # type: ignore[arg-type]


# -- lanes and workers ----------------------------------------------------------------


@pytest.mark.parametrize("n_cores", [2, 4, 64])
def test_short_work_starts_nothing(n_cores: int) -> None:
    """Ten tasks of 1 ms are done before any worker would be up."""
    run = run_bag(10, SimulatedTask(0.001), n_cores)
    assert run.n_tasks[INLINE] == 10
    assert not any(run.n_workers.values())


@pytest.mark.parametrize(
    ("name", "n_tasks", "task", "n_cores", "lane", "n_workers"),
    [
        ("long, holding the GIL", 400, COMPUTING, 2, PROCESSES, 2),
        ("long, holding the GIL", 400, COMPUTING, 4, PROCESSES, 4),
        ("long, holding the GIL", 4000, COMPUTING, 16, PROCESSES, 16),
        ("without the GIL", 400, GIL_FREE, 2, THREADS, 2),
        ("without the GIL", 400, GIL_FREE, 4, THREADS, 4),
        ("without the GIL", 4000, GIL_FREE, 16, THREADS, 16),
        ("few short", 100, SimulatedTask(0.0005), 4, INLINE, 0),
        ("large results", 100, SimulatedTask(0.02, out_bytes=10**8), 4, INLINE, 0),
        ("hard to pickle", 100, SimulatedTask(0.02, pack_s=0.05), 4, INLINE, 0),
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else "",
)
def test_lane_fits_the_work(
    name: str,
    n_tasks: int,
    task: SimulatedTask,
    n_cores: int,
    lane: Lane,
    n_workers: int,
) -> None:
    """Waiting or computing, with the GIL or without: each has its lane."""
    run = run_bag(n_tasks, task, n_cores)
    assert run.decisions[-1].placement.lane is lane, name
    assert run.n_workers[lane] == n_workers
    assert not any(n for other, n in run.n_workers.items() if other is not lane)
    assert run.n_tasks[lane] > 0.8 * n_tasks


@pytest.mark.parametrize("n_cores", [1, 2, 16])
def test_waiting_tasks_get_many_threads(n_cores: int) -> None:
    """200 tasks that wait 20 ms are all but one round, however few cores there are."""
    run = run_bag(200, WAITING, n_cores)
    assert run.n_workers[THREADS] >= 60
    assert run.makespan_s < 200 * 0.02 / 2 / 8


@pytest.mark.parametrize("limits", [Limits(), Limits(lanes=(INLINE,))])
def test_lone_task_runs_on_the_caller(limits: Limits) -> None:
    """A task that is all there is to do needs no other thread."""
    core = Scheduling(bag(1), machine(), limits)
    assert core.handle() == [Run(CALLER, [0])]
    assert core.handle(done(CALLER, [0])) == []
    assert core.is_finished


def test_chain_runs_on_the_caller() -> None:
    """Where each task waits for the one before, none is handed to another thread."""
    core = Scheduling(staged([0, 1, 2], [(), (0,), (1,)]), machine(), Limits())
    assert core.handle() == [Run(CALLER, [0])]
    assert core.handle(done(CALLER, [0])) == [Run(CALLER, [1])]
    assert core.handle(done(CALLER, [1])) == [Drop([0]), Run(CALLER, [2])]


@pytest.mark.parametrize("lane", [INLINE, THREADS, PROCESSES])
@pytest.mark.parametrize("task", [COMPUTING, GIL_FREE, WAITING])
def test_forced_lane_is_used(lane: Lane, task: SimulatedTask) -> None:
    """With one lane allowed, all tasks run in it."""
    run = run_bag(50, task, limits=Limits(lanes=(lane,)))
    assert run.n_tasks == {**dict.fromkeys(Lane, 0), lane: 50}
    assert {decision.placement.lane for decision in run.decisions} == {lane}


def test_bookkeeping_stays_in_the_caller() -> None:
    """Stages that belong into the caller run there in any lane."""
    graph = staged([0, 0, 1], [(), (), (0, 1)], caller_stages=[1])
    limits = Limits(lanes=(PROCESSES,), isolate=True)
    run = simulate(graph, [COMPUTING] * 3, machine(), limits)
    assert run.n_tasks == {INLINE: 1, THREADS: 0, PROCESSES: 2, CLUSTER: 0}


@pytest.mark.parametrize("lanes", [tuple(Lane), (THREADS,), (PROCESSES,)])
@pytest.mark.parametrize("task", [COMPUTING, GIL_FREE, WAITING])
@pytest.mark.parametrize("most", [1, 3])
def test_max_workers_is_honoured(
    lanes: tuple[Lane, ...], task: SimulatedTask, most: int
) -> None:
    """No lane ever has more workers than were allowed."""
    run = run_bag(300, task, 16, Limits(lanes=lanes, max_workers=most))
    assert max(run.n_workers.values()) <= most


@pytest.mark.parametrize("lane", [THREADS, PROCESSES])
def test_memory_limits_tasks_at_once(lane: Lane) -> None:
    """Once the peak of a task is known, no more run than fit."""
    task = SimulatedTask(0.02, gil_fraction=0.0, peak_bytes=10**9)
    budget = 4_000_000_000
    limits = Limits(lanes=(INLINE, lane), memory_limit_bytes=budget)
    run = run_bag(1000, task, 16, limits)
    assert 3 * 10**9 <= run.peak_bytes <= budget


def test_stage_of_few_workers_takes_no_more_in_a_large_lane() -> None:
    """A stage that computes gets no more threads than cores, though there are more."""
    n = 300
    tasks = [WAITING, GIL_FREE._replace(seconds=0.02)] * n
    run = simulate(staged([0, 1] * n), tasks, machine(4))
    placements = {d.stage: d.placement for d in run.decisions}
    assert placements[0].n_most > 100
    assert placements[1].n_most == 4


def test_decisions_say_why() -> None:
    """A decision has its numbers and a reason for people."""
    run = run_bag(400, COMPUTING)
    decision = run.decisions[-1]
    assert decision.workload is not None
    assert decision.workload.mean_s == pytest.approx(0.1)
    assert "that compute holding the GIL" in decision.placement.reason
    assert "against inline" in decision.placement.reason


# -- work first -----------------------------------------------------------------------


def boot_scene(n_tasks: int = 1000) -> tuple[Scheduling, tuple[int, ...], list[int]]:
    """Return a core whose workers boot, their numbers, and what `SIDE` has."""
    core = Scheduling(bag(n_tasks), machine(2), Limits())
    assert core.handle() == [Run(SIDE, [0], watched=True)]
    actions = core.handle(done(SIDE, [0]))
    (start,) = only(StartWorkers, actions)
    (run,) = only(Run, actions)
    assert start.lane is PROCESSES
    assert run.worker == SIDE
    return core, start.workers, run.tasks


def test_caller_works_while_workers_boot() -> None:
    """The side thread goes on with slices until the workers are up, then it stops."""
    core, workers, tasks = boot_scene()
    assert len(workers) == 2
    for _ in range(3):
        (run,) = core.handle(done(SIDE, tasks))
        assert isinstance(run, Run)
        assert run.worker == SIDE
        tasks = run.tasks
    actions = core.handle(*map(WorkerReady, workers))
    assert {run.worker for run in only(Run, actions)} == set(workers)
    assert core.handle(done(SIDE, tasks)) == []
    core.validate()


def test_worker_that_is_up_first_gets_work_at_once() -> None:
    """No worker waits for the others to boot, and the caller goes on meanwhile."""
    core, workers, tasks = boot_scene()
    runs = only(Run, core.handle(WorkerReady(workers[1])))
    assert {run.worker for run in runs} == {workers[1]}
    runs = only(Run, core.handle(done(SIDE, tasks)))
    assert {run.worker for run in runs} == {SIDE}


def test_long_first_task_does_not_hold_the_others_back() -> None:
    """A glimpse of the first task is enough to start workers."""
    core = Scheduling(bag(100), machine(4), Limits())
    core.handle()
    n_started = 0
    for seconds in (0.03, 0.06, 0.12):
        actions = core.handle(Glimpse(seconds, 1.0, 1.0))
        n_started += sum(len(start.workers) for start in only(StartWorkers, actions))
    assert n_started == 4
    assert core.decisions[0].placement.predicted is None
    assert core.decisions[0].placement.reason.startswith("at a first look")


def test_stages_behind_a_long_task_are_placed_like_it() -> None:
    """What would wait to be sampled is tried in the lane of what is in the way."""
    core = Scheduling(staged(range(10)), machine(2), Limits())
    assert core.handle() == [Run(SIDE, [0], watched=True)]
    for seconds in (0.03, 0.06, 0.12, 0.24, 0.48):
        starts = only(StartWorkers, core.handle(Glimpse(seconds, 1.0, 1.0)))
        if starts:
            break
    runs = only(Run, core.handle(*map(WorkerReady, starts[0].workers)))
    assert [run.tasks for run in runs] == [[1], [2]]
    # One task of each is enough to know better.
    core.handle(done(runs[0].worker, [1]))
    core.validate()


def test_warm_workers_are_taken_for_less() -> None:
    """Work that isn't worth a boot is worth workers that are up."""
    tasks = [SimulatedTask(0.005)] * 20
    cold = simulate(bag(20), tasks, machine(2))
    warm = simulate(bag(20), tasks, machine(2), n_warm=2)
    assert not cold.n_workers[PROCESSES]
    assert warm.n_workers[PROCESSES] == 2
    assert warm.makespan_s < cold.makespan_s


# -- batches --------------------------------------------------------------------------


def test_large_results_limit_slices() -> None:
    """The caller makes no more results at once than a slice may hold."""
    core = Scheduling(bag(1000), machine(1), Limits(lanes=(INLINE,)))
    (run,) = only(Run, core.handle())
    out_bytes = int(SLICE_BYTES / 2)
    outcomes = [Outcome(task, 1e-6, 1e-6, out_bytes) for task in run.tasks]
    (run,) = only(Run, core.handle(BatchDone(CALLER, outcomes)))
    assert len(run.tasks) == 2


@pytest.mark.parametrize(
    ("is_streamed", "worker", "most_s"),
    [(False, CALLER, OVERTIME_S), (True, SIDE, None)],
)
def test_alone_the_calling_thread_does_slices(
    is_streamed: bool, worker: int, most_s: float | None
) -> None:
    """No one needs it meanwhile, but whoever takes the results of a stream."""
    recalled = {0: seen(0.002, 150, out_bytes=2e9)}
    core = Scheduling(
        bag(150), machine(2), Limits(), is_streamed=is_streamed, recalled=recalled
    )
    runs = only(Run, core.handle())
    assert [run.worker for run in runs] == [SIDE]
    while runs[-1].watched or len(runs[-1].tasks) == 1:
        runs = only(Run, core.handle(done(runs[-1].worker, runs[-1].tasks, 0.002)))
    assert (runs[-1].worker, runs[-1].most_s) == (worker, most_s)


def test_the_rest_of_a_slice_that_takes_too_long_is_looked_at_anew() -> None:
    """Tasks that weren't begun in time are ready again, and may go elsewhere."""
    recalled = {0: seen(0.002, 150, out_bytes=2e9)}
    core = Scheduling(bag(150), machine(2), Limits(), recalled=recalled)
    runs = only(Run, core.handle())
    while runs[-1].worker != CALLER:
        runs = only(Run, core.handle(done(runs[-1].worker, runs[-1].tasks, 0.002)))
    batch = runs[-1].tasks
    assert len(batch) > 1
    event = done(CALLER, batch[:1], 10.0, is_partial=True)
    (run,) = only(Run, core.handle(event))
    assert run.tasks[0] == batch[1]
    assert run.worker == SIDE  # it may take long, too


def test_slices_grow_with_what_has_finished() -> None:
    """A first task that is short doesn't speak for hundreds of others."""
    core = Scheduling(bag(1000), machine(1), Limits(lanes=(INLINE,)))
    (run,) = only(Run, core.handle())
    sizes = []
    while not core.is_finished:
        sizes.append(len(run.tasks))
        events = done(CALLER, run.tasks, 1e-4)
        run = next(iter(only(Run, core.handle(events))), run)
    most = accumulate(sizes, initial=0)
    assert sizes[0] == 1
    assert all(
        n <= max(SLICE_GROWTH * known, round(TRUST_S / 1e-4))
        for n, known in zip(sizes, most, strict=False)
    )
    assert len(sizes) < 20


@pytest.mark.parametrize("is_known", [False, True])
def test_items_that_grow_are_shared_out(is_known: bool) -> None:
    """Data that is sorted by size, smallest first, isn't all done by the caller."""
    tasks = [SimulatedTask(5e-5 * i) for i in range(1, 401)]
    recalled = {0: seen(0.01, 400)} if is_known else {}
    run = simulate(bag(400), tasks, machine(4), recalled=recalled)
    total_s = sum(task.seconds for task in tasks)
    assert run.makespan_s < total_s / 4 + 2 * 4 * machine().costs.boot_first_s


@pytest.mark.parametrize("size", [3, 11, 21])
@pytest.mark.parametrize("gil_fraction", [0.02, 1.0])
def test_sorted_data_that_is_known_is_shared_out(
    size: int, gil_fraction: float
) -> None:
    """The first partitions, which are far shorter, don't make it stay in the caller."""
    items = [
        SimulatedTask(2e-5 * 1.02**i, gil_fraction=gil_fraction) for i in range(336)
    ]
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    graph = replace(
        bag(len(parts)),
        n_stages=2,
        caller_stages=frozenset({1}),
        n_items=[len(part) for part in parts],
        rest_stage=1,
    )
    each_s = [item.seconds for item in items]
    known = replace(
        seen(fmean(each_s), len(items)), std_s=pstdev(each_s), gil_fraction=gil_fraction
    )
    run = simulate(
        graph,
        list(map(SimulatedPartition, parts)),
        machine(2),
        recalled={0: known},
        n_warm=2,
    )
    assert run.makespan_s < 0.62 * sum(each_s)


def test_tasks_of_unknown_length_come_one_at_a_time() -> None:
    """Nothing is known of the first task, so it is alone in its batch."""
    for lane in Lane:
        core = Scheduling(bag(50), machine(1), Limits(lanes=(lane,)))
        actions = core.handle()
        starts = only(StartWorkers, actions)
        if starts:
            actions = core.handle(*map(WorkerReady, starts[0].workers))
        assert [run.tasks for run in only(Run, actions)] == [[0]]


@pytest.mark.parametrize(("seconds", "depth"), [(0.001, 2), (1.0, 1)])
def test_only_short_batches_wait_behind_others(seconds: float, depth: int) -> None:
    """A batch waits behind another of its worker only if that is done soon."""
    core = Scheduling(bag(1000), machine(2), PROCESSES_ONLY)
    (start,) = only(StartWorkers, core.handle())
    first, second = start.workers
    core.handle(WorkerReady(first), WorkerReady(second))
    runs = only(Run, core.handle(done(first, [0], seconds)))
    assert sum(run.worker == first for run in runs) == depth


# -- when things fail -----------------------------------------------------------------


def test_unpicklable_stage_moves_to_the_caller() -> None:
    """A task that can't be sent moves its stage, and the decision says why."""
    faults = Faults(unshippable_tasks=frozenset({50}))
    run = simulate(bag(100), [COMPUTING] * 100, machine(), faults=faults)
    assert run.gave_up is None
    placement = run.decisions[-1].placement
    assert placement.lane is not PROCESSES
    assert "it is marked so" in placement.reason


def start_two(limits: Limits = PROCESSES_ONLY) -> tuple[Scheduling, int, int]:
    """Return a core with two processes up, and their numbers."""
    core = Scheduling(bag(20), machine(2), limits)
    (start,) = only(StartWorkers, core.handle())
    first, second = start.workers
    runs = only(Run, core.handle(WorkerReady(first), WorkerReady(second)))
    assert [(run.worker, run.tasks) for run in runs] == [(first, [0]), (second, [1])]
    return core, first, second


def test_batch_that_was_not_sent_is_found_among_two() -> None:
    """Of a worker's two batches, the one that couldn't be sent is taken back."""
    core, first, second = start_two(Limits(lanes=(PROCESSES,), max_batch_size=1))
    runs = only(Run, core.handle(done(first, [0], 0.001), done(second, [1], 0.001)))
    mine = [run.tasks for run in runs if run.worker == first]
    assert len(mine) == 2
    core.handle(Unshippable(first, mine[0], "task", "no"))
    core.validate()
    # The other one was sent, and is answered.
    core.handle(done(first, mine[1], 0.001))
    core.validate()


def test_result_that_cannot_be_sent_is_made_in_the_caller() -> None:
    """Only the task whose result got stuck runs again, in the caller."""
    core, first, _ = start_two()
    actions = core.handle(Unshippable(first, [0], "result", "no"), done(first, []))
    assert only(Run, actions)[-1] == Run(CALLER, [0])


def test_result_that_cannot_be_pickled_keeps_its_stage_here() -> None:
    """A sampled result that can't be pickled rules processes out."""
    core = Scheduling(bag(1000), machine(4), Limits())
    core.handle()
    core.handle(Immovable(0, "can't be pickled"), done(SIDE, [0]))
    (decision,) = core.decisions
    assert decision.placement.lane is not PROCESSES
    assert "can't be pickled" in decision.placement.reason


def test_three_losses_give_up() -> None:
    """A task whose workers die three times ends the run, with how they died."""
    core, first, _ = start_two()
    for n_attempts in (1, 2, 3):
        actions = core.handle(WorkerLost(first, "SIGSEGV"))
        if n_attempts < 3:
            (start,) = only(StartWorkers, actions)
            (first,) = start.workers
            runs = only(Run, core.handle(WorkerReady(first)))
            assert [run.tasks for run in runs] == [[0]]
    assert only(GiveUp, actions) == [GiveUp(0, "lost", "SIGSEGV", 3)]


def test_losses_in_company_do_not_count() -> None:
    """It may have been any of them, so each has three tries of its own after that."""
    core = Scheduling(bag(1000), machine(1), PROCESSES_ONLY)
    (start,) = only(StartWorkers, core.handle())
    (worker,) = start.workers
    (first,) = only(Run, core.handle(WorkerReady(worker)))
    (batch,) = only(Run, core.handle(done(worker, first.tasks, 1e-4)))[:1]
    assert len(batch.tasks) > 1
    for n_losses in (1, 2, 3, 4):
        actions = core.handle(WorkerLost(worker, "SIGSEGV"))
        if n_losses < 4:
            (start,) = only(StartWorkers, actions)
            (worker,) = start.workers
            runs = only(Run, core.handle(WorkerReady(worker)))
            assert runs[0].tasks == batch.tasks[:1]
    assert only(GiveUp, actions) == [GiveUp(batch.tasks[0], "lost", "SIGSEGV", 4)]


def test_batch_that_waited_is_not_blamed() -> None:
    """Only the running batch of a worker that dies may have killed it."""
    core, first, second = start_two(Limits(lanes=(PROCESSES,), max_batch_size=1))
    runs = only(Run, core.handle(done(first, [0], 0.001), done(second, [1], 0.001)))
    running, waiting = (run.tasks for run in runs if run.worker == first)
    core.handle(WorkerLost(first, "SIGKILL"))
    assert set(core.stages[0].suspects) == set(running)
    assert not set(waiting) & set(core.stages[0].suspects)


def test_suspect_goes_alone_and_never_to_the_caller() -> None:
    """A task that may have killed its worker takes no other one with it."""
    core, workers, tasks = boot_scene()
    core.handle(*map(WorkerReady, workers), done(SIDE, tasks))
    victims = core.stages[0].suspects
    actions = core.handle(WorkerLost(workers[0], "SIGKILL"))
    assert victims
    # The caller would help while a worker boots, but not with this stage.
    assert not [run for run in only(Run, actions) if run.worker <= SIDE]
    (start,) = only(StartWorkers, actions)
    runs = only(Run, core.handle(WorkerReady(start.workers[0])))
    assert runs[0].tasks == [min(victims)]
    core.validate()


def test_suspect_without_processes_gives_up() -> None:
    """Rather than run in the caller what may kill it, the run ends."""
    core, workers, tasks = boot_scene()
    core.handle(*map(WorkerReady, workers), done(SIDE, tasks))
    first, second = workers
    (start,) = only(StartWorkers, core.handle(WorkerLost(first, "SIGSEGV")))
    (again,) = only(StartWorkers, core.handle(WorkerLost(second, "SIGSEGV")))
    core.handle(StartFailed(PROCESSES, start.workers, "no memory"))
    actions = core.handle(StartFailed(PROCESSES, again.workers, "no memory"))
    (give_up,) = only(GiveUp, actions)
    assert (give_up.kind, give_up.reason, give_up.n_attempts) == ("lost", "SIGSEGV", 1)


def test_failed_start_closes_the_lane() -> None:
    """Where no process can be started, the caller does the work and says why."""
    core, workers, tasks = boot_scene()
    core.handle(StartFailed(PROCESSES, workers, "no memory"))
    core.handle(done(SIDE, tasks))
    placement = core.decisions[-1].placement
    assert placement.lane is not PROCESSES
    assert "no memory" in placement.reason


def test_workers_that_are_up_survive_a_failed_start() -> None:
    """That no more can be started is no reason to leave those that are up."""
    core = Scheduling(bag(20), machine(4), Limits(lanes=(PROCESSES,), isolate=True))
    (start,) = only(StartWorkers, core.handle())
    first, *others = start.workers
    failure = StartFailed(PROCESSES, tuple(others), "no memory")
    runs = only(Run, core.handle(WorkerReady(first), failure))
    while runs:
        run = runs.pop(0)
        assert run.worker == first
        actions = core.handle(done(first, run.tasks))
        assert not only(StartWorkers, actions)
        runs += only(Run, actions)
    assert core.is_finished


def test_no_lane_left_gives_up() -> None:
    """Where tasks must not run in the caller and nothing else works, the run ends."""
    core = Scheduling(bag(20), machine(2), Limits(isolate=True))
    (start,) = only(StartWorkers, core.handle())
    actions = core.handle(StartFailed(PROCESSES, start.workers, "no memory"))
    assert only(GiveUp, actions) == [GiveUp(0, "lane", "no memory", 0)]


def test_unshippable_task_gives_up_if_isolated() -> None:
    """Where tasks must not run in the caller, one that can't be sent ends the run."""
    core, first, _ = start_two(Limits(isolate=True))
    actions = core.handle(Unshippable(first, [0], "task", "no pickle"))
    assert only(GiveUp, actions) == [GiveUp(0, "immovable", "no pickle", 0)]


@pytest.mark.parametrize("isolate", [False, True])
def test_workers_that_die_at_boot_close_the_lane(isolate: bool) -> None:
    """Three deaths at boot and no worker up: processes don't work here."""
    limits = Limits(lanes=(PROCESSES,), isolate=isolate)
    core = Scheduling(bag(20), machine(1), limits)
    actions = core.handle()
    for _ in range(3):
        (start,) = only(StartWorkers, actions)
        actions = core.handle(WorkerLost(start.workers[0], "exit code 1"))
    if isolate:
        reason = "workers end at boot by exit code 1"
        assert only(GiveUp, actions) == [GiveUp(0, "lane", reason, 0)]
    else:
        assert [run.worker for run in only(Run, actions)] == [CALLER]


def test_values_live_as_long_as_they_are_needed() -> None:
    """A value is dropped after its last use, a wanted one never."""
    core = Scheduling(
        staged([0, 0, 0], [(), (0,), (0, 1)]), machine(), Limits(lanes=(INLINE,))
    )
    dropped = []
    actions = core.handle()
    while not core.is_finished:
        (run,) = only(Run, actions)
        actions = core.handle(done(CALLER, run.tasks))
        dropped.append([drop.tasks for drop in only(Drop, actions)])
    assert dropped == [[], [], [[0, 1]]]


# -- earlier runs ---------------------------------------------------------------------


def seen(mean_s: float, n_items: int, **fields: float) -> Experience:
    """Return what earlier runs have shown of tasks that hold the GIL."""
    return Experience(
        n_items=n_items,
        mean_s=mean_s,
        std_s=0.0,
        cpu_fraction=1.0,
        gil_fraction=1.0,
        **fields,
    )


def test_little_work_that_is_known_stays_on_the_caller() -> None:
    """After one task that is as it was, all the others at once."""
    core = Scheduling(bag(10), machine(), Limits(), recalled={0: seen(1e-3, 10)})
    assert core.handle() == [Run(CALLER, [0])]
    assert core.handle(done(CALLER, [0], 1e-3)) == [Run(CALLER, list(range(1, 10)))]


def test_more_than_was_known_is_no_longer_little() -> None:
    """The first task runs where the caller can see that it takes long."""
    core = Scheduling(bag(11), machine(), Limits(), recalled={0: seen(1e-3, 10)})
    (run,) = only(Run, core.handle())
    assert run.worker == SIDE


def test_work_that_is_known_boots_workers_at_once() -> None:
    """Before a task has run; the side thread begins with one task."""
    core = Scheduling(bag(400), machine(4), Limits(), recalled={0: seen(0.1, 9)})
    actions = core.handle()
    (start,) = only(StartWorkers, actions)
    assert (start.lane, len(start.workers)) == (PROCESSES, 4)
    assert [len(run.tasks) for run in only(Run, actions)] == [1]
    assert "by earlier runs" in core.decisions[0].placement.reason


@pytest.mark.parametrize("mean_s", [1e-6, 1e-3, 0.1, 10.0])
def test_wrong_knowledge_costs_little(mean_s: float) -> None:
    """Whatever was known, the run is at most a few tasks longer."""
    tasks, graph = [COMPUTING] * 100, bag(100)
    usual = simulate(graph, tasks, machine(4))
    misled = simulate(graph, tasks, machine(4), recalled={0: seen(mean_s, 100)})
    assert misled.makespan_s < usual.makespan_s + 2 * COMPUTING.seconds


@pytest.mark.parametrize("waits", [False, True])
def test_results_may_be_larger_than_those_of_earlier_runs(waits: bool) -> None:
    """Until one is there, no more are made at a time than there are cores."""
    limits = Limits(lanes=(THREADS,), memory_limit_bytes=10**9)
    known = seen(1e-4, 100, out_bytes=10.0)
    if waits:
        known = replace(known, mean_s=0.02, cpu_fraction=0.0, gil_fraction=0.0)
    core = Scheduling(bag(1000), machine(4), limits, recalled={0: known})
    actions = core.handle()
    events: list[Event] = [
        WorkerReady(worker)
        for start in only(StartWorkers, actions)
        for worker in start.workers
    ]
    given = only(Run, actions)
    given += only(Run, core.handle(*events))
    assert 1 <= len(given) <= 4
    assert all(len(run.tasks) == 1 for run in given)


def test_results_are_as_large_as_those_of_a_sample() -> None:
    """What was sampled of the run itself needn't be waited for."""
    seen_before = seen(0.02, 100, out_bytes=10.0)
    seen_before = replace(seen_before, cpu_fraction=0.0, gil_fraction=0.0)
    known = Sampled(**asdict(seen_before))
    n_running = 0
    for recalled in (seen_before, known):
        core = Scheduling(bag(100), machine(4), Limits(), recalled={0: recalled})
        events: list[Event] = []
        given = []
        for _ in range(10):
            actions = core.handle(*events)
            given += only(Run, actions)
            events = [
                WorkerReady(worker)
                for start in only(StartWorkers, actions)
                for worker in start.workers
            ]
        assert len(given) > 10 * n_running
        n_running = len(given)


def test_memory_of_earlier_runs_refuses_nothing() -> None:
    """Their tasks may have been larger; those of this one are measured."""
    limits = Limits(memory_limit_bytes=10**6)
    known = seen(0.1, 100, peak_bytes=1e9, out_bytes=1e9)
    run = simulate(bag(20), [COMPUTING] * 20, machine(4), limits, recalled={0: known})
    assert run.gave_up is None


def test_what_workers_would_have_saved() -> None:
    """Nothing where they wouldn't have been used; else what their boot prevented."""

    def regret_s(task: SimulatedTask, n_tasks: int) -> float:
        core = Scheduling(bag(n_tasks), machine(4), Limits())
        events: list[Event] = []
        while not core.is_finished:
            events = [
                done(run.worker, run.tasks, task.seconds)
                for run in only(Run, core.handle(*events))
            ]
        return core.regret_s()

    assert regret_s(SimulatedTask(1e-4), 100) == 0
    assert 0.05 < regret_s(SimulatedTask(2e-3), 60) < 0.15


# -- when memory runs out -------------------------------------------------------------

MB = 10**6


def test_workers_that_memory_ends_run_fewer_at_once() -> None:
    """Half as many of the stage go on, at least one, and the record says so."""
    core, first, second = start_two()
    actions = core.handle(WorkerLost(first, "SIGKILL", is_memory_likely=True))
    # The other one is still busy, so no other is started in the place of the lost one.
    assert not only(Run, actions)
    assert not only(StartWorkers, actions)
    assert "no more than 1 at once" in core.decisions[-1].placement.reason
    runs = only(Run, core.handle(done(second, [1])))
    assert {run.worker for run in runs} == {second}
    assert runs[0].tasks == [0]
    core.validate()


def test_what_was_last_known_of_a_worker_is_what_a_task_needs() -> None:
    """No more are started than have room by that, but none is refused for it."""
    limits = Limits(lanes=(PROCESSES,), memory_limit_bytes=1000 * MB)
    core = Scheduling(bag(100), machine(8), limits)
    (start,) = only(StartWorkers, core.handle())
    core.handle(*map(WorkerReady, start.workers))
    lost = WorkerLost(start.workers[0], "SIGKILL", True, 2000 * MB)
    actions = core.handle(
        lost, *(done(number, [i]) for i, number in enumerate(start.workers[1:], 1))
    )
    assert not only(GiveUp, actions)
    assert core.stages[0].workload().peak_bytes == 2000 * MB
    runs = only(Run, actions)
    assert [run.tasks for run in runs] == [[0]]


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=30),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4, 16]),
)
def test_what_fits_alone_is_finished(
    sizes: list[int], n_stages: int, n_cores: int
) -> None:
    """However many are killed at first, as long as each task fits by itself."""
    graph = staged([i % n_stages for i in range(len(sizes))])
    tasks = [SimulatedTask(0.1, peak_bytes=size * MB) for size in sizes]
    run = simulate(
        graph,
        tasks,
        machine(n_cores),
        PROCESSES_ONLY,
        faults=Faults(memory_bytes=100 * MB),
    )
    assert run.gave_up is None
    assert run.n_tasks[PROCESSES] == len(sizes)
    assert run.peak_bytes <= 100 * MB + max(sizes) * MB


def test_few_are_killed() -> None:
    """A thousand tasks, of which a quarter of the cores could run at once."""
    run = simulate(
        bag(1000),
        [SimulatedTask(0.1, peak_bytes=100 * MB)] * 1000,
        machine(16),
        PROCESSES_ONLY,
        faults=Faults(memory_bytes=400 * MB),
    )
    assert run.gave_up is None
    assert 1 <= run.n_kills <= 16
    # Twice as long as if it had been known before.
    assert run.makespan_s < 2 * 1000 * 0.1 / 4 + 5


def test_a_task_that_never_fits_gives_up() -> None:
    """It has been tried three times, the last time with nothing beside it."""
    run = simulate(
        bag(10),
        [SimulatedTask(0.1, peak_bytes=500 * MB)] * 10,
        machine(),
        PROCESSES_ONLY,
        faults=Faults(memory_bytes=400 * MB),
    )
    assert run.gave_up is not None
    assert (run.gave_up.kind, run.gave_up.n_attempts) == ("lost", 3)


# -- while the user of a stream is busy -----------------------------------------------


def count_given(away_s: float, seconds: float) -> int:
    """Return the batches of a worker after the user had a value for so long."""
    core = Scheduling(bag(1000), machine(1), PROCESSES_ONLY, is_streamed=True)
    (start,) = only(StartWorkers, core.handle())
    (worker,) = start.workers
    core.handle(WorkerReady(worker))
    given = only(Run, core.handle(done(worker, [0], seconds)))
    given += only(Run, core.handle(Taken([0]), Away(away_s)))
    core.validate()
    return len(given)


@pytest.mark.parametrize(
    ("away_s", "seconds", "n_batches"),
    [
        (0.0, 0.001, 2),
        (0.05, 0.001, 2),
        (0.5, 0.001, 7),
        (60.0, 0.001, MOST_DEPTH),
        # Tasks longer than a batch should be wait behind others only for that.
        (0.0, 0.3, 1),
        (0.5, 0.3, 2),
        (1.0, 0.3, 4),
    ],
)
def test_workers_get_ahead_while_the_user_is_busy(
    away_s: float, seconds: float, n_batches: int
) -> None:
    """As much as they do meanwhile, since no one is there to hand out more."""
    assert count_given(away_s, seconds) == n_batches


def test_a_user_who_was_busy_once() -> None:
    """That is forgotten by half with each value."""
    core = Scheduling(bag(1000), machine(1), PROCESSES_ONLY, is_streamed=True)
    (start,) = only(StartWorkers, core.handle())
    (worker,) = start.workers
    (first,) = only(Run, core.handle(WorkerReady(worker)))
    todo = only(Run, core.handle(done(worker, first.tasks, 0.001)))
    todo += only(Run, core.handle(Away(0.5), Taken([0])))
    assert len(todo) == 7
    for task in range(1, 8):
        run = todo.pop(0)
        actions = core.handle(done(worker, run.tasks, 0.001), Away(0.0), Taken([task]))
        todo += only(Run, actions)
    assert len(todo) == 2


# -- memory ---------------------------------------------------------------------------


def take_parts(n: int) -> int:
    """Run a graph whose values, cut into parts, go to disk; return how many turns.

    At no time more is taken than the limit allows.
    """
    whole_bytes = 4 * 10**6
    # Values, two parts of each, and what needs all first or all second parts.
    parts = [[i] for _ in range(2) for i in range(n)]
    joined = [range(n + k * n, n + k * n + n) for k in range(2)]
    graph = staged(
        [0] * n + [1] * 2 * n + [2] * 2, [*[()] * n, *parts, *joined], caller_stages=[1]
    )
    limit_bytes = 5 * whole_bytes
    core = Scheduling(
        graph, machine(), Limits(lanes=(INLINE,), memory_limit_bytes=limit_bytes)
    )
    actions = core.handle()
    has_spilled, n_turns = False, 1
    while not core.is_finished:
        (run,) = only(Run, actions)
        stages = [graph.stage_of[task] for task in run.tasks]
        if stages[0] < 2:
            assert core.budget.taken_bytes <= limit_bytes
        has_spilled |= bool(only(Spill, actions))
        sizes = [(whole_bytes, whole_bytes // 2, 10)[stage] for stage in stages]
        outcomes = [
            Outcome(task, 0.001, 0.001, size)
            for task, size in zip(run.tasks, sizes, strict=True)
        ]
        actions = core.handle(BatchDone(run.worker, outcomes))
        n_turns += 1
    assert has_spilled
    return n_turns


def test_bookkeeping_reads_back_no_more_than_fits() -> None:
    """What parts are taken from is on disk, and read as a whole for each of them."""
    take_parts(12)


def test_no_more_is_looked_at_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks are ready, of which each would read something back."""
    n_looks = 0
    look = Fitting._load_bytes

    def count(self: Fitting, *arguments: Any) -> float:
        nonlocal n_looks
        n_looks += 1
        return look(self, *arguments)

    monkeypatch.setattr(Fitting, "_load_bytes", count)
    n_turns = take_parts(200)
    # Some of them are there, and cost nothing.
    assert 0 < n_looks < 100 * n_turns


def test_threads_take_as_much_as_they_are_given() -> None:
    """How much isn't seen there: as many run as have room for twice what goes in."""
    n = 20
    known = seen(0.02, n, out_bytes=10.0)
    known = Sampled(**asdict(replace(known, cpu_fraction=0.0, gil_fraction=0.0)))
    graph = staged([0, 1] * n, [(i - 1,) if i % 2 else () for i in range(2 * n)])
    limits = Limits(lanes=(INLINE, THREADS), memory_limit_bytes=1100 * MB)
    core = Scheduling(graph, machine(4), limits, recalled={1: known})
    actions, n_running = core.handle(), 0
    while actions:
        events: list[Event] = [
            WorkerReady(worker)
            for start in only(StartWorkers, actions)
            for worker in start.workers
        ]
        for run in only(Run, actions):
            if run.tasks[0] % 2:
                n_running += len(run.tasks)
            else:
                made = [Outcome(task, 1e-3, 1e-3, 100 * MB) for task in run.tasks]
                events.append(BatchDone(run.worker, made))
        actions = core.handle(*events)
    assert 2 <= n_running <= 4


@pytest.mark.parametrize("recalled", [{}, {0: seen(1e-3, 100, out_bytes=3e4)}])
def test_results_that_are_large_as_objects(recalled: dict[int, Experience]) -> None:
    """After a sample whose pickle is small no more are made than have room."""
    limit_bytes = 10 * MB
    limits = Limits(lanes=(INLINE, PROCESSES), memory_limit_bytes=limit_bytes)
    core = Scheduling(bag(100), machine(1), limits, recalled=recalled)
    actions = core.handle()
    n_made = 0
    while not core.is_finished and n_made < 12:
        events: list[Event] = []
        for run in only(Run, actions):
            assert run.worker <= SIDE
            room_bytes = limit_bytes - core.budget.held_bytes
            assert len(run.tasks) * MB <= max(MB, room_bytes)
            outcomes = [
                Outcome(task, 1e-3, 1e-3, 3 * 10**4, held_bytes=MB)
                for task in run.tasks
            ]
            n_made += len(outcomes)
            events.append(BatchDone(run.worker, outcomes, gil_fraction=1.0))
        actions = core.handle(*events)
    assert core.budget.peak_bytes <= limit_bytes


# -- graphs that are open --------------------------------------------------------------


def open_run() -> Scheduling:
    """Return a run of two stages, that waits for a first item in the side thread."""
    graph = Graph(
        dependencies=[], stage_of=[], n_stages=2, wanted=frozenset(), is_open=True
    )
    core = Scheduling(graph, machine(4), Limits())
    core.handle(Added([((), 0)] * 4, {0: 996, 1: 1000}))
    return core


def test_workers_boot_before_there_is_a_second_item_for_them() -> None:
    """One item of many that take long is through: cores would wait for the next."""
    core = open_run()
    wait = BatchDone(SIDE, [Outcome(0, 0.02, 0.0)], gil_fraction=0.0)
    core.handle(wait, Added([((0,), 1)], {0: 996, 1: 999}))
    started = only(StartWorkers, core.handle(done(SIDE, [4], 0.01)))
    assert PROCESSES in {action.lane for action in started}
    core.validate()


def test_none_boot_for_a_little() -> None:
    """What is saved doesn't outweigh what starting them takes."""
    core = open_run()
    wait = BatchDone(SIDE, [Outcome(0, 0.02, 0.0)], gil_fraction=0.0)
    core.handle(wait, Added([((0,), 1)], {0: 96, 1: 99}))
    started = only(StartWorkers, core.handle(done(SIDE, [4], 0.001)))
    assert PROCESSES not in {action.lane for action in started}


def test_threads_that_a_slow_stage_leaves_no_use_for_arent_started() -> None:
    """One item in 1.25 ms is what four cores can take: 24 threads are enough."""
    core = open_run()
    core.handle(Added([((), 0)] * 900, {0: 96, 1: 1000}))
    wait = BatchDone(SIDE, [Outcome(0, 0.02, 0.0)], gil_fraction=0.0)
    actions = core.handle(wait, Added([((0,), 1)], {0: 96, 1: 999}))
    threads = [w for a in only(StartWorkers, actions) for w in a.workers]
    assert len(threads) == 16
    ready = [WorkerReady(worker) for worker in threads]
    actions = core.handle(*ready, done(SIDE, [904], 0.005))
    for action in only(StartWorkers, actions):
        threads += action.workers if action.lane is THREADS else ()
    assert len(threads) == 24
    assert core.stages[0].placement is not None
    assert core.stages[0].placement.n_workers > 24
