"""How many bytes a value is when it is pickled."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
from dask.sizeof import sizeof
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.execute.wire import count_bytes, dump
from amorsize_dask.measure import size
from amorsize_dask.measure.size import (
    SEARCHED_BYTES,
    estimate_bytes,
    measure_held,
    measure_pickled,
)


class ErrorOnPickle:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def plus(n: int) -> Callable[[int], int]:
    return lambda number: number + n


def of_main(number: int) -> int:
    return number + 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        list(range(100_000)),
        {"text": "é" * 100_000, "bytes": b"x" * 200_000},
        np.arange(100_000),
        [np.arange(10), np.arange(10_000)],
        np.arange(100_000)[::2],
        np.array(["a", None, 3], dtype=object),
        plus(3),
    ],
    ids=["none", "list", "dict", "array", "arrays", "strided", "objects", "closure"],
)
def test_size_is_that_of_what_is_sent(value: Any) -> None:
    """It is the size of what goes through a pipe, but for some bytes of framing."""
    size = measure_pickled(value)
    assert size.is_complete
    assert size.seconds > 0
    assert size.n_bytes == pytest.approx(count_bytes(dump(value)), abs=300)


@pytest.mark.parametrize(
    ("value", "loading_s"),
    [
        (b"x" * 1_000_000, 1.0),
        ("x" * 1_000_000, 1.0),
        ([b"x" * 50_000] * 2, 0.0),
        (b"x" * 100_000, 0.0),
        (np.zeros(125_000), 0.0),
        ((np.zeros(125_000), b"x" * 500_000), 0.5),
    ],
    ids=["bytes", "text", "the same twice", "little", "array", "both"],
)
def test_what_loading_takes(value: Any, loading_s: float) -> None:
    """What is in a large pickle is copied, arrays beside it aren't."""
    found = measure_pickled(value).loading_s(1e6)
    assert found == pytest.approx(loading_s, abs=0.01)


@pytest.mark.parametrize(
    "value", [None, True, 7, 1.5, "é", b"x" * 100_000, (1, [2, {"a": {3}}]), len, int]
)
def test_size_of_a_simple_value_is_exact(value: Any) -> None:
    """What has no buffers is as long as its pickle, to the byte."""
    assert measure_pickled(value).n_bytes == len(pickle.dumps(value, protocol=5))


def test_long_list_is_pickled_in_part() -> None:
    """Beyond the limit it stops; the size is a lower bound that is near the limit."""
    limit_bytes = 200_000
    size = measure_pickled(list(range(1_000_000)), limit_bytes)
    assert not size.is_complete
    assert limit_bytes < size.n_bytes < limit_bytes + 2 * SEARCHED_BYTES


def test_stopping_is_no_error_that_a_value_could_catch() -> None:
    """A pickle that is stopped isn't begun again with the other pickler."""
    n_pickled = 0

    class Counted:
        def __reduce__(self) -> Any:
            nonlocal n_pickled
            n_pickled += 1
            return str, (f"{n_pickled:1000}",)

    size = measure_pickled([Counted() for _ in range(1000)], limit_bytes=10_000)
    assert not size.is_complete
    assert 10 <= n_pickled <= 1.1 * SEARCHED_BYTES / 1000


def test_buffers_count_but_not_towards_the_limit() -> None:
    """A large array costs nothing to measure, so that it is measured whole."""
    array = np.zeros(1_000_000)
    size = measure_pickled({"first": array, "second": 2 * array}, limit_bytes=10_000)
    assert size.is_complete
    assert size.n_bytes == pytest.approx(2 * array.nbytes, rel=0.001)


def test_functions_of_main_count_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has another ``__main__``, so these are sent whole, and so they count."""
    by_reference = measure_pickled(of_main).n_bytes
    monkeypatch.setattr(of_main, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "of_main", of_main, raising=False)
    assert measure_pickled(of_main).n_bytes == len(cloudpickle.dumps(of_main))
    assert measure_pickled(of_main).n_bytes > 2 * by_reference


def test_name_of_main_within_long_text_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long strings aren't searched for names, and so aren't pickled twice."""
    monkeypatch.setattr(size, "_ByValue", None)
    text = "__main__" * SEARCHED_BYTES
    assert measure_pickled(text).n_bytes > len(text)


def test_iterator_is_not_consumed() -> None:
    """Measuring takes nothing from an iterator."""
    iterator = iter([1, 2, 3])
    assert next(iterator) == 1
    assert measure_pickled(iterator).is_complete
    assert list(iterator) == [2, 3]


def test_generator_cannot_be_pickled() -> None:
    """A generator has no size, and is still whole afterwards."""
    generator = (number for number in range(3))
    with pytest.raises(TypeError, match="generator"):
        measure_pickled(generator)
    assert list(generator) == [0, 1, 2]


@pytest.mark.parametrize("value", [threading.Lock(), sys.stderr])
def test_what_cannot_be_pickled_has_no_size(value: Any) -> None:
    """Where both picklers have an error, it arrives."""
    with pytest.raises(TypeError, match="cannot pickle"):
        measure_pickled([1, value])


@pytest.mark.parametrize("error", [KeyError("mine"), OSError(5, "mine")])
def test_error_of_the_value_arrives_as_itself(error: Exception) -> None:
    """What a value raises when it is pickled isn't wrapped."""
    with pytest.raises(type(error)) as caught:
        measure_pickled([1, ErrorOnPickle(error)])
    assert caught.value is error


def test_deep_nesting_is_an_error() -> None:
    """A value that is nested too deeply to be pickled says so."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((RecursionError, pickle.PicklingError)):
        measure_pickled(value)
    while value:  # one by one: taking it down at once would recurse as well
        value = value[0]


class Table:
    def __init__(self, n: int) -> None:
        self.columns = {"a": np.zeros(n), "b": np.zeros(n)}


class Slotted:
    __slots__ = ("data", "missing")

    def __init__(self, n: int) -> None:
        self.data = bytes(n)


class Inherited(Slotted):
    __slots__ = "own"

    def __init__(self, n: int) -> None:
        super().__init__(n // 2)
        self.own = bytes(n // 2)


class Raising:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no attributes")


N = 100_000


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [
        (Table(N), 16 * N),
        (Slotted(N), N),
        (Inherited(N), N),
        ([Slotted(N) for _ in range(30)], 30 * N),
        ({i: Slotted(N) for i in range(30)}, 30 * N),
        ((1, [Table(N), {"x": Slotted(N)}]), 17 * N),
        ([list(range(10)), np.zeros(N)], 8 * N),
    ],
)
def test_objects_count_with_their_attributes(value: Any, n_bytes: int) -> None:
    """Of which Dask's own estimate knows nothing."""
    assert measure_held(value) == pytest.approx(n_bytes, rel=0.02, abs=3000)


def test_what_items_share_counts_once() -> None:
    """As far as it is seen: one list of them would else be as large as many."""
    one = Slotted(N)
    assert measure_held([one] * 1000) < 120 * N


@pytest.mark.parametrize("value", [np, Table, len, plus(3), Raising(), object()])
def test_what_has_attributes_of_no_result(value: Any) -> None:
    """Modules, classes and functions are there anyway; what raises is no error."""
    assert measure_held(value) < 3000


PLAIN = st.one_of(
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.booleans(),
    st.text(),
    st.binary(),
    st.binary().map(bytearray),
    st.none(),
    st.just(int),
)
OTHER = st.one_of(
    st.frozensets(st.integers()),
    st.dictionaries(st.text(), st.integers(), max_size=10),
    st.builds(memoryview, st.binary()),
    st.just(np.zeros(10)),
    st.tuples(st.integers()),
)


@given(
    st.one_of(
        PLAIN,
        OTHER,
        st.lists(st.one_of(PLAIN, OTHER), max_size=10),
        st.lists(st.one_of(PLAIN, OTHER), max_size=10).map(tuple),
    )
)
def test_estimate_is_the_one_of_dask(value: Any) -> None:
    """Of more than ten items it looks at some by chance."""
    assert measure_held(value) == estimate_bytes(value) == sizeof(value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_estimate_of_many_items_is_the_one_of_dask(kind: Callable[..., Any]) -> None:
    """Where they are alike."""
    value = kind([b"12345"] * 1000)
    assert measure_held(value) == estimate_bytes(value) == sizeof(value)
