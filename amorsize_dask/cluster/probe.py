"""Tries some tasks of a graph, to see what all of them take.

They run one at a time, in a thread beside this one that watches it: so each peak of
memory is one task's, and it is seen whether the task holds the GIL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from statistics import fmean, median_low
from threading import Thread, get_native_id
from time import perf_counter
from typing import Any

from dask.sizeof import sizeof

from amorsize_dask.core.model import Lane, Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.statistics import StageStatistics
from amorsize_dask.execute.batch import BatchResult, run_batch
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.gil import WATCH_INTERVAL_S, GilWatch
from amorsize_dask.measure.rss import (
    read_peak_rss,
    read_rss,
    reset_peak_rss,
    trim_rss,
)
from amorsize_dask.measure.size import measure_pickled

#: Tasks of each stage that are tried. The first, which may import and fill caches,
#: counts only if it is the only one. Smaller: on a busy machine a few that were
#: disturbed decide; larger: it takes longer than it is worth.
SAMPLE_TASKS = 8

#: Seconds after which no further task is tried, once each stage has been that can be:
#: by two tasks, unless the first takes as long by itself. Smaller: fewer samples;
#: larger: it takes longer than starting the cluster.
SAMPLE_S = 1.0

#: Seconds after which tasks that are alike have told enough, if there are so many of
#: each stage beside its first, the seconds of none are by more than this share of their
#: mean away from it, and none takes more memory than that, which may be another one's
#: peak tenfold. Smaller numbers, or a larger share: chance decides; the other way
#: round: to measure takes as long as starting the cluster.
ALIKE_S = 0.2
ALIKE_TASKS = 3
ALIKE_FRACTION = 0.2
ALIKE_BYTES = 10_000_000

#: Tasks that a sample may need to have run before it. Smaller: stages behind a few
#: others aren't tried; larger: half of the work is done to learn what a sum takes.
MOST_NEEDED = 20

#: Bytes of results that are kept for the next sample. Smaller: what samples share is
#: made again; larger: looking at large partitions fills the memory.
MOST_KEPT_BYTES = 500_000_000


@dataclass(slots=True, kw_only=True)
class Probe:
    """What was found."""

    #: Workloads of the stages that were tried, in the order of the stages.
    stages: tuple[Workload, ...]
    #: Bytes of all results that are asked for, as far as is known.
    held_bytes: float
    #: Tasks of the stages that weren't, since they need too many others.
    n_unknown: int
    #: Why a task or a result can't be sent to another process; ``None``: all can.
    unsendable: str | None = None


@dataclass(slots=True)
class _Stage:
    outcomes: list[Outcome] = field(default_factory=list)
    gil: list[float] = field(default_factory=list)
    in_bytes: list[int] = field(default_factory=list)


class _Trials:
    """The tasks that have been tried, and what is kept of them."""

    def __init__(self, tasks: TaskGraph) -> None:
        self._tasks = tasks
        self._values: dict[Key, Any] = dict(tasks.constants)
        self._done: dict[int, int] = {}
        self.stages: dict[int, _Stage] = {}
        self.unsendable: str | None = None

    def is_known(self, stage: int) -> bool:
        """Whether a stage has been tried as far as it must be."""
        found = self.stages.get(stage)
        if found is None:
            return False
        return len(found.outcomes) > 1 or found.outcomes[0].seconds > SAMPLE_S

    def are_alike(self, stage: int) -> bool:
        """Whether the tasks of a stage that were tried show what all of them take."""
        found = self.stages.get(stage)
        counted = [] if found is None else found.outcomes[1:]
        if len(counted) < ALIKE_TASKS:
            return False
        if any((outcome.peak_bytes or 0) > ALIKE_BYTES for outcome in counted):
            return False
        seconds = [outcome.seconds for outcome in counted]
        mean_s = fmean(seconds)
        return max(abs(s - mean_s) for s in seconds) <= ALIKE_FRACTION * mean_s

    def find_needed(self, task: int) -> list[int] | None:
        """Return the tasks to run for one, itself the last; ``None``: too many."""
        if task in self._done:
            return []
        dependencies = self._tasks.graph.dependencies
        found, left = {task}, [task]
        while left:
            for before in dependencies[left.pop()]:
                if before not in found and before not in self._done:
                    found.add(before)
                    left.append(before)
            if len(found) > MOST_NEEDED:
                return None
        # Numbers are in the order of priority, and no task comes before what it needs.
        return sorted(found)

    def run(self, task: int) -> None:
        """Run a task whose arguments are there."""
        tasks = self._tasks
        keys = tasks.arguments[task]
        arguments = {key: self._values[key] for key in keys}
        stage = self.stages.setdefault(tasks.stage_of[task], _Stage())
        sent = tasks.nodes[task], arguments
        result, gil_fraction = _run_watched((task, tasks.nodes[task], keys), arguments)
        if result.failure is not None:
            raise result.failure[1]
        (outcome,), (value,) = result.outcomes, result.values
        size = self._measure(value)
        stage.outcomes.append(outcome._replace(out_bytes=size))
        stage.in_bytes.append(self._measure(sent))
        if gil_fraction is not None:
            stage.gil.append(gil_fraction)
        self._done[task] = size
        self._values[tasks.keys[task]] = value

    def _measure(self, value: Any) -> int:
        try:
            size = measure_pickled(value)
        except Exception as error:
            self.unsendable = f"{type(error).__name__}: {error}"
            return int(sizeof(value))
        return size.n_bytes if size.is_complete else max(size.n_bytes, sizeof(value))

    def forget(self) -> None:
        """Let go of results, if they are many."""
        if sum(self._done.values()) > MOST_KEPT_BYTES:
            for task in self._done:
                self._values.pop(self._tasks.keys[task], None)
            self._done.clear()


def probe(tasks: TaskGraph) -> Probe:
    """Try some tasks of each stage, and return what all of them take.

    Parameters
    ----------
    tasks : TaskGraph
        The work, lowered.

    Raises
    ------
    BaseException
        What a task raises.
    """
    trials = _Trials(tasks)
    n_tasks = Counter(tasks.stage_of)
    start = perf_counter()
    for task in _choose(tasks):
        stage, elapsed_s = tasks.stage_of[task], perf_counter() - start
        if elapsed_s > SAMPLE_S and trials.is_known(stage):
            continue
        if elapsed_s > ALIKE_S and trials.are_alike(stage):
            continue
        needed = trials.find_needed(task)
        if needed is not None:
            for before in needed:
                trials.run(before)
            trials.forget()
    own = tasks.graph.caller_stages
    found = {number: s for number, s in trials.stages.items() if number not in own}
    unknown = n_tasks.keys() - found.keys() - own
    stages = {n: _to_workload(found[n], n_tasks[n]) for n in sorted(found)}
    wanted = Counter(tasks.stage_of[task] for task in tasks.graph.wanted)
    return Probe(
        stages=tuple(stages.values()),
        held_bytes=sum(wanted[n] * stage.out_bytes for n, stage in stages.items()),
        n_unknown=sum(n_tasks[number] for number in unknown),
        unsendable=trials.unsendable,
    )


def _choose(tasks: TaskGraph) -> Iterator[int]:
    """Yield tasks to try: one of each stage, then another one of each, and so on.

    Those of a stage are spread over it, since the head is rarely typical.
    """
    by_stage: dict[int, list[int]] = {}
    for task, stage in enumerate(tasks.stage_of):
        if stage not in tasks.graph.caller_stages:
            by_stage.setdefault(stage, []).append(task)
    chosen = [
        [found[i * len(found) // SAMPLE_TASKS] for i in range(SAMPLE_TASKS)]
        if len(found) > SAMPLE_TASKS
        else found
        for _, found in sorted(by_stage.items())
    ]
    seen = set()
    for at_once in zip_longest(*chosen):
        for task in at_once:
            if task is not None and task not in seen:
                seen.add(task)
                yield task


def _run_watched(
    item: Any, values: Mapping[Key, Any]
) -> tuple[BatchResult, float | None]:
    """Run a task in a thread, and see how much of its time it holds the GIL."""
    found: list[BatchResult] = []

    def run() -> None:
        with RunDelay(get_native_id()) as delay:
            found.append(run_batch([item], values, delay))

    trim_rss()
    reset_peak_rss()
    before = read_rss()
    thread = Thread(
        target=copy_context().run, args=(run,), name="amorsize-probe", daemon=True
    )
    watch = GilWatch()
    thread.start()
    while thread.is_alive():
        start = perf_counter()
        thread.join(WATCH_INTERVAL_S)
        took_s = perf_counter() - start
        if thread.is_alive() and took_s >= WATCH_INTERVAL_S:
            watch.note(WATCH_INTERVAL_S, took_s)
    gil_fraction = watch.gil_fraction
    peak = read_peak_rss()
    result = found[0]
    if result.outcomes:
        # What the task has given back, or what there is more than before apart from
        # its result: memory that is kept for the next one is taken by that one, too.
        # Up to 64 MB that an earlier thread freed aren't seen if this one takes them:
        # the C library keeps them for it, whoever trims, and tells no one.
        kept = sum(map(sizeof, result.values))
        passing = max(0, peak - read_rss(), peak - before - kept)
        result.outcomes[0] = result.outcomes[0]._replace(peak_bytes=passing)
    return result, gil_fraction


def _to_workload(stage: _Stage, n_tasks: int) -> Workload:
    """Return the work of a stage, as what was tried shows it."""
    skip = 1 if len(stage.outcomes) > 1 else 0
    counted = stage.outcomes[skip:]
    statistics = StageStatistics()
    statistics.add(counted, Lane.INLINE)
    # One that others disturbed, who had the cores or the GIL, doesn't count.
    cpu_fraction = median_low(
        min(1.0, (out.cpu_s or 0.0) / out.seconds) if out.seconds else 1.0
        for out in counted
    )
    watched = stage.gil[1:] or stage.gil
    gil_fraction = median_low(watched) if watched else cpu_fraction
    return replace(
        statistics.workload(n_tasks),
        cpu_fraction=cpu_fraction,
        gil_fraction=min(gil_fraction, cpu_fraction),
        in_bytes=sum(stage.in_bytes) / len(stage.in_bytes),
    )
