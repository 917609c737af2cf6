"""`optimize`: measure some items, and say how the rest is best run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any

from dask.base import is_dask_collection

from amorsize_dask.arguments import (
    check_count,
    check_flag,
    check_function,
    check_max_workers,
    check_seconds,
)
from amorsize_dask.core.model import Lane
from amorsize_dask.errors import ArgumentError
from amorsize_dask.measure.global_random import seeds_globally
from amorsize_dask.planning.allowed import find_lanes, find_limits
from amorsize_dask.planning.choice import choose_lane
from amorsize_dask.planning.collections import optimize_collection
from amorsize_dask.planning.data import Data
from amorsize_dask.planning.execution import choose_n_pieces
from amorsize_dask.planning.plan import Plan
from amorsize_dask.planning.pools import choose_pool, find_main_problem
from amorsize_dask.planning.putting_together import (
    find_machine,
    find_speedup,
    make_plan,
    make_profile,
)
from amorsize_dask.planning.sample import Sample, take_sample
from amorsize_dask.planning.sending import describe_function
from amorsize_dask.scheduler import AmorsizeScheduler, check_scheduler

#: Seconds that a chunk of a pool's should take at most.
CHUNK_S = 0.2

_MISSING: Any = object()


def optimize(
    func: Any,
    data: Iterable[Any] = _MISSING,
    sample_size: int | None = None,
    target_chunk_duration: float = CHUNK_S,
    max_workers: int | None = None,
    respect_load: bool = False,
    verbose: bool = False,
    return_diagnostics: bool = False,
    *,
    scheduler: AmorsizeScheduler | None = None,
) -> Plan:
    """Measure some items of work, and say how the rest is best run.

    Items from all over the data are tried in a thread of this process, until it is
    clear what they take or 5 % of the work is done (30 ms if that is more; at least one
    item). Nothing else is started. The results of these items are kept: `Plan.compute`
    doesn't run them again.

    Parameters
    ----------
    func : callable, or Dask collection
        Called with one item. Or a bag, a delayed value or a list of these, without
        `data`: then some items of real partitions go through the whole chain.
    data : iterable
        A sequence, or anything that can be gone through once. It may be endless.
    sample_size : int, optional
        Most items to try, >= 1. By default as many as that takes.
    target_chunk_duration : float, optional
        Seconds that a chunk of a pool's, or a partition of a bag's, should take at
        most, > 0.
    max_workers : int, optional
        Most threads or processes, >= 1. By default as many as pay.
    respect_load : bool, optional
        Leave the cores alone that others keep busy.
    verbose : bool, optional
        Tell of the plan on stderr.
    return_diagnostics : bool, optional
        Changes nothing: `Plan.diagnostic_profile` is always there.
    scheduler : AmorsizeScheduler, optional
        What is to run it, by default the ready instance. Worker processes that it has
        cost nothing.

    Returns
    -------
    Plan

    Raises
    ------
    ArgumentError
        For arguments that can't be used. Nothing has been read or called.
    BaseException
        What the data raises when it is read. What the function raises is part of the
        plan.
    RuntimeError
        If the system can't start another thread to try the function in.

    Examples
    --------
    >>> plan = optimize(abs, [-1, -2, -3])
    >>> plan.n_jobs, plan.lane, plan.compute()
    (1, 'inline', [1, 2, 3])
    """
    if sample_size is not None:
        sample_size = check_count("sample_size", sample_size, 1)
    target_s = check_seconds("target_chunk_duration", target_chunk_duration)
    max_workers = check_max_workers("max_workers", max_workers)
    respect_load = check_flag("respect_load", respect_load)
    scheduler = check_scheduler(scheduler)
    if data is _MISSING:
        if callable(func) and not is_dask_collection(func):
            expected = "expected the items to call the function with"
            raise ArgumentError("data", None, expected)
        plan = optimize_collection(
            func, sample_size, target_s, max_workers, respect_load, scheduler
        )
    else:
        check_function("func", func)
        plan = _optimize(
            func, data, sample_size, target_s, max_workers, respect_load, scheduler
        )
    if verbose:
        import click  # which takes longer than most samples

        click.echo(plan.explain(), err=True)
    return plan


def _optimize(
    func: Callable[[Any], Any],
    source: Iterable[Any],
    sample_size: int | None,
    target_s: float,
    max_workers: int | None,
    respect_load: bool,
    scheduler: AmorsizeScheduler,
) -> Plan:
    start = perf_counter()
    data = Data(source)
    sample = take_sample(func, data.items, data.n_assumed, sample_size)
    machine = find_machine(respect_load)
    if respect_load:
        max_workers = min(max_workers or machine.n_cores, machine.n_cores)
    limits = find_limits(scheduler, machine, max_workers)
    whole = sample.workload(data.n_assumed)
    n_pieces = choose_n_pieces(data.n_assumed, machine.n_cores, whole.mean_s)
    left = replace(
        whole,
        n_tasks=max(0, data.n_assumed - sample.n_tried),
        n_items_a_task=max(1.0, data.n_assumed / n_pieces),
    )
    function_bytes, unsendable, unpicklable = describe_function(func)
    unsendable = unsendable or sample.unsendable
    unpicklable = (
        unpicklable or unsendable or sample.unpicklable or find_main_problem(func)
    )
    lanes = find_lanes(
        limits,
        may_send=unsendable is None,
        is_alone=_is_alone(sample),
        may_share=not seeds_globally(func),
    )
    n_warm = scheduler.n_idle_workers
    choice, full = (
        choose_lane(
            work,
            machine,
            limits,
            lanes,
            n_warm=n_warm,
            n_inner_cores=sample.n_inner_cores,
        )
        for work in (left, replace(left, n_tasks=whole.n_tasks))
    )
    pool = choose_pool(
        whole,
        machine,
        limits,
        target_chunk_s=target_s,
        function_bytes=function_bytes,
        allowed=unpicklable is None
        and not _is_alone(sample)
        and sample.n_inner_cores == 1,
        may_wait=choice.lane is Lane.PROCESSES,
        each_s=sample.each_s,
    )
    serial_s = whole.n_tasks * whole.mean_s
    profile = make_profile(data.n_items, whole, sample, machine, choice, pool)
    profile = replace(
        profile,
        function_bytes=function_bytes,
        unpicklable=unpicklable,
        unsendable=unsendable,
        sampling_s=perf_counter() - start,
        kept_s=sample.called_s,
        estimated_speedup=find_speedup(serial_s, full.predicted_s),
    )
    return make_plan(
        profile, whole, choice, pool, sample, target_s, max_workers, func, data.whole
    )


def _is_alone(sample: Sample) -> bool:
    """Whether calls must stay in this process, one after the other."""
    return sample.state is not None or not sample.values
