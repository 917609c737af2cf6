"""The machine as the core is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Generic, TypeVar

from amorsize_dask.core.model import Costs, Machine
from amorsize_dask.measure.cores import (
    count_by_affinity,
    count_physical_cores,
    find_grants,
)
from amorsize_dask.measure.costs import load_costs
from amorsize_dask.measure.load import Load
from amorsize_dask.measure.memory import available_memory

T = TypeVar("T")

#: Share of the memory that is left, and most bytes of it, that a run doesn't take by
#: itself. The budget leaves a fifth of its limit for what grows with what is held, such
#: as what allocators keep; this is for what doesn't: page tables, directory entries and
#: file pages of the kernel, which count in a control group as well, and what Python
#: allocates for its own needs. Smaller: at the limit of a group of some hundred MB the
#: kernel finds nothing to give back, and kills; larger: memory lies idle.
MARGIN_FRACTION = 0.1
MARGIN_BYTES = 256_000_000

#: Seconds for which what was read from files is taken to hold. Smaller: many short
#: computes in a row read a dozen files each, which takes half a millisecond; larger: a
#: run starts with memory that the one before it has taken meanwhile.
FRESH_S = 0.1

#: The same for the cores that others grant. Smaller: as above; larger: a quota that was
#: set meanwhile comes into force that much later.
GRANTED_S = 1.0

#: The same for what is measured once and kept. Smaller: as above; larger: what another
#: process has measured meanwhile is used that much later.
STEADY_S = 10.0


class Remembered(Generic[T]):
    """What a function returned, called again when that is older than `fresh_s`."""

    def __init__(
        self,
        look: Callable[[], T],
        clock: Callable[[], float] = monotonic,
        *,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._look = look
        self._clock = clock
        self._fresh_s = fresh_s
        # One attribute, so that threads see a time and what was seen then together.
        self._seen: tuple[float, T] | None = None

    def get(self) -> T:
        """Return what the function returns now, or returned moments ago."""
        now = self._clock()
        seen = self._seen
        if seen is None or now - seen[0] > self._fresh_s:
            seen = self._seen = now, self._look()
        return seen[1]


def measure_machine(costs: Costs | None = None) -> Machine:
    """Return cores, memory and costs as they are now, or were moments ago.

    It is called at the start of each compute: it takes some microseconds, and every
    `FRESH_S` seconds half a millisecond.

    Parameters
    ----------
    costs : Costs, optional
        What moving work costs, where it has been measured. By default what is kept on
        disk, or if there is nothing, the defaults of `Costs`.
    """
    n_by_others = _granted.get()
    n_cores = count_by_affinity()
    if n_by_others is not None:
        n_cores = min(n_cores, n_by_others)
    return Machine(
        n_cores=n_cores,
        n_physical_cores=count_physical_cores(n_cores),
        memory_bytes=_left.get(),
        costs=_costs.get() if costs is None else costs,
    )


def count_margin(memory_bytes: int) -> int:
    """Return how much of what is left a run leaves untouched, if it is up to us."""
    return int(min(MARGIN_FRACTION * memory_bytes, MARGIN_BYTES))


def leave_to_others(machine: Machine, load: Load) -> Machine:
    """Return what others leave of a machine: at least one core, and some memory."""
    n_cores = load.limit_cores(machine.n_cores)
    return replace(
        machine,
        n_cores=n_cores,
        n_physical_cores=min(machine.n_physical_cores, n_cores),
        memory_bytes=load.limit_memory(machine.memory_bytes),
    )


def _read_granted() -> int | None:
    return min(find_grants().values(), default=None)


def _read_costs() -> Costs:
    return load_costs() or Costs()


_left = Remembered(available_memory)
_granted = Remembered(_read_granted, fresh_s=GRANTED_S)
_costs = Remembered(_read_costs, fresh_s=STEADY_S)
