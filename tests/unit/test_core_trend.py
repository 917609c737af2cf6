"""Whether seconds go with sizes, as far as the head of a run tells."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.core.trend import LEAST_COMPARED, MOST_COMPARED, find_trend

sizes = st.lists(st.integers(1, 1000), min_size=LEAST_COMPARED, max_size=80)


@given(sizes, st.floats(0, 1e-3), st.floats(1e-6, 1e-3))
def test_what_follows_a_line_is_continued(
    sizes: list[int], base_s: float, slope_s: float
) -> None:
    trend = find_trend([(size, base_s + slope_s * size) for size in sizes])
    mean = sum(sizes) / len(sizes)
    if trend is not None:
        found_s = trend.base_s + trend.slope_s * mean
        assert found_s == pytest.approx(base_s + slope_s * mean)
        assert trend.base_s >= 0
        assert trend.slope_s > 0


def test_one_that_was_held_up_changes_little() -> None:
    """A mean of squares would follow it."""
    pairs = [(float(size), 1e-3 * size) for size in range(1, 30)]
    pairs[3] = (4.0, 0.05)
    trend = find_trend(pairs)
    assert trend is not None
    assert trend.base_s + 100 * trend.slope_s == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("n", [10, 40, 1000])
def test_what_does_not_grow_with_size_is_no_trend(n: int) -> None:
    """Such as numbers that are only names of something."""
    chance = random.Random(n)
    pairs = [(float(i), 0.01 * chance.uniform(0.9, 1.1)) for i in range(1, n)]
    assert find_trend(pairs) is None


def test_what_cannot_be_told() -> None:
    rising = [(float(i), 1e-3 * i) for i in range(1, 20)]
    assert find_trend(rising[: LEAST_COMPARED - 1]) is None
    assert find_trend(rising[:LEAST_COMPARED]) is not None
    assert find_trend([(1.0, s) for _, s in rising]) is None
    assert find_trend([(size, -s) for size, s in rising]) is None
    # What all cost in any case hides what size does.
    assert find_trend([(size, 1.0 + 0.01 * s) for size, s in rising]) is None


def test_of_many_some_are_compared() -> None:
    """All over them, and no more than so many."""
    n = 20 * MOST_COMPARED
    pairs = [(float(i), 1e-3 * i) for i in range(1, n)]
    trend = find_trend(pairs)
    assert trend is not None
    assert trend.slope_s == pytest.approx(1e-3)
