"""What a pipeline's stages have done so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amorsize_dask.core.units import format_seconds
from amorsize_dask.pipeline.flow import SkippedItem


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What one stage has done."""

    name: str
    #: Items that it was given, and that have come out of it.
    n_in: int
    n_out: int
    #: Tasks by lane: items, or batches of them.
    lanes: Mapping[str, int]
    #: Where it was placed last, and how many workers had tasks of it at once at most.
    lane: str
    n_workers: int
    #: Seconds that its tasks took, added up over its workers.
    busy_s: float
    #: Mean seconds that an item was in the stage, and of these waited for it.
    stay_s: float
    wait_s: float
    #: Items per second of the run.
    throughput: float
    #: Share of a task's seconds in which it computes.
    cpu_fraction: float

    @property
    def load_s(self) -> float:
        """Seconds that its work takes on the workers that it was placed on."""
        return self.busy_s / max(1, self.n_workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """What a pipeline has done; ``str()`` of it is a report for a terminal."""

    #: Seconds since the start, or from the start to the end.
    seconds: float
    n_in: int
    n_out: int
    stages: tuple[StageReport, ...]
    skipped: tuple[SkippedItem, ...]

    @property
    def bottleneck(self) -> StageReport:
        """The stage whose work takes longest on its workers: the others wait for it."""
        return max(self.stages, key=lambda stage: stage.load_s)

    def __str__(self) -> str:
        lines = [
            f"{self.n_in} items in, {self.n_out} out in {format_seconds(self.seconds)}"
        ]
        if self.skipped:
            lines[0] += f", {len(self.skipped)} skipped"
        slowest = self.bottleneck.name
        for stage in self.stages:
            lanes = ", ".join(f"{lane} {n}" for lane, n in stage.lanes.items())
            lines.append(
                f"  {stage.name}: {stage.n_in} in, {stage.n_out} out; tasks by lane: "
                f"{lanes or 'none'}; {stage.lane} x {stage.n_workers}; "
                f"{stage.throughput:.3g} items/s; an item stays "
                f"{format_seconds(stage.stay_s)}, waits {format_seconds(stage.wait_s)}"
                + (" <- bottleneck" if stage.name == slowest else "")
            )
        lines += [
            f"  skipped {item.path} in {item.stage}: {item.error}"
            for item in self.skipped
        ]
        return "\n".join(lines)
