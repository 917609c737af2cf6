"""What a run was predicted to take, what was decided and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amorsize_dask.core.model import Lane
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.core.units import format_bytes, format_seconds
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.loop import Execution
from amorsize_dask.measure.rss import read_peak_rss


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRecord:
    """What one lane did."""

    #: Seconds of its tasks, added up over its workers.
    seconds: float
    n_tasks: int
    #: Workers that it had.
    n_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What was measured of one stage, and where its tasks ran."""

    name: str
    n_tasks: int
    #: Tasks by lane.
    lanes: Mapping[str, int]
    #: Mean seconds of a task; CPU and GIL shares of them (``None``: not measured).
    mean_s: float
    cpu_fraction: float
    gil_fraction: float | None
    #: Mean pickled bytes that went to a task and came back; 0 where none were sent.
    in_bytes: float
    out_bytes: float
    #: Most that a batch took beside its results and gave back.
    peak_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """Where a stage was placed, when and why."""

    #: Seconds since the start of the run.
    at_s: float
    stage: str
    lane: Lane
    n_workers: int
    #: Seconds for the rest of the stage; ``None`` if nothing had been measured.
    predicted_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The record of one run.

    ``str()`` of it is a report for a terminal.
    """

    #: Seconds from the first action to the last result.
    actual_s: float
    #: What was predicted for that when each stage was first placed by measurement;
    #: ``None`` if no stage was, because each had one lane only or one task only.
    predicted_s: float | None
    n_tasks: int
    lanes: Mapping[str, LaneRecord]
    stages: tuple[StageRecord, ...]
    decisions: tuple[DecisionRecord, ...]
    #: Cores that the run could use, and the least bytes that it might take at any time.
    n_cores: int
    memory_limit_bytes: int
    #: With ``respect_load``, what others have left of cores and memory, and why.
    load: str | None
    #: Highest resident bytes of the caller and of each worker process, added up.
    peak_memory_bytes: int
    #: Worker processes that were replaced because they had grown too much.
    n_retired: int = 0
    #: What was predicted for `actual_s` when a tenth of the work was done, and the
    #: seconds since the start at which that was; ``None`` if the run was over before,
    #: or had no end that could be seen.
    early_predicted_s: float | None = None
    early_at_s: float | None = None
    #: The exception that ended the run, if one did.
    error: BaseException | None = None

    def __str__(self) -> str:
        lines = [self._headline()]
        if self.load is not None:
            lines.append(f"  {self.load}")
        for lane, record in self.lanes.items():
            lines.append(
                f"  {lane:<9} {record.n_tasks:>7} tasks "
                f"{format_seconds(record.seconds):>9} in {record.n_workers} worker"
                + ("s" if record.n_workers != 1 else "")
            )
        if self.n_retired:
            lines.append(f"  {self.n_retired} workers ended since they had grown")
        lines.append("stages")
        lines += [f"  {_describe_stage(stage)}" for stage in self.stages]
        if self.decisions:
            lines.append("decisions")
        for decision in self.decisions:
            workers = f" x {decision.n_workers}" if decision.n_workers > 1 else ""
            lines.append(
                f"  at {format_seconds(decision.at_s)}: {decision.stage} -> "
                f"{decision.lane}{workers}: {decision.reason}"
            )
        return "\n".join(lines)

    def _headline(self) -> str:
        ended = "" if self.error is None else f", ended by {self.error!r}"
        predicted = (
            "nothing to predict"
            if self.predicted_s is None
            else f"{format_seconds(self.predicted_s)} predicted"
        )
        if self.early_predicted_s is not None:
            predicted += (
                f", {format_seconds(self.early_predicted_s)} when a tenth was done"
            )
        return (
            f"{self.n_tasks} tasks in {format_seconds(self.actual_s)} ({predicted}), "
            f"peak memory {format_bytes(self.peak_memory_bytes)}{ended}"
        )


def make_record(
    tasks: TaskGraph,
    scheduling: Scheduling,
    execution: Execution,
    actual_s: float,
    error: BaseException | None,
    n_cores: int,
    load: str | None,
) -> RunRecord:
    """Gather the record of a run that has ended, well or not."""
    decisions = tuple(
        DecisionRecord(
            at_s=at_s,
            stage=tasks.stages[decision.stage],
            lane=decision.placement.lane,
            n_workers=decision.placement.n_workers,
            predicted_s=None
            if decision.placement.predicted is None
            else decision.placement.predicted.makespan_s,
            reason=decision.placement.reason,
        )
        for decision, at_s in zip(
            scheduling.decisions, execution.decision_times, strict=False
        )
    )
    return RunRecord(
        actual_s=actual_s,
        predicted_s=_predicted_s(decisions),
        n_tasks=scheduling.n_finished,
        lanes=_lane_records(scheduling, execution),
        stages=_stage_records(tasks, scheduling),
        decisions=decisions,
        n_cores=n_cores,
        memory_limit_bytes=int(scheduling.budget.least_limit_bytes),
        load=load,
        peak_memory_bytes=read_peak_rss()
        + sum(execution.processes.peak_rss_bytes.values()),
        n_retired=scheduling.n_retired,
        early_predicted_s=None
        if scheduling.outlook is None or execution.outlook_s is None
        else scheduling.outlook.end_s(execution.decision_times, execution.outlook_s),
        early_at_s=execution.outlook_s,
        error=error,
    )


def _predicted_s(decisions: tuple[DecisionRecord, ...]) -> float | None:
    first: dict[str, DecisionRecord] = {}
    for decision in decisions:
        if decision.predicted_s is not None:
            first.setdefault(decision.stage, decision)
    if not first:
        return None
    start_s = min(decision.at_s for decision in first.values())
    return start_s + sum(decision.predicted_s or 0.0 for decision in first.values())


def _lane_records(
    scheduling: Scheduling, execution: Execution
) -> dict[str, LaneRecord]:
    records: dict[str, LaneRecord] = {}
    for lane in Lane:
        statistics = [stage.statistics for stage in scheduling.stages]
        n_tasks = sum(s.n_by_lane.get(lane, 0) for s in statistics)
        if n_tasks:
            records[lane] = LaneRecord(
                seconds=sum(s.seconds_by_lane.get(lane, 0.0) for s in statistics),
                n_tasks=n_tasks,
                n_workers=max(1, execution.n_workers[lane]),
            )
    return records


def _stage_records(tasks: TaskGraph, scheduling: Scheduling) -> tuple[StageRecord, ...]:
    records = []
    graph = tasks.graph
    optional = {graph.rest_stage, *graph.tail_stage.values()}
    for number, stage in enumerate(scheduling.stages):
        statistics = stage.statistics
        if number in optional and not statistics.n_finished:
            continue
        workload = statistics.workload(0)
        n_items = statistics.n_items_finished / max(1, statistics.n_finished)
        records.append(
            StageRecord(
                name=tasks.stages[number],
                n_tasks=statistics.n_finished,
                lanes={str(lane): n for lane, n in statistics.n_by_lane.items()},
                mean_s=n_items * workload.mean_s,
                cpu_fraction=workload.cpu_fraction,
                # Noise makes it seem larger; no one holds the GIL without computing.
                gil_fraction=None
                if statistics.gil_fraction is None
                else workload.gil_fraction,
                in_bytes=n_items * workload.in_bytes,
                out_bytes=n_items * workload.out_bytes,
                peak_bytes=workload.peak_bytes,
            )
        )
    return tuple(records)


def _describe_stage(stage: StageRecord) -> str:
    lanes = ", ".join(f"{lane} {n}" for lane, n in stage.lanes.items())
    gil = "?" if stage.gil_fraction is None else f"{stage.gil_fraction:.0%}"
    text = (
        f"{stage.name}: {stage.n_tasks} tasks of {format_seconds(stage.mean_s)} "
        f"({lanes}); CPU {stage.cpu_fraction:.0%}, GIL {gil}"
    )
    if stage.in_bytes or stage.out_bytes:
        text += (
            f", in {format_bytes(stage.in_bytes)}, out {format_bytes(stage.out_bytes)}"
        )
    return text
