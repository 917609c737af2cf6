"""Where stages are placed, for any workload, machine and limits."""

from __future__ import annotations

from dataclasses import replace

from cost_strategies import machines, scaled, scaled_machine, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import Lane, Limits, Machine, Placement, Workload
from amorsize_dask.core.placement import MAX_WAITING_THREADS, WORKER_BYTES, place

lane_sets = st.sets(st.sampled_from(list(Lane)), min_size=1)
ups = st.fixed_dictionaries({lane: st.integers(0, 64) for lane in Lane})


def place_in(
    workload: Workload,
    machine: Machine,
    lanes: set[Lane],
    ups: dict[Lane, int] | None = None,
    **limits: int | float | None,
) -> Placement:
    """Place a workload in one of some lanes."""
    allowed = Limits(lanes=tuple(lanes), **limits)  # type: ignore[arg-type]
    return place(workload, machine, allowed, lanes=lanes, n_up=ups)


@given(workloads(), machines(), lane_sets, ups)
@settings(deadline=None, max_examples=100)
def test_parallel_is_never_predicted_to_be_slower_than_inline(
    workload: Workload, machine: Machine, lanes: set[Lane], ups: dict[Lane, int]
) -> None:
    """Where inline is allowed, nothing that is predicted to be slower is chosen."""
    placement = place_in(workload, machine, lanes | {Lane.INLINE}, ups)
    inline = predict(workload, machine, Lane.INLINE, 1)
    assert placement.predicted is not None
    assert placement.predicted.makespan_s <= inline.makespan_s
    assert placement.predicted.lane is placement.lane
    assert placement.predicted.n_workers == placement.n_workers


@given(
    workloads(),
    machines(),
    lane_sets,
    st.sampled_from([None, 1, 2, 7]),
    st.sampled_from([None, 1, 10**8, 10**10]),
)
@settings(deadline=None, max_examples=100)
def test_limits_are_kept(
    workload: Workload,
    machine: Machine,
    lanes: set[Lane],
    max_workers: int | None,
    memory_limit_bytes: int | None,
) -> None:
    """No lane that isn't allowed, and never more workers than limits and work allow."""
    placement = place_in(
        workload,
        machine,
        lanes,
        max_workers=max_workers,
        memory_limit_bytes=memory_limit_bytes,
    )
    assert placement.lane in lanes
    assert 1 <= placement.n_workers <= placement.n_most
    assert placement.n_workers <= max(1, workload.n_tasks)
    assert machine.cluster is not None
    n_slots = max(machine.n_cores, MAX_WAITING_THREADS)
    if placement.lane is Lane.CLUSTER:
        n_slots = machine.cluster.n_threads
    assert placement.n_most <= n_slots
    if max_workers is not None:
        assert placement.n_most <= max_workers
    budget = memory_limit_bytes or machine.memory_bytes
    if placement.lane is Lane.CLUSTER:
        # The limit is for what is held here.
        budget = machine.cluster.memory_bytes
    needed = workload.peak_bytes
    if placement.lane is Lane.PROCESSES:
        needed += WORKER_BYTES
    # One task must run, whatever it takes.
    assert placement.n_most == 1 or placement.n_most * needed <= budget


@given(
    workloads(),
    machines(),
    st.sampled_from([Lane.THREADS, Lane.PROCESSES]),
    ups,
    st.integers(1, 10**11),
    st.integers(0, 10**11),
)
@settings(deadline=None, max_examples=200)
def test_more_memory_never_means_fewer_workers(
    workload: Workload,
    machine: Machine,
    lane: Lane,
    ups: dict[Lane, int],
    budget: int,
    more: int,
) -> None:
    """Within one lane, more memory never means fewer workers."""
    n_workers = [
        place_in(workload, machine, {lane}, ups, memory_limit_bytes=limit).n_workers
        for limit in (budget, budget + more)
    ]
    assert n_workers[0] <= n_workers[1]


@given(workloads(), machines(), lane_sets, ups, st.integers(-10, 10))
@settings(deadline=None, max_examples=100)
def test_scaling_all_times_changes_nothing(
    workload: Workload,
    machine: Machine,
    lanes: set[Lane],
    ups: dict[Lane, int],
    exponent: int,
) -> None:
    """There is no constant with a unit of time in the decision."""
    factor = 2.0**exponent  # exact, so that rounding can't change the choice
    first, second = (
        place_in(
            scaled(workload, f),
            scaled_machine(machine, f),
            lanes,
            ups,
            target_batch_s=0.1 * f,
        )
        for f in (1.0, factor)
    )
    assert (first.lane, first.n_workers) == (second.lane, second.n_workers)


@given(workloads(), machines(), lane_sets)
@settings(deadline=None, max_examples=50)
def test_lone_task_gets_one_worker(
    workload: Workload, machine: Machine, lanes: set[Lane]
) -> None:
    """One task needs one worker, and inline if that is allowed and has the GIL."""
    lone = replace(workload, n_tasks=1, crowded_s=0.0)
    placement = place_in(lone, machine, lanes)
    assert placement.n_workers == 1
    if Lane.INLINE in lanes:
        assert placement.lane is Lane.INLINE
