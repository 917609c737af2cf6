"""What is simulated: how long each task takes and on what, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from amorsize_dask.core.model import Lane


class SimulatedTask(NamedTuple):
    """What a task needs, in the words of `core.model.Workload`.

    One object may stand for any number of tasks.
    """

    #: Seconds that it takes on an idle machine, >= 0.
    seconds: float
    #: Share of these in which it computes, 0 to 1; the rest it waits.
    cpu_fraction: float = 1.0
    #: Share of these in which it holds the GIL, 0 to `cpu_fraction`.
    gil_fraction: float = 1.0
    #: Share of these seconds with the GIL that one who watches notices, 0 to 1; less
    #: than 1 if the task lets go of it often and for moments.
    shown_fraction: float = 1.0
    #: Bytes that go to it and come back from it, pickled.
    in_bytes: int = 0
    out_bytes: int = 0
    #: Seconds that a worker and the caller each need to pickle and unpickle these.
    pack_s: float = 0.0
    #: Bytes of memory that it adds while it runs.
    peak_bytes: int = 0
    #: Bytes that it leaves behind in its worker process.
    leaked_bytes: int = 0
    #: How large it is, in any unit, as far as that is quickly seen.
    size: float = 0.0

    def cut(self, n: int, n_left: int) -> tuple[SimulatedTask, SimulatedTask]:
        """Return tasks with the first n items of those left, and with the others."""
        return self._scale(n / n_left), self._scale(1 - n / n_left)

    def _scale(self, fraction: float) -> SimulatedTask:
        return self._replace(
            seconds=fraction * self.seconds,
            in_bytes=round(fraction * self.in_bytes),
            out_bytes=round(fraction * self.out_bytes),
            pack_s=fraction * self.pack_s,
            leaked_bytes=round(fraction * self.leaked_bytes),
            size=fraction * self.size,
        )


class SimulatedPartition:
    """Items that one task handles, each with needs of its own.

    It can stand wherever a `SimulatedTask` can.

    Parameters
    ----------
    items : sequence of SimulatedTask
        What each of them needs, in order.
    """

    __slots__ = (
        "_items",
        "cpu_fraction",
        "gil_fraction",
        "in_bytes",
        "leaked_bytes",
        "out_bytes",
        "pack_s",
        "peak_bytes",
        "seconds",
        "shown_fraction",
        "size",
    )

    def __init__(self, items: Sequence[SimulatedTask]) -> None:
        self._items = items
        self.seconds = sum(item.seconds for item in items)
        by_s = self.seconds or 1.0
        cpu_s = sum(item.seconds * item.cpu_fraction for item in items)
        gil_s = sum(item.seconds * item.gil_fraction for item in items)
        # Sums of many terms may end up above the whole by what they were rounded.
        self.cpu_fraction = min(1.0, cpu_s / by_s)
        self.gil_fraction = min(self.cpu_fraction, gil_s / by_s)
        shown_s = sum(i.seconds * i.gil_fraction * i.shown_fraction for i in items)
        self.shown_fraction = min(1.0, shown_s / gil_s) if gil_s else 1.0
        self.in_bytes = sum(item.in_bytes for item in items)
        self.out_bytes = sum(item.out_bytes for item in items)
        self.pack_s = sum(item.pack_s for item in items)
        self.leaked_bytes = sum(item.leaked_bytes for item in items)
        self.size = sum(item.size for item in items)
        self.peak_bytes = max((item.peak_bytes for item in items), default=0)

    def cut(self, n: int, n_left: int) -> tuple[SimulatedPartition, SimulatedPartition]:
        """Return the first n items, and the others."""
        assert n_left == len(self._items)
        return SimulatedPartition(self._items[:n]), SimulatedPartition(self._items[n:])


#: What a simulated machine can run.
AnyTask = SimulatedTask | SimulatedPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong in a simulated run."""

    #: Tasks that end their worker process when they are done, and how many times.
    deadly: Mapping[int, int] = field(default_factory=dict)
    #: Seconds at which a worker process dies, and which: 0 is the first started.
    deaths: tuple[tuple[float, int], ...] = ()
    #: Lanes in which no worker can be started.
    broken_lanes: frozenset[Lane] = frozenset()
    #: Tasks that can't be sent to a worker process, and whose results can't be back.
    unshippable_tasks: frozenset[int] = frozenset()
    unshippable_results: frozenset[int] = frozenset()
    #: Bytes that running tasks and results may take before the worker process whose
    #: task takes most is killed; ``None``: as many as they want. The core isn't told.
    memory_bytes: int | None = None


NO_FAULTS = Faults()
