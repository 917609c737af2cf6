"""What a cluster has done and has left to do, as plain data that travels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from amorsize_dask.core.model import Workload
from amorsize_dask.core.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStage:
    """Tasks with a common prefix, as a cluster has seen them since it was asked to."""

    name: str
    #: Tasks that have finished, that have raised for good, and that are left.
    n_finished: int
    n_failed: int
    n_left: int
    #: What a task takes; ``None``: no one knows yet.
    task: Workload | None
    #: Whether that is what earlier runs have shown.
    is_recalled: bool = False
    #: Seconds of all finished tasks, and of the longest one.
    total_s: float = 0.0
    longest_s: float = 0.0
    #: Seconds in which workers fetched what tasks needed from each other.
    transfer_s: float = 0.0
    #: Bytes that went to disk and came back in the course of its tasks.
    written_bytes: int = 0
    read_bytes: int = 0
    #: Highest resident, managed and unmanaged bytes of a worker that was at it.
    worker_bytes: int = 0
    managed_bytes: int = 0
    unmanaged_bytes: int = 0

    def __str__(self) -> str:
        text = f"{self.name}: {self.n_finished} finished, {self.n_left} left"
        if self.n_failed:
            text += f", {self.n_failed} failed"
        if self.task is None:
            return text
        text += (
            f"; {format_seconds(self.task.mean_s)} a task"
            f"{' in earlier runs' if self.is_recalled else ''}, "
            f"CPU {self.task.cpu_fraction:.0%}, "
            f"{format_bytes(self.task.in_bytes)} in, "
            f"{format_bytes(self.task.out_bytes)} out"
        )
        if self.worker_bytes:
            text += (
                f"; a worker took up to {format_bytes(self.worker_bytes)}, "
                f"{format_bytes(self.managed_bytes)} managed, "
                f"{format_bytes(self.unmanaged_bytes)} unmanaged"
            )
        if self.written_bytes or self.read_bytes:
            text += (
                f"; {format_bytes(self.written_bytes)} to disk, "
                f"{format_bytes(self.read_bytes)} from it"
            )
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """What a cluster has done since a `ClusterRecorder` was registered.

    ``str()`` of it is a report. It may be given to `cluster_kwargs` and the like as
    ``work``.
    """

    #: In the order in which their first tasks came.
    stages: tuple[ClusterStage, ...]
    n_workers: int
    #: Threads of all workers.
    n_threads: int
    #: Workers that have gone without having been asked to.
    n_lost: int
    #: Bytes of results in memory, and on disk; bytes that all workers may take.
    held_bytes: int
    spilled_bytes: int
    limit_bytes: int
    #: Bytes per second between workers, as the scheduler has measured.
    bytes_per_s: float

    @property
    def n_left(self) -> int:
        """How many tasks are left."""
        return sum(stage.n_left for stage in self.stages)

    @property
    def n_unknown(self) -> int:
        """How many tasks are left of which nothing is known."""
        return sum(stage.n_left for stage in self.stages if stage.task is None)

    def list_rest(self) -> tuple[Workload, ...]:
        """Return what is left, as far as it is known."""
        return tuple(
            replace(stage.task, n_tasks=stage.n_left)
            for stage in self.stages
            if stage.task is not None and stage.n_left
        )

    def list_all(self) -> tuple[Workload, ...]:
        """Return what was done and is left, as far as it is known."""
        return tuple(
            replace(stage.task, n_tasks=stage.n_finished + stage.n_left)
            for stage in self.stages
            if stage.task is not None and stage.n_finished + stage.n_left
        )

    def __str__(self) -> str:
        lost = f", {self.n_lost} lost" if self.n_lost else ""
        lines = [
            f"{self.n_workers} workers with {self.n_threads} threads{lost}; "
            f"{format_bytes(self.held_bytes)} of results in memory, "
            f"{format_bytes(self.spilled_bytes)} on disk"
        ]
        return "\n".join([*lines, *(f"  {stage}" for stage in self.stages)])
