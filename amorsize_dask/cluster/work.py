"""What a cluster is wanted for, as workloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask.bag import from_sequence
from dask.base import is_dask_collection

from amorsize_dask.arguments import check_function
from amorsize_dask.cluster.probe import SAMPLE_TASKS, Probe, probe
from amorsize_dask.cluster.record import ClusterRecord
from amorsize_dask.core.model import Workload
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.record import RunRecord, StageRecord
from amorsize_dask.lowering import read
from amorsize_dask.lowering.partitions import find_partitions
from amorsize_dask.planning.plan import Plan

#: How Dask names the task that makes one list of all results of a bag.
_PUT_TOGETHER = "finalize"

_EXPECTED = (
    "expected a Dask collection, a list of delayed values, a function with a sequence "
    "of items for it, a plan, or the record of a run or of a cluster"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is known of some work."""

    #: At least one.
    stages: tuple[Workload, ...]
    #: Bytes of the results that are asked for.
    held_bytes: float = 0.0
    #: Tasks of which nothing is known.
    n_unknown: int = 0
    #: Why it can't be sent to another process; ``None``: it can.
    unsendable: str | None = None


def measure_work(work: Any) -> Work:
    """Return what work takes; what hasn't been measured is measured on a few tasks.

    Parameters
    ----------
    work : object
        See `amorsize_dask.cluster_kwargs`.

    Raises
    ------
    ArgumentError
        If it is none of these, or there is nothing to do. Nothing has run.
    BaseException
        What a task raises that is tried.
    """
    if isinstance(work, RunRecord):
        stages = tuple(
            _from_stage_record(stage)
            for stage in work.stages
            if not stage.name.startswith(_PUT_TOGETHER)
        )
        # The results of the last stage are taken to be what was asked for.
        found = Work(stages=stages, held_bytes=_all_bytes(stages[-1:]))
    elif isinstance(work, ClusterRecord):
        stages = work.list_all()
        found = Work(stages=stages, held_bytes=_all_bytes(stages[-1:]))
    elif _is_call(work):
        found = _try_function(*work)
    elif isinstance(work, Plan):
        found = _from_plan(work)
    else:
        try:
            dsk, keys = find_partitions(work)
        except ArgumentError as error:
            raise ArgumentError("work", work, _EXPECTED) from error
        found = _from_probe(probe(read(dsk, keys)))
    if not any(stage.n_tasks for stage in found.stages):
        raise ArgumentError("work", work, f"there is nothing to do; {_EXPECTED}")
    return found


def _is_call(work: Any) -> bool:
    """Whether it is a function and its data, and not two delayed values."""
    if not isinstance(work, tuple) or len(work) != 2:
        return False
    return callable(work[0]) and not is_dask_collection(work[0])


def _from_probe(found: Probe) -> Work:
    return Work(
        stages=found.stages,
        held_bytes=found.held_bytes,
        n_unknown=found.n_unknown,
        unsendable=found.unsendable,
    )


def _all_bytes(stages: Iterable[Workload]) -> float:
    """Bytes of all results of stages."""
    return sum(stage.n_tasks * stage.out_bytes for stage in stages)


def _from_stage_record(stage: StageRecord) -> Workload:
    # Where it wasn't measured, all of the computing is taken to hold the GIL.
    gil = stage.cpu_fraction if stage.gil_fraction is None else stage.gil_fraction
    return Workload(
        n_tasks=stage.n_tasks,
        mean_s=stage.mean_s,
        cpu_fraction=stage.cpu_fraction,
        gil_fraction=min(gil, stage.cpu_fraction),
        in_bytes=stage.in_bytes,
        out_bytes=stage.out_bytes,
        peak_bytes=stage.peak_bytes,
    )


def _from_plan(plan: Plan) -> Work:
    """Read what a plan rests on; its tasks are the items."""
    profile = plan.diagnostic_profile
    if profile is None:
        expected = "this plan has no diagnostic_profile, so nothing was measured"
        raise ArgumentError("work", plan, expected)
    gil = profile.gil_fraction
    gil = profile.cpu_fraction if gil is None else gil
    variation = profile.coefficient_of_variation or 0.0
    stage = Workload(
        n_tasks=profile.n_items_assumed,
        mean_s=profile.avg_execution_time,
        std_s=variation * profile.avg_execution_time,
        cpu_fraction=profile.cpu_fraction,
        gil_fraction=min(gil, profile.cpu_fraction),
        in_bytes=profile.in_bytes,
        out_bytes=profile.out_bytes,
        peak_bytes=profile.peak_bytes,
    )
    return Work(
        stages=(stage,),
        held_bytes=_all_bytes((stage,)),
        unsendable=profile.unsendable,
    )


def _try_function(func: Any, data: Any) -> Work:
    """Try a function with some items, which stay where they are."""
    check_function("work", func)
    if is_dask_collection(data):
        expected = "a collection is work by itself: give that which calls the function"
        raise ArgumentError("work", data, expected)
    if isinstance(data, Iterable) and not hasattr(data, "__len__"):
        expected = (
            "its items would be lost to you when some of them are tried; give it as a "
            "list, or optimize(func, data) first and give its plan"
        )
        raise ArgumentError("work", data, expected)
    if not hasattr(data, "__len__"):
        raise ArgumentError("work", data, _EXPECTED)
    n_items = len(data)
    if not n_items:
        return Work(stages=())
    items = _spread(data, min(n_items, SAMPLE_TASKS))
    bag = from_sequence(items, npartitions=len(items)).map(func)
    found = probe(read(*find_partitions(bag)))
    (stage,) = found.stages
    stages = (replace(stage, n_tasks=n_items),)
    return Work(
        stages=stages, held_bytes=_all_bytes(stages), unsendable=found.unsendable
    )


def _spread(data: Any, n: int) -> Sequence[Any]:
    """Return some items from all over the data."""
    if not hasattr(data, "__getitem__") or hasattr(data, "keys"):
        data = list(data)
    return [data[i * len(data) // n] for i in range(n)]
