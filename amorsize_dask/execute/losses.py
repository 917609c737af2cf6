"""What became of workers that have died: how, with what memory, and why probably."""

from __future__ import annotations

from amorsize_dask.core.units import format_bytes
from amorsize_dask.execute.pool import ProcessWorker
from amorsize_dask.measure.memory import available_memory
from amorsize_dask.measure.oom import OomKills

#: Share of the memory that the workers could have which was left when one was killed,
#: up to which memory is taken for the cause. Smaller: who keeps watch on memory ends
#: workers before it is used up, and it isn't noticed; larger: workers that someone
#: kills by hand on a busy machine are taken for too large.
NEAR_FRACTION = 0.2


class Losses:
    """Judges the ends of a run's workers, and keeps a story for each task.

    Attributes
    ----------
    rss_bytes : dict of int to int
        For each worker what it had when it was last heard of.
    """

    def __init__(self) -> None:
        self.rss_bytes: dict[int, int] = {}
        self._stories: dict[int, list[str]] = {}
        self._kills = OomKills()

    def begin(self) -> None:
        """Take note that there are workers from now on."""
        self._kills.begin()

    def note(
        self, number: int, worker: ProcessWorker, ending: str, tasks: list[int]
    ) -> tuple[bool, int]:
        """Take note of a worker that has died while it was running tasks.

        Returns
        -------
        is_memory_likely : bool
            Whether it was probably killed because memory ran out.
        grown_bytes : int
            Most bytes that it is known to have had beyond those at its boot.
        """
        last_bytes = self.rss_bytes.pop(number, worker.rss_bytes)
        most_bytes = max(last_bytes, worker.peak_rss_bytes)
        cause = self._find_memory_cause(worker, ending, most_bytes)
        line = (
            f"process {worker.pid} ended by {ending}, running {len(tasks)} tasks; it "
            f"had {format_bytes(last_bytes)} when it was last heard of"
        )
        if worker.peak_rss_bytes > last_bytes:
            line += f", {format_bytes(most_bytes)} at most"
        if cause:
            line += f"; memory probably was the cause: {cause}"
        for task in tasks:
            self._stories.setdefault(task, []).append(line)
        return bool(cause), max(0, most_bytes - worker.rss_bytes)

    def story_of(self, task: int) -> tuple[str, ...]:
        """Say what became of the workers that were running a task when they died."""
        return tuple(self._stories.get(task, ()))

    def _find_memory_cause(
        self, worker: ProcessWorker, ending: str, had_bytes: int
    ) -> str:
        """Say why memory was the cause, if that is likely; else nothing."""
        if ending != "SIGKILL" or worker.was_ended:
            return ""
        if self._kills.take():
            return "the system says that it has ended a process for that"
        left_bytes = available_memory()
        room_bytes = left_bytes + sum(self.rss_bytes.values())
        left_before = left_bytes - had_bytes
        if left_before > NEAR_FRACTION * room_bytes:
            return ""
        return f"no more than {format_bytes(max(0, left_before))} were left"
