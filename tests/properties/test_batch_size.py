"""How many tasks a batch has, for any numbers."""

from __future__ import annotations

from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.core.batch_size import OVERHEAD_FRACTION, choose_batch_size

seconds = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-300, 1e-9])
targets = st.floats(1e-6, 1e6) | st.just(float("inf"))


@given(
    n_tasks=st.integers(0, 10**7),
    n_workers=st.integers(1, 1000),
    mean_s=seconds,
    overhead_s=seconds,
    target_batch_s=targets,
)
def test_size_has_bounds(
    n_tasks: int,
    n_workers: int,
    mean_s: float,
    overhead_s: float,
    target_batch_s: float,
) -> None:
    """A batch has at least one task and never more than an even share."""
    size = choose_batch_size(n_tasks, n_workers, mean_s, overhead_s, target_batch_s)
    assert isinstance(size, int)
    assert 1 <= size <= max(1, ceil(n_tasks / n_workers))


@given(
    n_tasks=st.integers(1, 10**6),
    n_workers=st.integers(1, 100),
    mean_s=seconds,
    overhead_s=seconds,
)
def test_number_of_batches_grows_with_the_logarithm(
    n_tasks: int, n_workers: int, mean_s: float, overhead_s: float
) -> None:
    """Half of what is left goes out in each round, so few rounds are needed."""
    n_left, n_batches = n_tasks, 0
    while n_left:
        n_left -= choose_batch_size(n_left, n_workers, mean_s, overhead_s)
        n_batches += 1
        assert n_left >= 0
    assert n_batches <= 2 * n_workers * (log2(n_tasks) + 2)


@given(
    n_tasks=st.integers(1, 10**6),
    n_workers=st.integers(1, 100),
    mean_s=st.floats(1e-7, 10),
    overhead_s=st.floats(1e-6, 1e-2),
    target_batch_s=targets,
)
def test_round_trip_is_worth_it_or_the_share_is_small(
    n_tasks: int,
    n_workers: int,
    mean_s: float,
    overhead_s: float,
    target_batch_s: float,
) -> None:
    """A round trip costs its fraction of the batch at most, where tasks suffice."""
    size = choose_batch_size(n_tasks, n_workers, mean_s, overhead_s, target_batch_s)
    is_share = size == max(1, ceil(n_tasks / n_workers))
    worth_s = overhead_s / OVERHEAD_FRACTION
    assert is_share or size * mean_s >= worth_s * (1 - 1e-9)


@given(
    n_tasks=st.integers(1, 10**6),
    n_workers=st.integers(1, 100),
    mean_s=st.floats(1e-6, 10),
    target_batch_s=st.floats(1e-3, 10),
)
def test_batch_takes_no_longer_than_its_target(
    n_tasks: int, n_workers: int, mean_s: float, target_batch_s: float
) -> None:
    """A batch of several tasks takes no longer than was asked for."""
    size = choose_batch_size(n_tasks, n_workers, mean_s, 0.0, target_batch_s)
    assert size == 1 or size * mean_s <= target_batch_s * (1 + 1e-9)


@given(
    n_tasks=st.integers(1, 10**6),
    n_workers=st.integers(1, 100),
    mean_s=st.floats(1e-6, 10),
    overhead_s=st.floats(1e-6, 1e-2),
    target_batch_s=st.floats(1e-3, 10),
    exponent=st.integers(-10, 10),
)
def test_size_has_no_unit(
    n_tasks: int,
    n_workers: int,
    mean_s: float,
    overhead_s: float,
    target_batch_s: float,
    exponent: int,
) -> None:
    """Scaling all times changes nothing."""
    scale = 2.0**exponent  # exact, so that rounding can't change the answer
    size = choose_batch_size(n_tasks, n_workers, mean_s, overhead_s, target_batch_s)
    assert size == choose_batch_size(
        n_tasks,
        n_workers,
        scale * mean_s,
        scale * overhead_s,
        scale * target_batch_s,
    )
