"""The arguments of a cluster, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amorsize_dask.cluster.sizing import (
    DASK_THRESHOLDS,
    LEAST_LIMIT_BYTES,
    ClusterSize,
    Needs,
    is_waiting,
)
from amorsize_dask.core.model import Workload
from amorsize_dask.core.units import format_bytes, format_seconds

#: What libraries read when they are loaded.
INNER_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: Under which names Dask's settings have a worker's thresholds, and its profiler.
MEMORY, PROFILE = "distributed.worker.memory.", "distributed.worker.profile.enabled"

#: Threads of a worker that are too many to look at the stack of each, a hundred times a
#: second. Smaller: the profiler is missed where it costs nothing; larger: it takes much
#: of a core.
MANY_THREADS = 16


class ClusterArguments(dict[str, Any]):
    """Arguments for ``LocalCluster(**arguments)``; ``str()`` tells why.

    Attributes
    ----------
    reasons : mapping of str to str
        For each argument why it is what it is.
    fits : bool
        Whether tasks at their peaks fit into memory.
    predicted_s : float
        Seconds that the work is predicted to take in such a cluster once it is up.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        reasons: Mapping[str, str],
        *,
        fits: bool,
        predicted_s: float,
    ) -> None:
        super().__init__(arguments)
        self.reasons = dict(reasons)
        self.fits = fits
        self.predicted_s = predicted_s

    def __str__(self) -> str:
        width = max(map(len, self))
        return "\n".join(
            f"{name:<{width}} = {value!r}\n{'':<{width}}   {self.reasons[name]}"
            for name, value in self.items()
        )


def make_arguments(
    needs: Needs, size: ClusterSize, *, local_directory: str
) -> ClusterArguments:
    """Put into Dask's words what was chosen."""
    main = max(needs.stages, key=lambda stage: stage.n_tasks * stage.mean_s)
    told: dict[str, tuple[Any, str]] = {
        "n_workers": (size.n_workers, _explain_workers(needs, size, main)),
        "threads_per_worker": (size.threads_per_worker, _explain_threads(size, main)),
        "processes": (size.processes, _explain_processes(needs, size)),
        "memory_limit": (size.memory_limit_bytes, _explain_memory(needs, size)),
        "dashboard_address": (
            ":0",
            "any port that is free, so that clusters don't get into each other's way; "
            "cluster.dashboard_link has it",
        ),
        "local_directory": (
            local_directory,
            "results that have no room go there: temporary files are on disk in it, "
            "not in memory, as far as there is such a folder",
        ),
    }
    n_inner = size.n_inner_threads
    why_inner = (
        f"{size.n_workers * size.threads_per_worker} tasks at once on "
        f"{needs.machine.n_physical_cores} cores leave {n_inner} for the threads that "
        "libraries start inside of a task"
    )
    if size.processes:
        told["env"] = dict.fromkeys(INNER_VARIABLES, str(n_inner)), why_inner
        settings, reasons = _choose_settings(needs, size, main)
        if settings:
            told["config"] = settings, "; ".join(reasons)
    if n_inner > 1 or not size.processes:
        # Imports distributed.
        from amorsize_dask.cluster.inner_threads import InnerThreads

        why = f"{why_inner}; these are told that are loaded by then"
        told["plugins"] = (InnerThreads(n_inner),), why
    return ClusterArguments(
        {name: value for name, (value, _) in told.items()},
        {name: reason for name, (_, reason) in told.items()},
        fits=size.fits,
        predicted_s=size.predicted_s,
    )


def _choose_settings(
    needs: Needs, size: ClusterSize, main: Workload
) -> tuple[dict[str, float | bool], list[str]]:
    """Return what workers are to have other than Dask's own settings, and why."""
    settings: dict[str, float | bool] = {}
    why = []
    if size.thresholds != DASK_THRESHOLDS:
        settings[f"{MEMORY}target"] = size.thresholds.target
        settings[f"{MEMORY}spill"] = size.thresholds.spill
        settings[f"{MEMORY}pause"] = size.thresholds.pause
        why.append(_explain_thresholds(needs, size))
    if _holds_gil(main) or size.threads_per_worker >= MANY_THREADS:
        settings[PROFILE] = False
        why.append(
            "Dask's profiler would take the GIL from the tasks a hundred times a "
            "second, for a page of the dashboard"
        )
    return settings, why


def _holds_gil(stage: Workload) -> bool:
    """Whether tasks compute, and hold the GIL meanwhile."""
    if is_waiting(stage):
        return False
    return stage.gil_fraction > stage.cpu_fraction / 2


def describe(stage: Workload) -> str:
    """Return in words what tasks do."""
    if is_waiting(stage):
        kind = "wait"
    elif _holds_gil(stage):
        kind = "compute holding the GIL"
    else:
        kind = "compute without the GIL"
    return (
        f"{stage.n_tasks} tasks of {format_seconds(stage.mean_s)} that {kind} "
        f"(CPU {stage.cpu_fraction:.0%}, GIL {stage.gil_fraction:.0%})"
    )


def _explain_workers(needs: Needs, size: ClusterSize, main: Workload) -> str:
    text = describe(main)
    if size.n_workers == 1:
        n = size.threads_per_worker
        reason = "one GIL will do for" if n > 1 else "there is room or use for"
        text += f": {reason} {n} at a time"
    else:
        text += (
            f": each process has a GIL of its own, for {needs.machine.n_cores} cores"
        )
    return f"{text}; {format_seconds(size.predicted_s)} predicted"


def _explain_threads(size: ClusterSize, main: Workload) -> str:
    n = size.threads_per_worker
    if n == 1:
        return "a second thread would wait for the GIL, a core or memory"
    if is_waiting(main):
        return f"they wait {1 - main.cpu_fraction:.0%} of the time, so {n} can at once"
    return "they leave the GIL to each other, and a thread costs less than a process"


def _explain_processes(needs: Needs, size: ClusterSize) -> str:
    if needs.processes is not None:
        return "as asked for"
    if not size.processes:
        return (
            "the tasks leave the GIL and the memory of this process alone, so nothing "
            "needs to be started or sent"
        )
    if size.n_workers > 1:
        return "threads of one process would share its GIL"
    return "so much memory, or time with the GIL, is better kept out of this process"


def _explain_memory(needs: Needs, size: ClusterSize) -> str:
    budget = format_bytes(needs.budget_bytes)
    if needs.limits.memory_limit_bytes is not None:
        whole = f"the {budget} that were asked for"
    else:
        whole = f"{budget} of what control groups, batch systems and this machine leave"
    if not size.processes:
        return (
            f"{whole}, and the {format_bytes(needs.caller_bytes)} that this process "
            "has already, since a worker in it is measured as a whole"
        )
    text = (
        whole if size.n_workers == 1 else f"one of {size.n_workers} shares of {whole}"
    )
    if size.memory_limit_bytes <= LEAST_LIMIT_BYTES:
        text += "; with less a worker can't even start"
    peak = format_bytes(needs.task_bytes)
    text += f"; a task takes up to {peak}, {size.threads_per_worker} at once"
    return text if size.fits else f"{text}, which does NOT fit: make partitions smaller"


def _explain_thresholds(needs: Needs, size: ClusterSize) -> str:
    running = format_bytes(size.threads_per_worker * needs.task_bytes)
    return (
        f"running tasks take {running} of {format_bytes(size.memory_limit_bytes)}: "
        f"with Dask's own {DASK_THRESHOLDS.target}, {DASK_THRESHOLDS.spill} and "
        f"{DASK_THRESHOLDS.pause} their peaks would spill results and pause the worker"
    )
