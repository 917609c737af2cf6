"""What a few tasks show of all of them."""

from __future__ import annotations

import time
from asyncio import sleep
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from math import inf
from multiprocessing import get_context
from typing import Any, TypeVar

import cluster_tasks as tasks
import dask.bag as db
import pytest
from dask import delayed

from amorsize_dask import AmorsizeScheduler, optimize
from amorsize_dask.cluster import probe as probe_module
from amorsize_dask.cluster.probe import ALIKE_TASKS, MOST_NEEDED, SAMPLE_TASKS, probe
from amorsize_dask.cluster.work import measure_work
from amorsize_dask.core.model import Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.errors import ArgumentError
from amorsize_dask.lowering import read
from amorsize_dask.lowering.partitions import find_partitions
from amorsize_dask.planning.plan import Plan
from amorsize_dask.planning.profile import DiagnosticProfile

MB = 10**6

T = TypeVar("T")


def measure(work: Any) -> Workload:
    """Return the workload of the only stage of some work."""
    (stage,) = measure_work(work).stages
    return stage


def in_new_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function where no thread has kept memory that was freed.

    The C library gives what an ended thread has freed to the next one, and neither
    gives it back when asked to nor tells of it: then a task that takes it seems to take
    none. After other tests there may be as much as these ones look for.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def bag(function: Any, items: Any) -> Any:
    """Return a bag with a partition for each item."""
    items = list(items)
    return db.from_sequence(items, npartitions=len(items)).map(function)


def test_work_that_holds_the_gil_is_seen_to() -> None:
    """All tasks count, and only some are run."""
    stage = measure(bag(tasks.compute, [300_000] * 50))
    assert stage.n_tasks == 50
    assert stage.gil_fraction > 0.7
    assert stage.cpu_fraction > 0.7


def test_work_that_waits_is_seen_to() -> None:
    """It computes for next to none of its time."""
    stage = measure(bag(tasks.wait, range(50)))
    assert stage.n_tasks == 50
    assert stage.mean_s >= 0.02
    assert stage.cpu_fraction < 0.2


def test_work_without_the_gil_is_seen_to() -> None:
    """It computes, and leaves the GIL to others."""
    stage = measure(bag(tasks.digest, [30 * MB] * 10))
    assert stage.cpu_fraction > 0.7
    assert stage.gil_fraction < 0.4


def test_peaks_are_those_of_a_task() -> None:
    """Whatever this process has taken before, and whatever is left when it is done."""
    stage = in_new_process(measure_after_larger)
    assert 50 * MB < stage.peak_bytes < 90 * MB


def measure_after_larger() -> Workload:
    """Return the workload of tasks that take memory, after something that took more."""
    larger = bytearray(200 * MB)
    larger[::4096] = bytes(len(larger[::4096]))
    del larger
    return measure(bag(tasks.take, [60 * MB] * 5))


def test_results_are_those_of_a_task() -> None:
    """They count as what they take, apart from what passes."""
    found = in_new_process(measure_work, bag(tasks.make, [20 * MB] * 8))
    (stage,) = found.stages
    assert stage.out_bytes == pytest.approx(20 * MB, rel=0.05)
    assert found.held_bytes == pytest.approx(160 * MB, rel=0.05)
    assert 10 * MB < stage.peak_bytes < 40 * MB


def test_only_some_tasks_run() -> None:
    """As few of each stage as a sample needs, once each."""
    ran: list[int] = []
    probe(read(*find_partitions(bag(ran.append, range(100)))))
    counted = Counter(ran)
    assert len(counted) == SAMPLE_TASKS
    assert set(counted.values()) == {1}
    # Not only those of the head.
    assert max(counted) >= 50


def test_few_tasks_tell_where_all_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that measuring doesn't take as long as starting a cluster; else it is more."""
    # However slow the machine is.
    monkeypatch.setattr(probe_module, "SAMPLE_S", inf)
    ran: list[float] = []

    def nap(seconds: float) -> None:
        ran.append(seconds)
        time.sleep(seconds)

    probe(read(*find_partitions(bag(nap, [0.3] * 100))))
    assert len(ran) == 1 + ALIKE_TASKS
    ran.clear()
    probe(read(*find_partitions(bag(nap, [0.1, 0.2] * 50))))
    assert len(ran) == SAMPLE_TASKS


@pytest.mark.parametrize(("n_bytes", "expected"), [(1 * MB, True), (40 * MB, False)])
def test_tasks_that_take_memory_are_tried_as_often_as_any(
    n_bytes: int, expected: bool
) -> None:
    """However alike they are: that of which one takes tenfold may be met."""
    trials = probe_module._Trials(read(*find_partitions(bag(tasks.wait, range(9)))))
    trials.stages[0] = probe_module._Stage(
        [Outcome(i, 0.3, peak_bytes=n_bytes) for i in range(1 + ALIKE_TASKS)]
    )
    assert trials.are_alike(0) is expected


def test_stages_behind_others_are_seen() -> None:
    """What a task needs is run before it, and both are measured."""
    made = [delayed(tasks.wait)(i) for i in range(10)]
    after = [delayed(tasks.digest)(one) for one in made]
    both = [delayed(max)(a, b) for a, b in pairwise(after)]
    found = measure_work(both)
    assert sum(stage.n_tasks for stage in found.stages) >= 19
    assert not found.n_unknown


def test_a_sum_over_everything_is_left_out() -> None:
    """To learn what it takes, all of the work would have to be done."""
    n = 2 * MOST_NEEDED
    total = delayed(sum)([delayed(tasks.wait)(i) for i in range(n)])
    found = measure_work(total)
    assert [stage.n_tasks for stage in found.stages] == [n]
    assert found.n_unknown >= 1


def test_what_a_task_raises_comes_out() -> None:
    """As itself."""
    with pytest.raises(KeyError):
        measure_work(bag(tasks.fail, [1, 2]))


def test_what_can_not_be_pickled_is_known() -> None:
    """Results that no process could send back."""
    found = measure_work(bag(tasks.lock, range(3)))
    assert "pickle" in str(found.unsendable)
    assert measure_work(bag(tasks.wait, range(3))).unsendable is None


def test_a_function_is_tried_with_some_items() -> None:
    """All items count."""
    items = list(range(1000))
    stage = measure((tasks.wait, items))
    assert stage.n_tasks == 1000
    assert stage.cpu_fraction < 0.2
    assert measure((tasks.wait, {1, 2, 3})).n_tasks == 3


def test_a_record_is_taken_as_it_is() -> None:
    """Nothing is run; the last results are those that were asked for."""
    with AmorsizeScheduler() as scheduler:
        bag(tasks.wait, range(40)).compute(scheduler=scheduler)
        record = scheduler.last_run
    found = measure_work(record)
    assert record is not None
    recorded = record.stages[0]
    stage = found.stages[0]
    assert (stage.n_tasks, stage.mean_s) == (40, recorded.mean_s)
    assert stage.cpu_fraction == recorded.cpu_fraction
    # Dask's putting together isn't work to be shared out.
    assert [stage.n_tasks for stage in found.stages] == [40]
    assert found.held_bytes == 40 * recorded.out_bytes > 0


def test_a_plan_is_taken_as_it_is() -> None:
    """What it rests on is read: its profile. Nothing is lost of a generator."""
    plan = optimize(tasks.wait, (i for i in range(60)))
    profile = plan.diagnostic_profile
    assert profile is not None
    stage = measure(plan)
    assert stage.n_tasks == 60
    assert stage.mean_s == profile.avg_execution_time
    assert stage.cpu_fraction == profile.cpu_fraction
    assert plan.compute() == list(range(60))


def test_what_a_plan_does_not_know_is_taken_for_the_worst() -> None:
    """Work that wasn't seen to leave the GIL is taken to hold it."""
    profile = DiagnosticProfile(
        avg_execution_time=0.2,
        avg_pickle_time=0.0,
        spawn_cost=0.1,
        estimated_speedup=1.0,
        n_items_assumed=30,
        coefficient_of_variation=0.5,
        cpu_fraction=0.9,
        out_bytes=20.0,
    )
    found = measure_work(Plan(diagnostic_profile=profile))
    (stage,) = found.stages
    assert (stage.n_tasks, stage.mean_s, stage.std_s) == (30, 0.2, 0.1)
    assert stage.gil_fraction == 0.9
    assert found.held_bytes == 600


def test_two_delayed_values_are_no_function_with_data() -> None:
    """Though delayed values can be called, and have any attribute."""
    found = measure_work((delayed(tasks.wait)(1), delayed(tasks.wait)(2)))
    assert [stage.n_tasks for stage in found.stages] == [2]


@pytest.mark.parametrize(
    "work",
    [
        None,
        3,
        [],
        (tasks.wait, []),
        (tasks.wait, 3),
        (3, [1]),
        (tasks.wait, delayed([1])),
        (tasks.wait, db.range(3, npartitions=1)),
        (sleep, [1]),
        Plan(),
    ],
)
def test_what_is_no_work_is_refused(work: Any) -> None:
    """And it is said what would be work."""
    with pytest.raises(ArgumentError, match="work="):
        measure_work(work)


def test_a_generator_is_left_alone() -> None:
    """Items that were tried would be missing from it."""
    items = iter([1, 2])
    with pytest.raises(ArgumentError, match="lost"):
        measure_work((tasks.wait, items))
    assert list(items) == [1, 2]
