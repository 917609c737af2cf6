"""What data is, and which of its items are tried."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count, cycle, islice, repeat
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask import ArgumentError
from amorsize_dask.planning import data as planning_data
from amorsize_dask.planning.data import (
    Data,
    Unread,
    is_endless,
    is_indexable,
    list_all,
    spread,
)


@given(st.integers(0, 300))
def test_each_place_once(n: int) -> None:
    assert sorted(spread(n)) == list(range(n))


@given(st.integers(50, 10_000), st.integers(8, 20))
def test_the_first_few_lie_all_over(n: int, k: int) -> None:
    """No two neighbours are further apart than a few even steps."""
    places = sorted(islice(spread(n), k))
    gaps = [b - a for a, b in zip([0, *places], [*places, n], strict=True)]
    assert max(gaps) <= 3 * n / k + 1


@given(st.integers(2, 12))
def test_no_period_is_met(period: int) -> None:
    """Where every so manieth item is another one, the sample has both kinds."""
    places = islice(spread(1000), 100)
    n_special = sum(place % period == 0 for place in places)
    assert 0.4 * 100 / period < n_special < 2 * 100 / period + 1


class Bare:
    """The least that can be gone through."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> int:
        if place >= 3:
            raise IndexError
        return place


class Source:
    """Can be gone through several times, and has a length."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


@pytest.mark.parametrize(
    ("source", "items"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        ("ab", ["a", "b"]),
        ({1: "a", 2: "b"}, [1, 2]),
        ({1: "a"}.values(), ["a"]),
        ({7}, [7]),
        (deque([1, 2]), [1, 2]),
        (iter([1, 2]), [1, 2]),
        ((x for x in range(3)), [0, 1, 2]),
        (np.arange(3), [0, 1, 2]),
        (pd.Series([5, 6], index=[1, 0]), [5, 6]),
        (Bare(), [0, 1, 2]),
        (Source(), [0, 1, 2, 3]),
        ([], []),
        (iter([]), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_is_there_in_order(source: Any, items: list[Any]) -> None:
    """Whatever it is, its items are those that a loop would see."""
    data = Data(source)
    assert data.n_items == data.n_assumed == len(items)
    assert list(data.items) == items
    assert list(list_all(data.whole)) == items


def test_arrays_give_rows() -> None:
    data = Data(np.arange(6).reshape(3, 2))
    assert data.n_items == 3
    assert [row.tolist() for row in data.whole] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("source", [3, None, object(), np.array(3)])
def test_what_cannot_be_gone_through(source: Any) -> None:
    with pytest.raises(ArgumentError, match="data="):
        Data(source)


def test_labels_are_no_places() -> None:
    assert not is_indexable(pd.Series([5, 6], index=[1, 0]))
    assert not is_indexable({0: 1})


def test_an_endless_source_is_left_in_time() -> None:
    """It is read for moments, and all of it is there afterwards."""
    data = Data(iter(count()))
    assert data.n_items is None
    assert data.n_assumed == planning_data.UNKNOWN_ITEMS
    assert isinstance(data.whole, Unread)
    n_read = len(data.items)
    assert 0 < n_read < planning_data.MOST_LISTED
    seen = list(islice(iter(data.whole), n_read + 10))
    assert seen == list(range(n_read + 10))


def test_a_second_time_is_an_error() -> None:
    """A consumed generator would seem to be empty."""
    whole = Data(iter(count())).whole
    next(iter(whole))
    with pytest.raises(ArgumentError, match="gone through already"):
        iter(whole)


class Progress:
    """Hands out what another one yields, and has as many items as it was told."""

    def __init__(self, items: Any, n_items: int | None = None) -> None:
        self._items = items
        self._n_items = n_items

    def __len__(self) -> int:
        return self._n_items  # type: ignore[return-value]  # raises if it is none

    def __iter__(self) -> Iterator[int]:
        yield from self._items


@pytest.mark.parametrize("n_items", [None, 1000])
def test_what_hands_out_a_generator_loses_nothing(
    n_items: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun anew it would go on after the items that were read."""
    monkeypatch.setattr(planning_data, "READ_S", -1.0)
    data = Data(Progress(iter(range(1000)), n_items))
    assert 0 < len(data.items) < 1000
    assert data.n_items == n_items
    assert list_all(data.whole) == list(range(1000))
    with pytest.raises(ArgumentError, match="gone through already"):
        list_all(data.whole)


def test_what_can_be_gone_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been gone through to its end: then it is begun anew."""
    monkeypatch.setattr(planning_data, "READ_S", -1.0)
    whole = Data(Progress(range(1000), 1000)).whole
    for _ in range(3):
        assert list_all(whole) == list(range(1000))
    whole = Data(Progress(range(1000))).whole
    next(iter(whole))
    with pytest.raises(ArgumentError, match="gone through already"):
        iter(whole)


def test_a_length_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't say its length has none, and may be endless."""
    monkeypatch.setattr(planning_data, "MOST_LISTED", 1000)
    with pytest.raises(ArgumentError, match="after 1000 items"):
        list_all(Progress(count()))


class Attributes(dict[str, Any]):
    """Its keys are attributes, and a missing one raises what a missing key does."""

    __getattr__ = dict.__getitem__


def test_keys_that_are_attributes() -> None:
    data = Data(Attributes(a=1, b=2))
    assert data.whole == ["a", "b"]


def test_a_hint_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length that an iterator expects to have, for predictions alone."""
    monkeypatch.setattr(planning_data, "READ_S", -1.0)
    data = Data(iter(range(10_000)))
    assert data.n_items is None
    assert data.n_assumed == 10_000


def test_what_the_source_raises() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        Data(broken())


def test_what_never_ends() -> None:
    assert is_endless(count())
    assert is_endless(cycle([1]))
    assert is_endless(repeat(1))
    assert not is_endless(repeat(1, 3))
    for source in (count(), cycle([1]), repeat(1), Data(iter(count())).whole):
        with pytest.raises(ArgumentError, match="no end"):
            list_all(source)


def test_an_end_that_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has all items, none is lost."""
    monkeypatch.setattr(planning_data, "MOST_LISTED", 5)
    with pytest.raises(ArgumentError, match="after 5 items") as caught:
        list_all(x for x in range(8))
    assert list(caught.value.value) == list(range(8))
    assert list_all(x for x in range(4)) == list(range(4))
