"""The cost model for any workload on any machine."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import pytest
from cost_strategies import machines, scaled, scaled_machine, workloads
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import (
    CALLER_LANES,
    Lane,
    Machine,
    Prediction,
    Workload,
)

lanes = st.sampled_from(list(Lane))


@given(
    workloads(),
    machines(),
    lanes,
    st.integers(1, 128),
    st.integers(0, 128),
    st.booleans(),
    st.floats(1e-3, 10) | st.just(float("inf")),
)
@settings(max_examples=300, deadline=None)
def test_prediction_is_a_time(
    workload: Workload,
    machine: Machine,
    lane: Lane,
    n_workers: int,
    n_up: int,
    caller_helps: bool,
    target_batch_s: float,
) -> None:
    """A prediction is finite and not negative, and names what it is for."""
    prediction = predict(
        workload,
        machine,
        lane,
        n_workers,
        n_up=n_up,
        caller_helps=caller_helps,
        target_batch_s=target_batch_s,
    )
    assert isfinite(prediction.makespan_s)
    assert prediction.makespan_s >= 0
    assert prediction.lane is lane
    assert prediction.n_workers == (1 if lane is Lane.INLINE else n_workers)
    assert prediction.peak_bytes == prediction.n_workers * workload.peak_bytes


@given(
    workloads(),
    machines(),
    lanes,
    st.integers(1, 128),
    st.integers(0, 128),
    st.booleans(),
    st.floats(1e-3, 10),
    st.integers(-10, 10),
)
@settings(max_examples=200, deadline=None)
def test_scaling_all_times_scales_the_answer(
    workload: Workload,
    machine: Machine,
    lane: Lane,
    n_workers: int,
    n_up: int,
    caller_helps: bool,
    target_batch_s: float,
    exponent: int,
) -> None:
    """There is no constant with a unit in the model."""
    factor = 2.0**exponent  # exact, so that rounding can't change a batch size

    def predict_scaled(factor: float) -> Prediction:
        return predict(
            scaled(workload, factor),
            scaled_machine(machine, factor),
            lane,
            n_workers,
            n_up=n_up,
            caller_helps=caller_helps,
            target_batch_s=target_batch_s * factor,
        )

    assert predict_scaled(factor).makespan_s == pytest.approx(
        factor * predict_scaled(1.0).makespan_s, rel=1e-9
    )


@given(
    workloads(),
    machines(),
    lanes,
    st.integers(1, 128),
    st.integers(0, 128),
    st.booleans(),
    st.integers(1, 1000),
)
@settings(max_examples=400, deadline=None)
def test_more_tasks_never_take_less_time(
    workload: Workload,
    machine: Machine,
    lane: Lane,
    n_workers: int,
    n_up: int,
    caller_helps: bool,
    n_more: int,
) -> None:
    """More of the same takes as long or longer, but for what its batches save.

    A task more can mean batches of two instead of one, and half the round trips.
    """
    more = replace(workload, n_tasks=workload.n_tasks + n_more)
    less_s, more_s = (
        predict(
            w, machine, lane, n_workers, n_up=n_up, caller_helps=caller_helps
        ).makespan_s
        for w in (workload, more)
    )
    costs = machine.costs
    dispatch_s = costs.hand_off_s if lane is Lane.THREADS else costs.batch_s
    if lane is Lane.CLUSTER and machine.cluster is not None:
        dispatch_s = machine.cluster.batch_s
    saved_s = 0.0 if lane is Lane.INLINE else n_workers * dispatch_s
    assert more_s >= (less_s - saved_s) * (1 - 1e-9)


@given(workloads(), machines(), st.integers(1, 128))
def test_processes_are_at_best_as_fast_as_their_cores(
    workload: Workload, machine: Machine, n_workers: int
) -> None:
    """No prediction for workers that are up goes below what the cores can do."""
    prediction = predict(workload, machine, Lane.PROCESSES, n_workers, n_up=n_workers)
    total_s = workload.n_tasks * workload.mean_s * workload.cpu_fraction
    assert prediction.makespan_s >= total_s / machine.n_cores * (1 - 1e-9)


@given(workloads(), machines(), lanes, st.integers(1, 128), st.floats(0, 10))
def test_pickling_costs_what_it_takes(
    workload: Workload, machine: Machine, lane: Lane, n_workers: int, pack_s: float
) -> None:
    """Equal tasks end the later the longer it takes, and none before it is done.

    Those who share the memory don't pickle.
    """
    even = replace(workload, std_s=0.0)
    easy, hard = (
        predict(
            replace(even, pack_s=seconds), machine, lane, n_workers, n_up=n_workers
        ).makespan_s
        for seconds in (workload.pack_s, workload.pack_s + pack_s)
    )
    if lane in CALLER_LANES:
        assert hard == easy
    else:
        assert hard >= easy * (1 - 1e-9)
        assert hard >= workload.n_tasks * (workload.pack_s + pack_s) * (1 - 1e-9)


@given(workloads(), machines(), st.integers(1, 128))
def test_clusters_are_at_best_as_fast_as_their_cores(
    workload: Workload, machine: Machine, n_threads: int
) -> None:
    """No prediction for a cluster goes below its cores, its GILs and a round trip."""
    assert machine.cluster is not None
    cluster = machine.cluster
    prediction = predict(workload, machine, Lane.CLUSTER, n_threads)
    total_s = workload.n_tasks * workload.mean_s
    n_workers = min(n_threads, cluster.n_workers)
    least_s = cluster.round_trip_s + max(
        total_s * workload.cpu_fraction / cluster.n_cores,
        total_s * workload.gil_fraction / n_workers,
    )
    assert prediction.makespan_s >= least_s * (1 - 1e-9)
