"""What makes no sense has a clear error or answer in every function that takes it.

Nothing is lost and nothing is executed: a function that was given is never called for
arguments that are refused, and data that can be gone through once isn't begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest

from amorsize_dask import (
    ArgumentError,
    Pipeline,
    cluster_kwargs,
    compare_strategies,
    estimate_safe_batch_size,
    execute,
    from_sequence,
    optimize,
    optimize_streaming,
    predict_makespans,
    process_in_batches,
    validate_optimization,
)

Call = Callable[..., Any]

#: Each public function that takes a function and data.
CALLS: dict[str, Call] = {
    "optimize": optimize,
    "execute": execute,
    "from_sequence": lambda func, data, **more: from_sequence(data, func, **more),
    "process_in_batches": process_in_batches,
    "estimate_safe_batch_size": estimate_safe_batch_size,
    "optimize_streaming": optimize_streaming,
    "compare_strategies": compare_strategies,
    "validate_optimization": validate_optimization,
    "cluster_kwargs": lambda func, data: cluster_kwargs((func, data)),
    "predict_makespans": lambda func, data: predict_makespans((func, data), [1]),
    "Pipeline": lambda func, data: Pipeline([func]).run(data),
}

#: Arguments beside these that must be positive numbers, by function.
COUNTS = [
    ("optimize", "sample_size"),
    ("optimize", "max_workers"),
    ("execute", "sample_size"),
    ("execute", "max_workers"),
    ("from_sequence", "max_workers"),
    ("process_in_batches", "batch_size"),
    ("optimize_streaming", "max_workers"),
    ("validate_optimization", "predicted_n_jobs"),
    ("validate_optimization", "predicted_chunksize"),
    ("validate_optimization", "num_trials"),
]
DURATIONS = [
    ("optimize", "target_chunk_duration"),
    ("execute", "target_chunk_duration"),
    ("from_sequence", "target_chunk_duration"),
    ("optimize_streaming", "target_chunk_duration"),
    ("process_in_batches", "max_memory_percent"),
    ("estimate_safe_batch_size", "max_memory_percent"),
    ("validate_optimization", "predicted_speedup"),
]


class Once:
    """Items that can be gone through once, and whether that was begun."""

    def __init__(self) -> None:
        self.is_begun = False

    def __iter__(self) -> Iterator[int]:
        self.is_begun = True
        return iter(range(3))


def forbid(item: Any) -> Any:
    raise AssertionError(f"called with {item!r}")


def fail(item: Any) -> Any:
    raise LookupError(f"no {item!r}")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("func", [3, "abs", [abs]])
def test_what_can_not_be_called(name: str, func: Any) -> None:
    data = Once()
    with pytest.raises(ArgumentError):
        CALLS[name](func, data)
    assert not data.is_begun


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("data", [3, None, 1.5])
def test_what_can_not_be_gone_through(name: str, data: Any) -> None:
    with pytest.raises(ArgumentError):
        CALLS[name](forbid, data)


@pytest.mark.parametrize(("name", "argument"), COUNTS)
@pytest.mark.parametrize("value", [-1, 0, 1.5, float("nan"), "2", True])
def test_numbers_of_things(name: str, argument: str, value: Any) -> None:
    """They are whole and 1 or more."""
    data = Once()
    with pytest.raises(ArgumentError, match=argument):
        CALLS[name](forbid, data, **{argument: value})
    assert not data.is_begun


@pytest.mark.parametrize(("name", "argument"), DURATIONS)
@pytest.mark.parametrize("value", [-1.0, 0, float("nan"), "1", True])
def test_durations_and_shares(name: str, argument: str, value: Any) -> None:
    """They are above 0."""
    data = Once()
    with pytest.raises(ArgumentError, match=argument):
        CALLS[name](forbid, data, **{argument: value})
    assert not data.is_begun


@pytest.mark.parametrize("data", [[], (), iter([])])
def test_no_data_at_all(data: Any) -> None:
    """Where there is an answer it is given; for figures there is nothing to run."""
    plan = optimize(forbid, list(data))
    assert (plan.n_jobs, plan.compute(), plan.serial_s) == (1, [], 0.0)
    assert "no items" in plan.reason
    assert execute(forbid, data) == []
    assert from_sequence(data, forbid).compute(scheduler="sync") == []
    assert list(process_in_batches(forbid, data)) == []
    assert optimize_streaming(forbid, data).n_jobs == 1
    assert list(Pipeline([forbid]).run(data)) == []
    for name in ("compare_strategies", "validate_optimization"):
        with pytest.raises(ArgumentError, match="data"):
            CALLS[name](forbid, data)
    with pytest.raises(ArgumentError, match="sample_data"):
        estimate_safe_batch_size(forbid, data)


def test_a_function_that_always_fails() -> None:
    """A plan says so; whatever runs it raises what it raises, as itself."""
    plan = optimize(fail, range(100))
    assert plan.n_jobs == 1
    assert "LookupError" in plan.reason
    assert list(plan.data) == list(range(100))
    assert plan.diagnostic_profile is not None
    assert plan.diagnostic_profile.n_failed <= 5
    calls: list[Callable[[], Any]] = [
        plan.compute,
        lambda: list(plan.stream()),
        lambda: execute(fail, range(100)),
        lambda: process_in_batches(fail, range(100)),
        lambda: estimate_safe_batch_size(fail, range(100)),
        lambda: optimize_streaming(fail, range(100)),
        lambda: validate_optimization(fail, range(3), num_trials=1),
        lambda: list(Pipeline([fail]).run(range(100))),
        lambda: from_sequence(range(9), fail).map(fail).compute(scheduler="sync"),
    ]
    for call in calls:
        with pytest.raises(LookupError, match="no "):
            call()


def naturals() -> Iterator[int]:
    """Yield numbers without an end, as no one can see."""
    yield from count()


@pytest.mark.parametrize("make", [count, naturals])
def test_an_endless_generator(make: Callable[[], Iterator[int]]) -> None:
    """It is read as far as is needed, and no item of it is lost."""
    expected = list(range(20))
    plan = optimize(abs, make())
    assert list(islice(plan.data, 20)) == expected
    plan = optimize(abs, make())
    assert list(islice(plan.stream(), 20)) == expected
    assert list(islice(process_in_batches(abs, make(), 7), 20)) == expected
    assert list(islice(optimize_streaming(abs, make()).data, 20)) == expected
    assert list(islice(Pipeline([abs]).run(make()), 20)) == expected
    assert estimate_safe_batch_size(abs, make()) >= 1


@pytest.mark.parametrize("name", ["execute", "from_sequence", "compare_strategies"])
def test_what_needs_an_end(name: str) -> None:
    """What is known to have none is refused before a call."""
    with pytest.raises(ArgumentError, match="data"):
        CALLS[name](forbid, count())
