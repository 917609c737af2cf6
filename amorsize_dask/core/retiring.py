"""Which worker processes have grown so much that fresh ones should take their place."""

from __future__ import annotations

from dataclasses import dataclass, field

from amorsize_dask.core.placement import WORKER_BYTES

#: Share of the memory limit that a worker must have leaked. Smaller: workers are
#: replaced for what could not matter; larger: on a machine of many cores the leaks of
#: all of them together leave no room for tasks.
LEAK_FRACTION = 0.1

#: The least that it must have leaked, whatever the limit. Smaller: a fresh worker takes
#: more by itself than is gained, and what allocators hold back is taken for leaks.
LEAK_BYTES = WORKER_BYTES


@dataclass(slots=True)
class Growth:
    """What one worker keeps."""

    #: Bytes that it keeps now, and those of them that it would need again.
    kept_bytes: float = 0.0
    needed_bytes: float = 0.0
    #: Seconds of tasks that it has run.
    worked_s: float = 0.0
    #: Stages of which it has run a batch.
    stages: set[int] = field(default_factory=set)

    @property
    def leaked_bytes(self) -> float:
        """What it keeps, but for what the first batch of each stage has left."""
        return self.kept_bytes - self.needed_bytes


class Retiring:
    """Watches what workers keep.

    What the first batch of a stage leaves in a worker, a module or a model, it would
    leave in a fresh one as well: that is no reason to replace it. What further batches
    of the same stage add is a leak, or a cache that a fresh worker fills at leisure.

    A worker is replaced when ::

        leaked_bytes >= max(LEAK_FRACTION * limit_bytes, LEAK_BYTES)  and
        worked_s * leaked_bytes / limit_bytes >= boot_s

    so one that leaks a tenth of the limit must have worked ten times as long as a new
    one boots, and one that leaks all of it once: however much each batch leaks, boots
    take no more time than work does, as long as that is within the limit.

    Parameters
    ----------
    limit_bytes : int
        What the run may take, > 0.
    boot_s : float
        Seconds that a further worker takes to boot.
    """

    def __init__(self, limit_bytes: int, boot_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._boot_s = boot_s
        self._leak_bytes = max(LEAK_FRACTION * limit_bytes, LEAK_BYTES)
        self._growths: dict[int, Growth] = {}

    @property
    def workers(self) -> list[int]:
        """Workers of which something is known."""
        return list(self._growths)

    def note(
        self, worker: int, stages: set[int], kept_bytes: float, seconds: float
    ) -> None:
        """Take note of what a worker keeps after a batch that took so long."""
        growth = self._growths.setdefault(worker, Growth())
        if not stages <= growth.stages:
            growth.stages |= stages
            growth.needed_bytes += max(0.0, kept_bytes - growth.kept_bytes)
        growth.kept_bytes = kept_bytes
        growth.needed_bytes = min(growth.needed_bytes, kept_bytes)
        growth.worked_s += seconds

    def forget(self, worker: int) -> None:
        """Take note that a worker has gone."""
        self._growths.pop(worker, None)

    def is_due(self, worker: int, *, is_last: bool) -> bool:
        """Whether a worker should go.

        With `is_last` the run is over, and it is about being kept for the next one.
        """
        growth = self._growths.get(worker)
        if growth is None or growth.leaked_bytes < self._leak_bytes:
            return False
        share = growth.leaked_bytes / self._limit_bytes
        return is_last or growth.worked_s * share >= self._boot_s
