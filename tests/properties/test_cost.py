"""The cost model for any workload on any machine."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import Costs, Lane, Machine, Prediction, Workload

lanes = st.sampled_from(list(Lane))
fractions = st.floats(0, 1)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw any workload that could be measured."""
    mean_s = draw(st.floats(1e-7, 1e3) | st.just(0.0))
    cpu_fraction = draw(fractions)
    return Workload(
        n_tasks=draw(st.integers(0, 10**6)),
        mean_s=mean_s,
        std_s=draw(st.floats(0, 3)) * mean_s,
        cpu_fraction=cpu_fraction,
        gil_fraction=draw(fractions) * cpu_fraction,
        crowded_s=draw(fractions) * (1 - cpu_fraction) * mean_s,
        in_bytes=draw(st.floats(0, 1e9)),
        out_bytes=draw(st.floats(0, 1e9)),
        peak_bytes=draw(st.floats(0, 1e10)),
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Draw any machine."""
    n_cores = draw(st.integers(1, 128))
    return Machine(
        n_cores=n_cores,
        n_physical_cores=draw(st.integers(1, n_cores)),
        memory_bytes=draw(st.integers(1, 10**12)),
        costs=Costs(
            boot_first_s=draw(st.floats(1e-3, 10)),
            boot_next_s=draw(st.floats(1e-3, 1)),
            round_trip_s=draw(st.floats(1e-5, 1e-2)),
            thread_start_s=draw(st.floats(1e-6, 1e-3)),
            hand_off_s=draw(st.floats(1e-6, 1e-3)),
            bytes_per_s=draw(st.floats(1e6, 1e10)),
        ),
    )


def scaled(workload: Workload, factor: float) -> Workload:
    """Return a workload whose times are all longer by a factor."""
    return replace(
        workload,
        mean_s=workload.mean_s * factor,
        std_s=workload.std_s * factor,
        crowded_s=workload.crowded_s * factor,
    )


def scaled_machine(machine: Machine, factor: float) -> Machine:
    """Return a machine whose costs are all higher by a factor."""
    costs = machine.costs
    return replace(
        machine,
        costs=Costs(
            boot_first_s=costs.boot_first_s * factor,
            boot_next_s=costs.boot_next_s * factor,
            round_trip_s=costs.round_trip_s * factor,
            thread_start_s=costs.thread_start_s * factor,
            hand_off_s=costs.hand_off_s * factor,
            bytes_per_s=costs.bytes_per_s / factor,
        ),
    )


@given(
    workloads(),
    machines(),
    lanes,
    st.integers(1, 128),
    st.integers(0, 128),
    st.booleans(),
    st.floats(1e-3, 10) | st.just(float("inf")),
)
@settings(max_examples=500)
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
@settings(max_examples=300)
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
@settings(max_examples=1000)
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
    dispatch_s = costs.hand_off_s if lane is Lane.THREADS else costs.round_trip_s
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
