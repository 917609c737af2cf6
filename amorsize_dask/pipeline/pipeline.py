"""A pipeline: its stages, and its runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from dask.base import is_dask_collection

from amorsize_dask.arguments import check_count, check_flag
from amorsize_dask.core.experience import Experience
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.core.stage import Stage as StageState
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.delivery import closed_at_exit
from amorsize_dask.execute.event_loop import EventLoop
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.recollection import Recollection, recollect_items
from amorsize_dask.lowering.partitions import is_bag
from amorsize_dask.pipeline.flow import Flow, SkippedItem
from amorsize_dask.pipeline.reader import SequenceReader, ThreadReader, open_reader
from amorsize_dask.pipeline.report import PipelineReport, StageReport
from amorsize_dask.pipeline.stage import Stage
from amorsize_dask.scheduler import AmorsizeScheduler, check_scheduler

#: Tasks of a part of a run. Each task leaves a few hundred bytes until its part ends,
#: and at the end of a part the stages run empty. Smaller: that takes time; larger: an
#: endless source fills the memory with what is left of its items.
MAX_TASKS = 50_000


class Pipeline:
    """Functions that items go through one after the other, all at the same time.

    Each stage runs in the lane that fits what was measured of it: waiting in threads,
    computing in processes, what is little in the calling process. All share the workers
    and the memory of one scheduler, so the slowest stage gets the cores.

    Parameters
    ----------
    stages : sequence of Stage or callable
        At least one; a callable is a stage of that function.
    ordered : bool, optional
        Whether results come in the order of the items; otherwise as they finish.
    max_items : int, optional
        Most items that are on their way at a time, >= 1. There are fewer when what is
        held takes more than a part of the scheduler's memory limit.
    scheduler : AmorsizeScheduler, optional
        Whose workers and limits it uses; by default `amorsize_scheduler`.

    Raises
    ------
    ArgumentError
        For an argument that can't be used.

    Examples
    --------
    >>> pipeline = Pipeline([Stage(len), Stage(lambda n: n > 3, filter=True)])
    >>> list(pipeline.run(["a", "pipeline", "of", "words"]))
    [8, 5]
    """

    def __init__(
        self,
        stages: Iterable[Stage | Callable[[Any], Any]],
        *,
        ordered: bool = True,
        max_items: int = 1000,
        scheduler: AmorsizeScheduler | None = None,
    ) -> None:
        try:
            self.stages = tuple(map(_as_stage, stages))
        except TypeError as error:
            raise ArgumentError("stages", stages, "expected stages") from error
        if not self.stages:
            raise ArgumentError("stages", self.stages, "expected at least one stage")
        self._is_ordered = check_flag("ordered", ordered)
        self._max_items = check_count("max_items", max_items, 1)
        self._scheduler = check_scheduler(scheduler)
        self._progress: _Progress | None = None

    def run(self, source: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield what comes of the items of a source.

        Nothing is read ahead of what there is room for, however slow the consumer. The
        work begins with the first ``next``, and ends when the iterator is closed.

        Parameters
        ----------
        source : iterable or Bag
            Items, any number of them. Unless it is a sequence it is iterated in a
            thread of its own. A bag is computed as it is read.

        Returns
        -------
        generator
            Of results. Each is let go when the next one is asked for.

        Raises
        ------
        ArgumentError
            If it can't be iterated, or is a Dask collection that is no bag. Nothing has
            been started.
        BaseException
            From the iterator: what a stage raises, as itself; what the source raises,
            when all that came before it has been yielded. The errors of the scheduler.
        """
        if is_bag(source):
            source = self._scheduler.stream(source, ordered=self._is_ordered)
        elif is_dask_collection(source):
            expected = "expected items or a bag; compute other collections before"
            raise ArgumentError("source", source, expected)
        elif not isinstance(source, Sequence):
            try:
                source = iter(source)
            except TypeError as error:
                expected = "expected something to iterate"
                raise ArgumentError("source", source, expected) from error
        return closed_at_exit(self._run(source))

    def report(self) -> PipelineReport:
        """Return what the last run has done, or the present one so far.

        Raises
        ------
        RuntimeError
            If there was none.
        """
        if self._progress is None:
            raise RuntimeError("The pipeline hasn't run yet: iterate over run(source).")
        return self._progress.report()

    def _run(self, source: Iterable[Any]) -> Generator[Any, None, None]:
        calls = [stage.make_call() for stage in self.stages]
        sizes = [stage.batch or 0 for stage in self.stages]
        progress = self._progress = _Progress(self.stages)
        recollection = recollect_items(calls, sizes)
        recalled = recollection.experiences
        with ExitStack() as stack:
            # However it ends; what is pushed later is called before.
            stack.callback(progress.end)
            stack.push(partial(_learn_if_left, recollection, progress))
            reader = stack.enter_context(closing(open_reader(source)))
            loop = stack.enter_context(closing(EventLoop()))
            for call in calls:
                call.loop = loop
            while True:
                tasks = _open_graph(self.stages)
                flow = Flow(
                    calls,
                    sizes,
                    [stage.shape for stage in self.stages],
                    reader,
                    tasks,
                    n_seen=progress.n_seen,
                    is_ordered=self._is_ordered,
                    max_items=self._max_items,
                    most_tasks=MAX_TASKS,
                    n_recalled={n: seen.n_items for n, seen in recalled.items()},
                )
                known = {**recalled, **progress.known()}
                with (
                    closing(flow),
                    self._scheduler.open_run(tasks, known) as execution,
                ):
                    progress.begin(flow, execution.scheduling)
                    with closing(execution.stream(flow)) as results:
                        for result in results:
                            progress.n_out += 1
                            yield result
                            del result
                if reader.is_exhausted:
                    break
            recollection.learn(progress.known(), progress.seconds)
            _raise_error_of(reader)


class _Progress:
    """Adds up what the parts of a run have done."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.n_out = 0
        self._names = _name(stages)
        self._start = perf_counter()
        self._seconds: float | None = None
        self._parts: list[tuple[Flow, list[StageState]]] = []

    @property
    def n_seen(self) -> int:
        """Items of the source that have been taken in."""
        return self._parts[-1][0].n_seen if self._parts else 0

    def known(self) -> dict[int, Experience]:
        """Return what the parts so far have shown of the stages."""
        known: dict[int, Experience] = {}
        for _, states in self._parts:
            for number, state in enumerate(states):
                seen = state.statistics.experience()
                if seen is not None:
                    before = known.get(number)
                    n_items = seen.n_items + (0 if before is None else before.n_items)
                    known[number] = replace(seen, n_items=n_items)
        return known

    def begin(self, flow: Flow, scheduling: Scheduling) -> None:
        """Begin with a part of the run."""
        self._parts.append((flow, scheduling.stages))

    def end(self) -> None:
        """Take note of the end of the run."""
        self._seconds = perf_counter() - self._start

    @property
    def seconds(self) -> float:
        """Seconds since the start, or from the start to the end."""
        seconds = self._seconds
        return perf_counter() - self._start if seconds is None else seconds

    def report(self) -> PipelineReport:
        """Return what has been done so far."""
        seconds = self.seconds
        skipped: list[SkippedItem] = []
        for flow, _ in self._parts:
            skipped += flow.skipped
        return PipelineReport(
            seconds=seconds,
            n_in=self.n_seen,
            n_out=self.n_out,
            stages=tuple(
                self._report_stage(number, name, seconds)
                for number, name in enumerate(self._names)
            ),
            skipped=tuple(skipped),
        )

    def _report_stage(self, number: int, name: str, seconds: float) -> StageReport:
        flows = [flow for flow, _ in self._parts]
        states = [stages[number] for _, stages in self._parts]
        lanes: dict[str, int] = {}
        busy_s = 0.0
        for state in states:
            for lane, n in state.statistics.n_by_lane.items():
                lanes[lane] = lanes.get(lane, 0) + n
            busy_s += sum(state.statistics.seconds_by_lane.values())
        placement = states[-1].placement if states else None
        n_in = sum(flow.n_in[number] for flow in flows)
        n_out = sum(flow.n_out[number] for flow in flows)
        stay_s = sum(flow.stay_s[number] for flow in flows)
        n_tasks = sum(lanes.values())
        n_stayed = max(1, n_in)
        return StageReport(
            name=name,
            n_in=n_in,
            n_out=n_out,
            lanes=lanes,
            lane="" if placement is None else str(placement.lane),
            n_workers=max([1, *(state.n_used for state in states)]),
            busy_s=busy_s,
            stay_s=stay_s / n_stayed,
            wait_s=max(0.0, stay_s / n_stayed - busy_s / max(1, n_tasks)),
            throughput=n_out / seconds if seconds else 0.0,
            cpu_fraction=states[-1].statistics.cpu_fraction if states else 0.0,
        )


def _as_stage(stage: Stage | Callable[[Any], Any]) -> Stage:
    return stage if isinstance(stage, Stage) else Stage(stage)


def _name(stages: tuple[Stage, ...]) -> list[str]:
    """Return the stages' names, told apart where two have the same."""
    names = [stage.name for stage in stages]
    # Again where one has been given the name of another.
    while len(set(names)) < len(names):
        names = [
            name if names.count(name) == 1 else f"{name} ({number + 1})"
            for number, name in enumerate(names)
        ]
    return names


def _open_graph(stages: tuple[Stage, ...]) -> TaskGraph:
    return TaskGraph(
        graph=Graph(
            dependencies=[],
            stage_of=[],
            n_stages=len(stages),
            wanted=frozenset(),
            is_open=True,
            stage_lanes={
                number: stage.lanes
                for number, stage in enumerate(stages)
                if stage.lanes is not None
            },
            stage_workers={
                number: stage.max_workers
                for number, stage in enumerate(stages)
                if stage.max_workers is not None
            },
        ),
        keys=[],
        nodes=[],
        arguments=[],
        constants={},
        aliases={},
        stages=_name(stages),
    )


def _learn_if_left(
    recollection: Recollection,
    progress: _Progress,
    kind: type[BaseException] | None,
    *_: object,
) -> None:
    """Keep what a run has shown that its user has left before its end."""
    if kind is not None and issubclass(kind, GeneratorExit):
        recollection.learn(progress.known(), progress.seconds, is_whole=False)


def _raise_error_of(reader: SequenceReader | ThreadReader) -> None:
    """Raise what the source has raised, if it has."""
    if reader.error is not None:
        raise reader.error
