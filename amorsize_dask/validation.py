"""What a run may take here and what moving work costs, with what is in the way.

`validate_system` is what the guide of amorsize calls by that name; the command
``amorsize-dask doctor`` shows the same to people.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import sleep

from amorsize_dask import config
from amorsize_dask.core.model import Costs
from amorsize_dask.core.placement import WORKER_BYTES
from amorsize_dask.core.units import format_bytes, format_seconds
from amorsize_dask.errors import AmorsizeError
from amorsize_dask.execute.spool_folder import SHARED_MEMORY
from amorsize_dask.execute.start_method import choose_start_method, has_processes
from amorsize_dask.measure.cores import (
    count_by_affinity,
    count_physical_cores,
    find_core_limits,
)
from amorsize_dask.measure.costs import load_costs
from amorsize_dask.measure.hints import find_thread_hints
from amorsize_dask.measure.load import MIN_WINDOW_S, Load, LoadWatch
from amorsize_dask.measure.memory import MemoryLimit, find_memory_limits
from amorsize_dask.measure.numa import Node, find_nodes
from amorsize_dask.scheduler import AmorsizeScheduler

#: Bytes that shared memory should have room for. Smaller: nobody is told that results
#: of some megabytes go to disk, as they do in Docker with its 64 MB; larger: machines
#: are complained of on which all is well.
SHARED_BYTES = 256_000_000

#: Share of the cores that others may use. Smaller: the machine is said to be busy when
#: one program runs on it; larger: nobody learns why costs are high.
BUSY_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemValidation:
    """The machine, as a run would find it now.

    ``str()`` of it is a report.
    """

    #: Cores that a run may use, >= 1.
    n_cores: int
    #: Of these, distinct physical ones: as many as work that computes is spread over.
    physical_cores: int
    #: Logical cores that the machine has, whoever may use them.
    logical_cores: int
    #: Bytes that a run may take.
    memory_bytes: int
    #: All that bounds the cores, and the memory: the least of each binds.
    core_limits: Mapping[str, int]
    memory_limits: tuple[MemoryLimit, ...]
    #: How worker processes start; ``None`` where there can't be any.
    start_method: str | None
    #: What moving work costs; what couldn't be measured yet is as in ``Costs()``.
    costs: Costs
    #: What others use of cores and memory at the moment.
    load: Load
    #: NUMA nodes; none where the system doesn't say.
    nodes: tuple[Node, ...]
    #: Threads that libraries may start in a process, by the variables that say so.
    thread_hints: Mapping[str, int]
    #: What is in the way of a run, for people; empty if nothing is.
    warnings: tuple[str, ...]

    @property
    def available_memory_gb(self) -> float:
        """Billions of bytes that a run may take."""
        return self.memory_bytes / 1e9

    @property
    def binding_cores(self) -> str:
        """What leaves the fewest cores."""
        return min(self.core_limits, key=self.core_limits.__getitem__)

    @property
    def binding_memory(self) -> str:
        """What leaves the least memory."""
        return _find_binding(self.memory_limits).name

    def __str__(self) -> str:
        lines = [
            f"{self.n_cores} cores, {self.physical_cores} of them physical, by "
            f"{self.binding_cores}",
            f"{format_bytes(self.memory_bytes)} of memory, by {self.binding_memory}",
            f"worker processes: {self.start_method or 'none'}",
            f"first worker {format_seconds(self.costs.boot_first_s)}, a batch "
            f"{format_seconds(self.costs.batch_s)}, "
            f"{format_bytes(self.costs.bytes_per_s)}/s",
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


def validate_system() -> SystemValidation:
    """Look at what a run may take here, start a worker process, and say what is amiss.

    One task is run in a worker process; if it is the first one on this machine, costs
    are measured with it and kept. Then half a second goes by to see what others use.

    Returns
    -------
    SystemValidation
        What is wrong is among its warnings: nothing is raised for it.

    Raises
    ------
    ArgumentError
        For a setting ``amorsize.*`` that can't be used.

    Examples
    --------
    >>> validation = validate_system()
    >>> 1 <= validation.physical_cores <= validation.n_cores
    True
    """
    start_method = None
    if has_processes():
        start_method = choose_start_method(config.get("start-method"))
    trouble = _try_worker() if start_method else "this system has no worker processes"
    watch = LoadWatch()
    sleep(MIN_WINDOW_S)
    load = watch.look()
    core_limits = find_core_limits()
    memory_limits = tuple(find_memory_limits())
    n_cores = min(core_limits.values())
    memory_bytes = max(1, _find_binding(memory_limits).left_bytes)
    costs = load_costs()
    warnings = [f"only inline and threads can be used: {trouble}"] if trouble else []
    if costs is None and not trouble:
        warnings.append(
            "costs can't be kept: each process measures them anew; see that your cache "
            "folder can be written"
        )
    return SystemValidation(
        n_cores=n_cores,
        physical_cores=count_physical_cores(n_cores),
        logical_cores=os.cpu_count() or n_cores,
        memory_bytes=memory_bytes,
        core_limits=core_limits,
        memory_limits=memory_limits,
        start_method=None if trouble else start_method,
        costs=costs or Costs(),
        load=load,
        nodes=tuple(find_nodes()),
        thread_hints=find_thread_hints(),
        warnings=(
            *warnings,
            *_find_scarce_cores(core_limits, load),
            *_find_scarce_memory(n_cores, memory_bytes),
            *_find_scarce_shared_memory(),
        ),
    )


def _find_binding(limits: tuple[MemoryLimit, ...]) -> MemoryLimit:
    return min(limits, key=lambda limit: limit.left_bytes)


def _try_worker() -> str | None:
    """Run a task in a worker process; return why that can't be done, if it can't."""
    try:
        with AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler:
            scheduler({"pid": (os.getpid,)}, "pid")
    except (AmorsizeError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _find_scarce_cores(core_limits: Mapping[str, int], load: Load) -> Iterator[str]:
    n_cores = min(core_limits.values())
    by_affinity = count_by_affinity()
    if n_cores < by_affinity and not find_thread_hints():
        name = min(core_limits, key=core_limits.__getitem__)
        yield (
            f"{name} grants {n_cores} of {by_affinity} cores: libraries that start a "
            "thread for each core don't know, set OMP_NUM_THREADS for them"
        )
    for use in load.cores:
        if use.by_others > BUSY_FRACTION * use.n_cores:
            yield (
                f"others use {use.by_others:.1f} of {use.n_cores:g} {use.name}: runs "
                "take longer than predicted, and costs that are measured now are too "
                "high; respect_load=True leaves these to them"
            )


def _find_scarce_memory(n_cores: int, memory_bytes: int) -> Iterator[str]:
    if memory_bytes < n_cores * WORKER_BYTES:
        yield (
            f"{format_bytes(memory_bytes)} of memory is not enough for {n_cores} "
            f"worker processes, which take {format_bytes(WORKER_BYTES)} each before "
            "they do anything"
        )


def _find_scarce_shared_memory() -> Iterator[str]:
    folder = SHARED_MEMORY
    if not folder.is_dir():
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield f"{folder} can't be written: large results go to disk"
    elif (free_bytes := shutil.disk_usage(folder).free) < SHARED_BYTES:
        yield (
            f"{folder} has room for {format_bytes(free_bytes)} only: larger results go "
            "to disk; give a container more with --shm-size"
        )
