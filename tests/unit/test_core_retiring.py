"""Which workers are replaced for what they keep, and how often at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import bag, machine, staged

from amorsize_dask.core.events import BatchDone, Retire, Run, StartWorkers, WorkerReady
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.retiring import LEAK_BYTES, LEAK_FRACTION, Retiring
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.work import SimulatedTask

MB = 10**6
LIMIT = 1000 * MB
BOOT_S = 0.03

WORKER = 2


def is_due_after(
    *batches: tuple[int, float, float], limit: int = LIMIT, is_last: bool = False
) -> bool:
    """Whether a worker should go after batches: stage, bytes kept then, seconds."""
    retiring = Retiring(limit, BOOT_S)
    for stage, kept_bytes, seconds in batches:
        retiring.note(WORKER, {stage}, kept_bytes, seconds)
    return retiring.is_due(WORKER, is_last=is_last)


def test_what_grows_on_is_a_leak() -> None:
    """A tenth of the limit more than after its first batch."""
    assert is_due_after((0, 0, 1.0), (0, 100 * MB, 1.0))
    assert not is_due_after((0, 0, 1.0), (0, 99 * MB, 1.0))
    assert LEAK_FRACTION * LIMIT == 100 * MB


def test_what_the_first_batch_of_a_stage_leaves_is_needed() -> None:
    """A model or a module would be loaded by the next worker as well."""
    assert not is_due_after((0, 500 * MB, 1.0), (0, 500 * MB, 1.0))
    assert not is_due_after((0, 0, 1.0), (1, 500 * MB, 1.0), (0, 500 * MB, 1.0))
    assert is_due_after((0, 500 * MB, 1.0), (0, 600 * MB, 1.0))


def test_what_was_given_back_is_not_needed() -> None:
    """It counts again when it comes again."""
    batches = [(0, 500 * MB, 1.0), (0, 100 * MB, 1.0)]
    assert not is_due_after(*batches)
    assert is_due_after(*batches, (0, 200 * MB, 1.0))


def test_a_little_is_nothing_whatever_the_limit() -> None:
    """A fresh worker takes as much by itself."""
    assert not is_due_after((0, 0, 1.0), (0, LEAK_BYTES - 1, 1.0), limit=20 * MB)
    assert is_due_after((0, 0, 1.0), (0, LEAK_BYTES, 1.0), limit=20 * MB)


@pytest.mark.parametrize(
    ("leaked_bytes", "boots"), [(100 * MB, 10), (500 * MB, 2), (1000 * MB, 1)]
)
def test_the_more_it_leaks_the_sooner_it_goes(leaked_bytes: int, boots: int) -> None:
    """A boot must be a small part of the work, unless memory is at stake."""
    enough_s = 1.01 * boots * BOOT_S
    assert is_due_after((0, 0, 0.0), (0, leaked_bytes, enough_s))
    too_little = (0, 0, 0.0), (0, leaked_bytes, 0.9 * enough_s)
    assert not is_due_after(*too_little)
    # But for the next run none that has leaked is kept.
    assert is_due_after(*too_little, is_last=True)


def test_a_worker_that_is_not_known() -> None:
    """One that has had no batch, or has gone, is not due."""
    retiring = Retiring(LIMIT, BOOT_S)
    assert not retiring.is_due(WORKER, is_last=True)
    retiring.note(WORKER, {0}, 0, 1.0)
    retiring.note(WORKER, {0}, LIMIT, 1.0)
    retiring.forget(WORKER)
    assert not retiring.is_due(WORKER, is_last=True)


# -- in a run -------------------------------------------------------------------------

PROCESSES = Limits(lanes=(Lane.PROCESSES,), memory_limit_bytes=LIMIT)


def test_it_gets_nothing_more_and_is_replaced() -> None:
    """What waits behind its last batch is still done; then another one is started."""
    core = Scheduling(bag(1000), machine(1), PROCESSES)
    [start] = core.handle()
    assert isinstance(start, StartWorkers)
    [first] = start.workers

    def finish(run: Run, grown_bytes: int) -> BatchDone:
        outcomes = [Outcome(task, 0.05, 0.05, 100) for task in run.tasks]
        return BatchDone(first, outcomes, grown_bytes=grown_bytes)

    [run] = core.handle(WorkerReady(first))
    running, waiting = core.handle(finish(run, 0))
    assert core.handle(finish(running, 500 * MB)) == []
    retire, start = core.handle(finish(waiting, 500 * MB))
    assert retire == Retire(first)
    assert isinstance(start, StartWorkers)
    assert core.n_retired == 1
    assert core.budget.grown_bytes == 0
    core.validate()
    runs = core.handle(WorkerReady(start.workers[0]))
    assert runs


@pytest.mark.parametrize("leaked_mb", [10, 60, 300])
def test_leaks_stay_within_the_limit(leaked_mb: int) -> None:
    """Tasks that leave something each: all are done, and boots don't take over."""
    n = 300
    task = SimulatedTask(0.05, leaked_bytes=leaked_mb * MB)
    run = simulate(bag(n), [task] * n, machine(2), PROCESSES)
    assert run.gave_up is None
    # What the first task leaves isn't held against a worker.
    assert run.n_retired >= n * leaked_mb // 2000
    # Of 3 to 90 GB; of each worker some batches are run before it goes.
    assert run.peak_bytes < LIMIT + 6 * leaked_mb * MB
    assert run.makespan_s < 2.5 * n * 0.05 / 2 + 1


def test_no_one_leaks() -> None:
    """Then no one is replaced."""
    run = simulate(bag(300), [SimulatedTask(0.05)] * 300, machine(2), PROCESSES)
    assert run.n_retired == 0


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.001, 0.1]),
    st.integers(1, 3),
    st.sampled_from([1, 4]),
)
def test_every_task_is_done_and_boots_are_bounded(
    leaks_mb: list[int], seconds: float, n_stages: int, n_cores: int
) -> None:
    """However much tasks leave: workers go for what is worth a boot."""
    graph = staged([i % n_stages for i in range(len(leaks_mb))])
    tasks = [SimulatedTask(seconds, leaked_bytes=n * MB) for n in leaks_mb]
    run = simulate(graph, tasks, machine(n_cores), PROCESSES)
    assert run.gave_up is None
    assert run.n_tasks[Lane.PROCESSES] == len(tasks)
    assert run.n_retired <= sum(leaks_mb) * MB / LEAK_BYTES
    # All but those that go when all is done have worked for it.
    share = max(1.0, 2 * max(leaks_mb) * MB / LIMIT)
    n_before = run.n_retired - n_cores
    boot_s = machine().costs.boot_next_s
    assert n_before * boot_s <= share * run.seconds[Lane.PROCESSES] + 1e-9
