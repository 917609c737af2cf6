"""A plan, put together from what was measured and chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from amorsize_dask.core.model import Lane, Machine, Workload
from amorsize_dask.execute.pool import live_processes
from amorsize_dask.measure.load import LoadWatch
from amorsize_dask.measure.machine import leave_to_others, measure_machine
from amorsize_dask.planning.advice import advise
from amorsize_dask.planning.choice import RUN_S, Choice, choose_partitions
from amorsize_dask.planning.plan import Plan, SampledResults
from amorsize_dask.planning.pools import PoolChoice, find_start_method
from amorsize_dask.planning.profile import DiagnosticProfile
from amorsize_dask.planning.sample import Sample
from amorsize_dask.planning.sending import shorten_error


def make_profile(
    n_items: int | None,
    whole: Workload,
    sample: Sample,
    machine: Machine,
    choice: Choice,
    pool: PoolChoice,
) -> DiagnosticProfile:
    """Gather what was measured and predicted.

    Parameters
    ----------
    n_items : int or None
        Items, if their number is known.
    whole : Workload
        All items, each a task.
    sample : Sample
        What was tried.
    machine : Machine
        The host.
    choice : Choice
        What suits the work that is left.
    pool : PoolChoice
        What suits a pool.
    """
    serial_s = whole.n_tasks * whole.mean_s
    sizes = sample.in_sizes, sample.out_sizes
    pickle_s = sum(
        sum(size.seconds for size in found) / (sample.n_each * len(found))
        for found in sizes
        if found
    )
    return DiagnosticProfile(
        avg_execution_time=whole.mean_s,
        avg_pickle_time=pickle_s,
        spawn_cost=pool.spawn_s,
        estimated_speedup=find_speedup(serial_s, choice.predicted_s),
        n_sampled=sample.n_tried,
        n_failed=len(sample.failures),
        n_items=n_items,
        n_items_assumed=whole.n_tasks,
        first_call_s=sample.first_call_s,
        coefficient_of_variation=sample.variation,
        cpu_fraction=whole.cpu_fraction,
        gil_fraction=None
        if sample.statistics.gil_fraction is None
        else whole.gil_fraction,
        in_bytes=whole.in_bytes,
        out_bytes=whole.out_bytes,
        peak_bytes=whole.peak_bytes,
        n_inner_cores=sample.n_inner_cores,
        shared_state=sample.state,
        sampling_s=sample.seconds,
        serial_s=serial_s,
        lane_s={str(lane): seconds for lane, seconds in choice.lane_s.items()},
        n_cores=machine.n_cores,
        n_physical_cores=machine.n_physical_cores,
        memory_bytes=machine.memory_bytes,
        start_method=find_start_method(),
    )


def make_plan(
    profile: DiagnosticProfile,
    whole: Workload,
    choice: Choice,
    pool: PoolChoice,
    sample: Sample,
    target_s: float,
    max_workers: int | None,
    func: Callable[[Any], Any] | None,
    data: Any,
) -> Plan:
    """Put a plan together; for a collection `func` is ``None``."""
    error = next(map(shorten_error, sample.failures.values()), None)
    advice = advise(profile, choice, pool, error)
    size, n_partitions = choose_partitions(whole, choice.n_workers, target_s)
    overhead_s = RUN_S if choice.lane is not Lane.INLINE else 0.0
    return Plan(
        n_jobs=pool.n_jobs,
        chunksize=pool.chunksize,
        partition_size=size,
        npartitions=n_partitions,
        lane=str(choice.lane),
        n_workers=choice.n_workers,
        speedup=profile.estimated_speedup,
        pool_speedup=find_speedup(profile.serial_s, pool.predicted_s),
        predicted_s=choice.predicted_s + overhead_s,
        pool_predicted_s=pool.predicted_s,
        serial_s=profile.serial_s,
        reason=advice.reason,
        warnings=advice.warnings,
        func=func,
        data=data,
        results=SampledResults(sample.values, func, data),
        max_workers=max_workers,
        diagnostic_profile=profile,
    )


def find_machine(respect_load: bool) -> Machine:
    """Return the machine, without the cores that others keep busy if asked to."""
    machine = measure_machine()
    if not respect_load:
        return machine
    return leave_to_others(machine, _load_watch().look(live_processes()))


@cache
def _load_watch() -> LoadWatch:
    return LoadWatch()


def find_speedup(serial_s: float, seconds: float) -> float:
    """Return how many times as fast as a loop something is; 1 if it takes no time."""
    return serial_s / seconds if seconds and serial_s else 1.0
