"""The shape of a cluster, for any work on any machine."""

from __future__ import annotations

from dataclasses import replace

from cost_strategies import machines, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.cluster.arguments import make_arguments
from amorsize_dask.cluster.sizing import (
    DISTRIBUTED_WORKER_BYTES,
    Needs,
    choose_size,
    predict_s,
)
from amorsize_dask.core.model import Limits
from amorsize_dask.core.placement import MAX_WAITING_THREADS


@st.composite
def needs(draw: st.DrawFn) -> Needs:
    """Draw work, a machine, and what the user allows."""
    return Needs(
        stages=tuple(draw(st.lists(workloads(), min_size=1, max_size=4))),
        machine=draw(machines()),
        limits=Limits(
            max_workers=draw(st.none() | st.integers(1, 200)),
            memory_limit_bytes=draw(st.none() | st.integers(1, 10**12)),
        ),
        held_bytes=draw(st.floats(0, 1e12)),
        caller_bytes=draw(st.integers(0, 10**11)),
        processes=draw(st.none() | st.booleans()),
    )


@given(needs())
@settings(max_examples=200)
def test_running_tasks_fit_into_memory(needed: Needs) -> None:
    """Workers and tasks at their peaks fit into memory, or one task runs alone."""
    size = choose_size(needed)
    n_at_once = size.n_workers * size.threads_per_worker
    taken = n_at_once * needed.task_bytes
    if needed.processes is not False:
        taken += size.n_workers * DISTRIBUTED_WORKER_BYTES
    if size.fits:
        assert taken <= needed.budget_bytes
    else:
        assert n_at_once == 1


@given(needs())
@settings(max_examples=200)
def test_arguments_are_valid(needed: Needs) -> None:
    """Counts are counts, thresholds in order, limits kept, and all has a reason."""
    size = choose_size(needed)
    n_at_once = size.n_workers * size.threads_per_worker
    assert size.n_workers >= 1
    assert size.threads_per_worker >= 1
    assert size.n_inner_threads >= 1
    assert size.n_workers <= needed.machine.n_cores
    assert n_at_once <= max(MAX_WAITING_THREADS, needed.machine.n_cores)
    assert n_at_once <= (needed.limits.max_workers or n_at_once)
    assert n_at_once <= max(1, *(stage.n_tasks for stage in needed.stages), 1)
    assert size.processes or size.n_workers == 1
    if needed.processes is not None:
        assert size.processes is needed.processes
    chosen = size.thresholds
    assert 0 < chosen.target < chosen.spill < chosen.pause < 0.95
    arguments = make_arguments(needed, size, local_directory="/var/tmp")
    assert arguments.reasons.keys() == arguments.keys()
    assert all(arguments.reasons.values())
    assert str(arguments)


@given(needs())
@settings(max_examples=200)
def test_one_at_a_time_is_never_predicted_to_be_faster(needed: Needs) -> None:
    """No shape is chosen that is slower than one worker of one thread."""
    alone_s = predict_s(needed, 1, 1)
    assert choose_size(needed).predicted_s <= alone_s * (1 + 1e-9)


@given(needs(), st.floats(1, 100))
@settings(max_examples=200)
def test_more_memory_never_makes_a_cluster_slower(needed: Needs, factor: float) -> None:
    """With more memory the prediction is no longer, results being out of the way."""
    needed = replace(needed, held_bytes=0.0)
    machine, limits = needed.machine, needed.limits
    if limits.memory_limit_bytes is not None:
        n_bytes = int(factor * limits.memory_limit_bytes)
        limits = replace(limits, memory_limit_bytes=n_bytes)
    machine = replace(machine, memory_bytes=int(factor * machine.memory_bytes))
    more = replace(needed, machine=machine, limits=limits)
    before_s, after_s = choose_size(needed).predicted_s, choose_size(more).predicted_s
    # Of those that are within a hundredth, the fewest are taken.
    assert after_s <= before_s * 1.02
