"""The machine as the core is told of it."""

from __future__ import annotations

from functools import cache
from time import monotonic

from amorsize_dask.core.model import Costs, Machine
from amorsize_dask.measure.cores import count_cores, count_physical_cores
from amorsize_dask.measure.memory import available_memory

#: Seconds for which what was looked up is taken to hold. Smaller: looking at a dozen
#: files costs a short compute a tenth of its time; larger: a run starts with memory
#: that another one has taken meanwhile.
FRESH_S = 2.0

_seen: tuple[float, int, int] | None = None


def measure_machine(costs: Costs) -> Machine:
    """Return cores, memory and costs as they are now, or were moments ago."""
    global _seen
    now = monotonic()
    if _seen is None or now - _seen[0] > FRESH_S:
        _seen = now, count_cores(), available_memory()
    _, n_cores, memory_bytes = _seen
    return Machine(
        n_cores=n_cores,
        n_physical_cores=_count_physical_cores(n_cores),
        memory_bytes=memory_bytes,
        costs=costs,
    )


_count_physical_cores = cache(count_physical_cores)
