"""The record of a run tells what happened."""

from __future__ import annotations

import time
from collections.abc import Callable

import dask
import dask.bag as db
from dask.utils_test import inc
from quick_calls import spin

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane, Limits
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.loop import Execution
from amorsize_dask.execute.pool import WorkerPool
from amorsize_dask.measure.machine import measure_machine

Force = Callable[[str], AmorsizeScheduler]


def test_record_adds_up(forced: Force) -> None:
    """Tasks by lane and by stage add up to all tasks."""
    scheduler = forced("auto")
    bag = db.from_sequence(range(30), npartitions=30).map(inc)
    bag.map(str).frequencies().compute(scheduler=scheduler)
    record = scheduler.last_run
    assert record is not None
    assert record.error is None
    assert record.n_tasks == sum(lane.n_tasks for lane in record.lanes.values())
    assert record.n_tasks == sum(stage.n_tasks for stage in record.stages)
    assert record.n_tasks == sum(sum(s.lanes.values()) for s in record.stages)
    assert record.peak_memory_bytes > 10_000_000
    assert record.actual_s > 0


def test_record_tells_what_was_measured_and_decided(forced: Force) -> None:
    """Waiting tasks are known for that, go to threads, and the text says why."""
    scheduler = forced("auto")
    naps = [dask.delayed(time.sleep)(0.02) for _ in range(40)]
    dask.compute(*naps, scheduler=scheduler)
    record = scheduler.last_run
    assert record is not None
    (stage,) = record.stages
    assert stage.n_tasks == 40
    assert 0.02 <= stage.mean_s < 0.2
    assert stage.cpu_fraction < 0.5
    assert stage.gil_fraction is not None
    assert stage.gil_fraction < 0.5
    decision = record.decisions[0]
    assert decision.lane == "threads"
    assert decision.n_workers > 2
    assert record.predicted_s is not None
    assert record.predicted_s > 0.02
    text = str(record)
    assert "40 tasks" in text
    assert "that wait" in text
    assert "threads" in text


def test_computing_tasks_are_known_for_holding_the_gil(forced: Force) -> None:
    """Long Python loops go to processes, which the caller doesn't wait for."""
    scheduler = forced("auto")
    loops = [dask.delayed(spin)(0.1 + i / 1000) for i in range(12)]
    values = dask.compute(*loops, scheduler=scheduler)
    assert values == tuple(0.1 + i / 1000 for i in range(12))
    record = scheduler.last_run
    assert record is not None
    (stage,) = record.stages
    assert stage.gil_fraction is not None
    assert stage.gil_fraction > 0.5
    assert stage.lanes["inline"] >= 1
    assert stage.lanes["processes"] >= 4


def test_sizes_are_those_of_pickles(forced: Force) -> None:
    """Bytes in and out are measured where results are sent."""
    scheduler = forced("processes")
    payload = b"x" * 100_000
    values = [dask.delayed(bytes.upper)(payload + bytes([i])) for i in range(10)]
    dask.compute(*values, scheduler=scheduler)
    (stage,) = scheduler.last_run.stages
    assert 100_000 < stage.in_bytes < 110_000
    assert 100_000 < stage.out_bytes < 110_000


def test_memory_peak_of_a_stage(forced: Force) -> None:
    """A stage's peak is about what its largest task takes."""
    scheduler = forced("processes")

    def hog(n: int) -> int:
        return len(bytearray(n) + b"!")

    dask.compute(dask.delayed(hog)(100_000_000), scheduler=scheduler)
    (stage,) = scheduler.last_run.stages
    assert 90e6 < stage.peak_bytes < 250e6


def test_the_end_is_predicted_again_when_a_tenth_is_done(forced: Force) -> None:
    """By then it is known better; it is part of the record and of its text."""
    scheduler = forced("auto")
    naps = [dask.delayed(time.sleep)(0.01) for _ in range(300)]
    dask.compute(*naps, scheduler=scheduler)
    record = scheduler.last_run
    assert record.early_predicted_s is not None
    assert 0.01 < record.early_predicted_s < 10
    assert 0 < record.early_at_s <= record.actual_s
    assert "when a tenth was done" in str(record).splitlines()[0]


def test_decisions_are_noted_before_their_tasks_run() -> None:
    """Also the first ones, whose tasks keep the calling thread busy."""
    noted: list[int] = []
    graph = Graph(dependencies=[()], stage_of=[0], n_stages=1, wanted=frozenset())
    tasks = TaskGraph(
        graph=graph,
        keys=["key"],
        nodes=[lambda _: noted.append(len(execution.decision_times))],
        arguments=[()],
        constants={},
        aliases={},
        stages=["stage"],
    )
    limits = Limits(lanes=(Lane.INLINE,))
    scheduling = Scheduling(graph, measure_machine(), limits)
    execution = Execution(tasks, scheduling, WorkerPool("spawn", None))
    execution.run()
    assert noted == [len(scheduling.decisions)] == [1]
