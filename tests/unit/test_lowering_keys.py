from __future__ import annotations

from typing import Any

import pytest

from amorsize_dask.lowering import nest
from amorsize_dask.lowering.keys import flatten

VALUES = {"a": 1, ("b", 0): 2, 3: 4}


@pytest.mark.parametrize(
    ("keys", "nested", "flat"),
    [
        ("a", 1, ["a"]),
        (("b", 0), 2, [("b", 0)]),
        (["a"], (1,), ["a"]),
        ([["a", 3], [], [[("b", 0)]]], ((1, 4), (), ((2,),)), ["a", 3, ("b", 0)]),
        (["a", "a"], (1, 1), ["a", "a"]),
        ([], (), []),
    ],
)
def test_values_are_nested_as_keys_are(keys: Any, nested: Any, flat: Any) -> None:
    """Lists nest and become tuples; a tuple is a key."""
    assert nest(keys, VALUES.__getitem__) == nested
    assert flatten(keys) == flat


def test_a_missing_key_is_a_key_error() -> None:
    """Also deep in a nest."""
    with pytest.raises(KeyError, match="'c'"):
        nest(["a", [["c"]]], VALUES.__getitem__)
