"""The simulated machine: known makespans, and the core at sizes no laptop has."""

from __future__ import annotations

import random
from math import inf

import pytest
from simulated import bag, machine, staged

from amorsize_dask.core.model import Costs, Lane, Limits, Machine
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.processor import Processor
from amorsize_dask.simulate.work import Faults, SimulatedTask
from amorsize_dask.simulate.worker import Meter, SimulatedWorker

PROCESSES = Limits(lanes=(Lane.PROCESSES,))
THREADS = Limits(lanes=(Lane.THREADS,))
INLINE = Limits(lanes=(Lane.INLINE,))

WAITING = SimulatedTask(0.02, cpu_fraction=0.01, gil_fraction=0.01)
GIL_FREE = SimulatedTask(0.02, gil_fraction=0.0)


# -- virtual time ---------------------------------------------------------------------


def ends_of(n_cores: int, jobs: list[tuple[str, float]]) -> list[float]:
    """Start jobs at once; return when each was over."""
    processor = Processor(n_cores)
    ends = [0.0] * len(jobs)

    def note(i: int) -> None:
        ends[i] = processor.now_s

    for i, (clock, seconds) in enumerate(jobs):
        getattr(processor, clock).add(seconds, lambda i=i: note(i))
    while processor.step():
        pass
    return ends


@pytest.mark.parametrize(
    ("n_cores", "jobs", "expected"),
    [
        (2, [("cores", 1.0), ("cores", 1.0)], [1, 1]),
        (1, [("cores", 1.0), ("cores", 1.0)], [2, 2]),
        (1, [("cores", 1.0), ("cores", 2.0)], [2, 3]),
        (2, [("cores", 1.0)] * 3, [1.5] * 3),
        # Waiting takes no core.
        (1, [("timers", 1.0)] * 3, [1] * 3),
        # One GIL, handed over at a cost, on however many cores.
        (4, [("gil", 1.0), ("gil", 1.0)], [2.2, 2.2]),
        # Whoever holds it computes on one core.
        (1, [("gil", 1.0), ("cores", 1.0)], [2, 2]),
        (2, [("gil", 1.0), ("cores", 1.0)], [1, 1]),
    ],
)
def test_cores_and_gil_are_shared(
    n_cores: int, jobs: list[tuple[str, float]], expected: list[float]
) -> None:
    """Jobs share cores evenly, those that hold the GIL share that."""
    assert ends_of(n_cores, jobs) == pytest.approx(expected)


def test_time_stops_where_it_is_told() -> None:
    """A step ends at the time it was given when nothing is over before."""
    processor = Processor(1)
    job = processor.cores.add(1.0, lambda: None)
    assert not processor.step(0.25)
    assert processor.now_s == 0.25
    assert job.done_s == pytest.approx(0.25)


def test_cancelled_job_leaves_its_share_to_others() -> None:
    """A job that is cancelled is never over, and takes nothing any more."""
    processor = Processor(1)
    ends: list[float] = []
    cancelled = processor.cores.add(1.0, lambda: ends.append(-1.0))
    processor.cores.add(1.0, lambda: ends.append(processor.now_s))
    processor.step(0.5)
    cancelled.cancel()
    while processor.step():
        pass
    assert ends == [pytest.approx(1.25)]


def test_first_look_sees_shares_and_not_phases() -> None:
    """A task that waits, computes and holds the GIL does so by turns."""
    processor = Processor(2)
    task = SimulatedTask(1.0, cpu_fraction=0.5, gil_fraction=0.25)
    worker = SimulatedWorker(
        Lane.INLINE,
        processor,
        [task],
        Meter(),
        latency_s=0.0,
        bytes_per_s=inf,
        answer=lambda batch, outcomes: None,
        is_deadly=lambda task: False,
        die=lambda: None,
    )
    worker.give([0])
    while processor.step(0.1):
        pass
    assert worker.seen_so_far() == pytest.approx((0.5, 0.25), abs=0.05)


# -- known makespans ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_cores", "n_tasks", "task", "limits", "expected_s"),
    [
        (1, 10, SimulatedTask(0.1), INLINE, 1.0),
        # Eight rounds on eight cores, once they are up.
        (8, 64, SimulatedTask(0.1), PROCESSES, 0.15 + 7 * 0.03 + 0.8),
        (8, 64, SimulatedTask(0.1, gil_fraction=0.0), THREADS, 0.8),
        # Threads that hold the GIL take turns, and pay for that.
        (8, 64, SimulatedTask(0.1), THREADS, 6.4 * 1.1),
        (2, 100, SimulatedTask(0.0), INLINE, 0.0),
    ],
)
def test_known_makespans(
    n_cores: int,
    n_tasks: int,
    task: SimulatedTask,
    limits: Limits,
    expected_s: float,
) -> None:
    """What can be said without a simulation comes out of it."""
    run = simulate(bag(n_tasks), [task] * n_tasks, machine(n_cores), limits)
    assert run.makespan_s == pytest.approx(expected_s, rel=0.1)
    assert sum(run.n_tasks.values()) == n_tasks


def test_same_arguments_give_the_same_run() -> None:
    """Nothing is random."""
    tasks = [SimulatedTask(0.001 * (1 + i % 7)) for i in range(300)]
    runs = [simulate(bag(300), tasks, machine()) for _ in range(2)]
    assert runs[0] == runs[1]


def test_equal_tasks_take_what_the_cores_need() -> None:
    """64 s of equal tasks on 8 warm cores take 8 s and little more."""
    run = simulate(bag(640), [SimulatedTask(0.1)] * 640, machine(8), n_warm=8)
    assert run.makespan_s == pytest.approx(8, rel=0.05)
    assert run.n_workers[Lane.PROCESSES] == 8


def test_transfer_takes_the_callers_time() -> None:
    """Results that take longer to send than to make come one after the other."""
    task = SimulatedTask(0.01, out_bytes=40_000_000)  # 0.1 s at 400 MB/s
    run = simulate(bag(20), [task] * 20, machine(8), PROCESSES, n_warm=8)
    assert run.makespan_s == pytest.approx(20 * 0.1, rel=0.1)


@pytest.mark.parametrize("seconds", [0.01, 0.09])
def test_pickling_takes_everyones_time(seconds: float) -> None:
    """Of caller and workers alike; it isn't done while bytes are on their way."""
    task = SimulatedTask(seconds, out_bytes=4_000, pack_s=0.02)
    run = simulate(bag(80), [task] * 80, machine(4), PROCESSES, n_warm=4)
    # The caller is always at it, or the workers are.
    least_s = max(80 * 0.02, 20 * (seconds + 0.02))
    assert run.makespan_s == pytest.approx(least_s, rel=0.15)


def test_boot_overlaps_with_work() -> None:
    """While workers boot the caller works: it has done much when they are up."""
    slow = Machine(
        n_cores=4,
        n_physical_cores=4,
        memory_bytes=10**10,
        costs=Costs(boot_first_s=1.0),
    )
    run = simulate(bag(400), [SimulatedTask(0.01)] * 400, slow)
    alone = simulate(bag(400), [SimulatedTask(0.01)] * 400, slow, PROCESSES)
    assert run.n_tasks[Lane.INLINE] >= 90
    assert run.makespan_s < alone.makespan_s


def test_busy_caller_lets_events_wait() -> None:
    """What happens while the calling thread is busy is handled afterwards."""
    # One task for the calling thread that everything else waits for.
    graph = staged([1, 0, 0], [(), (0,), (0,)], caller_stages=[1])
    tasks = [SimulatedTask(0.5), SimulatedTask(0.01), SimulatedTask(0.01)]
    run = simulate(graph, tasks, machine(2), PROCESSES, n_warm=2)
    assert run.makespan_s == pytest.approx(0.51, rel=0.01)
    assert run.n_tasks[Lane.INLINE] == 1
    assert run.n_tasks[Lane.PROCESSES] == 2


# -- large --------------------------------------------------------------------------


def test_100000_tasks_on_64_cores() -> None:
    """100,000 tasks of 10 ms keep 64 cores busy, boot included."""
    n = 100_000
    run = simulate(bag(n), [SimulatedTask(0.01)] * n, machine(64))
    assert sum(run.n_tasks.values()) == n
    assert n * 0.01 / 64 / run.makespan_s >= 0.9
    predicted = run.decisions[0].placement.predicted
    assert predicted is not None
    assert predicted.makespan_s == pytest.approx(run.makespan_s, rel=0.1)


@pytest.mark.parametrize("n_cores", [4, 16, 64])
def test_skewed_tasks_end_together(n_cores: int) -> None:
    """Batches shrink to the end, so that uneven tasks leave few cores idle."""
    rng = random.Random(1)
    tasks = [SimulatedTask(rng.lognormvariate(-4, 1)) for _ in range(5000)]
    seconds = [task.seconds for task in tasks]
    run = simulate(bag(5000), tasks, machine(n_cores), n_warm=n_cores)
    least_s = max(sum(seconds) / n_cores, max(seconds))
    assert run.makespan_s <= 1.15 * least_s + max(seconds)
    assert run.makespan_s >= least_s


@pytest.mark.parametrize("n_cores", [2, 4, 16])
def test_mixed_stages_keep_cores_busy(n_cores: int) -> None:
    """Downloads, GIL-free and GIL-holding stages at once use all cores."""
    kinds = [WAITING, GIL_FREE, SimulatedTask(0.02)]
    tasks = [kinds[i % 3] for i in range(900)]
    run = simulate(
        staged([i % 3 for i in range(900)]), tasks, machine(n_cores), n_warm=n_cores
    )
    least_s = sum(task.seconds * task.cpu_fraction for task in tasks) / n_cores
    assert run.makespan_s <= 1.25 * least_s + 0.1


@pytest.mark.parametrize("n_cores", [2, 4, 8])
def test_many_stages_of_one_long_task_run_in_parallel(n_cores: int) -> None:
    """Stages of one task each are no reason to run one after the other."""
    run = simulate(staged(range(40)), [SimulatedTask(0.5)] * 40, machine(n_cores))
    assert run.makespan_s <= 1.2 * 20 / n_cores + 1.0


@pytest.mark.parametrize("n_warm", [0, 1])
@pytest.mark.parametrize("n_cores", [2, 4, 16])
def test_threads_that_are_in_each_others_way(n_cores: int, n_warm: int) -> None:
    """A stage that seemed to leave the GIL free doesn't stay in threads for that."""
    hidden = SimulatedTask(0.005, shown_fraction=0.1)
    known = SimulatedTask(0.005)
    runs = [
        simulate(bag(2000), [task] * 2000, machine(n_cores), n_warm=n_warm * n_cores)
        for task in (hidden, known)
    ]
    # More threads need the GIL, as little as it seems; warm processes cost less.
    assert runs[0].n_tasks[Lane.THREADS] > 0 or n_warm or n_cores > 4
    assert runs[0].makespan_s <= 1.2 * runs[1].makespan_s


@pytest.mark.parametrize("n_cores", [2, 4, 16])
def test_threads_that_help_are_left_alone(n_cores: int) -> None:
    """Tasks that get longer to the end aren't taken for the GIL."""
    tasks = [GIL_FREE._replace(seconds=0.002 * (1 + i / 500)) for i in range(2000)]
    run = simulate(bag(2000), tasks, machine(n_cores))
    total_s = sum(task.seconds for task in tasks)
    assert run.makespan_s <= 1.15 * total_s / n_cores + 0.1


# -- faults -------------------------------------------------------------------------


def test_deadly_task_is_tried_again_in_processes() -> None:
    """A task that kills its worker twice is run a third time, and that is enough."""
    faults = Faults(deadly={17: 2})
    run = simulate(
        bag(100), [SimulatedTask(0.05)] * 100, machine(2), n_warm=2, faults=faults
    )
    assert run.gave_up is None
    assert sum(run.n_tasks.values()) >= 100


def test_always_deadly_task_gives_up() -> None:
    """A task that kills every worker ends the run with its number."""
    faults = Faults(deadly={17: 99})
    run = simulate(
        bag(100), [SimulatedTask(0.05)] * 100, machine(2), n_warm=2, faults=faults
    )
    assert run.gave_up is not None
    assert run.gave_up.task == 17
    assert run.gave_up.kind == "lost"
    assert run.gave_up.n_attempts == 3


def test_worker_that_dies_is_replaced() -> None:
    """Workers that die, up or booting, cost their tasks and no more."""
    faults = Faults(deaths=((0.1, 1), (0.8, 0), (1.0, 99)))
    run = simulate(
        bag(200), [SimulatedTask(0.02)] * 200, machine(4), PROCESSES, faults=faults
    )
    assert run.gave_up is None
    assert sum(run.n_tasks.values()) >= 200


@pytest.mark.parametrize(
    "faults",
    [
        Faults(broken_lanes=frozenset({Lane.PROCESSES})),
        Faults(unshippable_tasks=frozenset({30})),
        Faults(unshippable_results=frozenset({30})),
    ],
)
def test_what_processes_cannot_do_the_caller_does(faults: Faults) -> None:
    """If workers can't be started or fed, the rest runs in the caller."""
    run = simulate(bag(100), [SimulatedTask(0.05)] * 100, machine(4), faults=faults)
    assert run.gave_up is None
    assert run.decisions[-1].placement.lane is not Lane.PROCESSES
    assert run.n_tasks[Lane.INLINE] > 10


def test_numbers_must_agree() -> None:
    """A graph needs as many simulated tasks as it has tasks."""
    with pytest.raises(ValueError, match="2 simulated tasks for a graph of 3"):
        simulate(bag(3), [SimulatedTask(0.1)] * 2, machine())


def test_empty_graph_takes_no_time() -> None:
    """Nothing to do is done at once."""
    run = simulate(bag(0), [], machine())
    assert run.makespan_s == 0
    assert run.decisions == []


def test_core_that_is_stuck_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that waits for what never happens is told so, and not waited for."""
    monkeypatch.setattr(Scheduling, "handle", lambda self, *events: [])
    with pytest.raises(RuntimeError, match="never happens"):
        simulate(bag(1), [SimulatedTask(0.1)], machine())
