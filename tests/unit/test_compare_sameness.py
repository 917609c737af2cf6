"""Whether two results are the same."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from amorsize_dask.compare.sameness import are_same

NAN = float("nan")


class Plain:
    """Has no `==` of its own."""

    def __init__(self, x: Any) -> None:
        self.x = x


class Rude:
    """Can't be compared."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        raise TypeError("not with me")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value",
    [
        1,
        "text",
        NAN,
        [1, NAN, (NAN, {"a": NAN})],
        np.arange(10.0),
        np.array([1.0, np.nan]),
        np.zeros((0, 3)),
        np.float64(2.5),
        [np.arange(3), {"x": np.ones((2, 2))}],
        pd.DataFrame({"a": [1.0, np.nan]}),
        pd.Series([1, 2]),
        Plain(3),
        Rude([1, 2]),
        {1, 2, 3},
        b"bytes",
        None,
    ],
    ids=repr,
)
def test_a_value_and_its_copy(value: Any) -> None:
    """A value that went to another process and came back is the same."""
    assert are_same(value, pickle.loads(pickle.dumps(value)))
    assert not are_same(value, "another")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ([1, 2], [1, 3]),
        ([1, 2], [1, 2, 3]),
        ({"a": 1}, {"b": 1}),
        ({"a": NAN}, {"a": 1.0}),
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.array([0, 1, 3])),
        (np.ones(2), [1.0, 1.0]),
        (pd.Series([1, 2]), pd.Series([1, 3])),
        (Plain(3), Plain(4)),
        (Rude(1), Rude(2)),
        (lambda: 1, lambda: 2),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_different_values(one: Any, other: Any) -> None:
    """What differs anywhere isn't the same, and is no error."""
    assert not are_same(one, other)
    assert not are_same(other, one)
    assert not are_same([one], [other])


def test_read_only_arrays() -> None:
    """Whether an array may be written is no part of a result."""
    array = np.array([1.0, np.nan])
    fixed = array.copy()
    fixed.flags.writeable = False
    assert are_same(array, fixed)
