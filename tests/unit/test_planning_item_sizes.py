"""Sizes of items, and seconds that go with them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import planned_functions as functions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.planning.item_sizes import (
    expect,
    fit,
    measure_sizes,
    order_by_size,
)
from amorsize_dask.planning.sample import take_sample


class Image:
    """Like an array for NumPy, without what else one has."""

    @property
    def __array_interface__(self) -> Any:
        """Make a copy of it, as images do."""
        raise MemoryError


class Attributes(dict[str, Any]):
    """Its keys are attributes, and a missing one raises what a missing key does."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    ("items", "sizes"),
    [
        ([3, 1, 2], [3, 1, 2]),
        ([0.5, -1.5], [0.5, -1.5]),
        (["a", "bcd"], [1, 3]),
        ([b"", b"ab"], [0, 2]),
        ([[1], [1, 2]], [1, 2]),
        ([{}, {1: 2}], [0, 1]),
        ([np.zeros(2), np.zeros(4)], [16, 32]),
        ([Attributes(), Attributes(a=1)], [0, 1]),
    ],
)
def test_sizes_that_are_quickly_seen(items: Any, sizes: list[float]) -> None:
    assert measure_sizes(items) == dict(enumerate(sizes))


@pytest.mark.parametrize(
    "items",
    [
        [],
        [1, 1, 1],
        [1, "a"],
        [True, False],
        [None, None],
        [object(), object()],
        [1.0, float("nan")],
        [1, 10**400],
        [1.0, 1e308],
        [1.0, 1e-320],
        ["a\0b", 3],
        [Image(), Image()],
    ],
)
def test_items_without_a_size(items: Any) -> None:
    assert measure_sizes(items) == {}


def test_files_are_as_large_as_what_is_in_them(tmp_path: Path) -> None:
    paths = []
    for n in (5, 100, 20):
        paths.append(tmp_path / f"{n}.txt")
        paths[-1].write_bytes(bytes(n))
    assert measure_sizes(paths) == {0: 5, 1: 100, 2: 20}
    assert measure_sizes([str(path) for path in paths]) == {0: 5, 1: 100, 2: 20}
    assert measure_sizes([*paths, tmp_path / "none"]) == {}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_each_place_once(items: list[int]) -> None:
    order = order_by_size(len(items), measure_sizes(items))
    assert sorted(order) == list(range(len(items)))


def test_the_first_few_are_of_all_sizes() -> None:
    items = [20 if i % 10 == 5 else 1 for i in range(300)]
    order = list(islice(order_by_size(300, measure_sizes(items)), 12))
    assert 1 <= sum(items[place] == 20 for place in order) <= 3


@given(st.floats(0.001, 10), st.floats(0.001, 10))
def test_what_follows_a_line(base_s: float, slope_s: float) -> None:
    sizes = {place: float(place % 7 + (place == 50) * 100) for place in range(100)}
    seconds = {place: base_s + slope_s * sizes[place] for place in (0, 1, 2, 3, 5, 6)}
    line = fit(sizes, seconds)
    assert line is not None
    mean_s, std_s = expect(line, sizes)
    exact = [base_s + slope_s * size for size in sizes.values()]
    assert mean_s == pytest.approx(np.mean(exact))
    assert std_s == pytest.approx(np.std(exact), rel=1e-3)


def test_a_few_that_go_with_their_sizes() -> None:
    """Of long items there are no more; two are enough for what is in proportion."""
    sizes = {place: 1.0 + place % 10 for place in range(100)}
    line = fit(sizes, {4: 0.5, 7: 0.85})
    assert line is not None
    mean_s, _ = expect(line, sizes)
    assert mean_s == pytest.approx(0.55, rel=0.1)
    assert fit(sizes, {4: 0.5, 7: 0.5}) is None
    assert fit(sizes, {4: 0.5}) is None


def test_some_that_were_chosen_by_their_sizes() -> None:
    """The others are larger, so that their own mean would say too little of all."""
    sizes = {place: 1.0 + place for place in range(100)}
    seconds = {place: 0.1 * (1 + place % 2) for place in range(10)}
    assert fit(sizes, seconds) is None
    line = fit(sizes, seconds, is_certain=True)
    assert line is not None
    mean_s, _ = expect(line, sizes)
    assert mean_s == pytest.approx(sum(seconds.values()) / 55 * 50.5)
    assert fit({0: 0.0, 1: 1.0}, {0: 0.1}, is_certain=True) is None


def test_what_does_not() -> None:
    sizes = {place: float(place) for place in range(100)}
    assert fit(sizes, {0: 1.0, 50: 2.0}) is None
    assert fit(sizes, dict.fromkeys(range(10), 1.0)) is None
    assert fit(sizes, {place: float(place % 3) for place in range(30)}) is None
    assert fit(sizes, {place: 50.0 - place for place in range(30)}) is None


def test_rare_long_items_count_as_many_as_they_are() -> None:
    """The mean is that of all, whichever of them were tried."""
    items = [0.1 if i % 10 == 5 else 0.01 for i in range(1000)]
    sample = take_sample(functions.nap, items, len(items))
    assert sample.by_size is not None
    assert sample.mean_s == pytest.approx(sum(items) / len(items), rel=0.5)
