"""Stand-ins for Dask's functions do what these do."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask.bag import core, text
from fsspec.core import OpenFile, open_files

from amorsize_dask.execute import stand_ins

#: Makers, since iterators are used up by the first function.
PARTITIONS: list[Callable[[], Any]] = [
    lambda: [],
    lambda: [1, 2],
    lambda: [None],
    lambda: iter([]),
    lambda: iter([1, 2]),
    lambda: iter([None]),
    lambda: (x for x in range(3)),
    lambda: (),
    lambda: (1, 2),
    lambda: range(0),
    lambda: range(3),
    lambda: {},
    lambda: {1: 2},
    lambda: "",
    lambda: "ab",
    lambda: np.arange(3),
    lambda: np.arange(0),
    lambda: [iter([1]), iter([2, 3])],
    lambda: (iter([1]), iter([2, 3])),
    lambda: iter([iter([1]), iter([2, 3])]),
    lambda: [[], [1]],
    lambda: 5,
    lambda: None,
]


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    try:
        found = function(*args)
    except Exception as error:
        return type(error), str(error)
    if isinstance(found, np.ndarray):
        return np.ndarray, found.tolist()
    return type(found), found


def count(items: Any) -> int:
    return sum(1 for _ in items)


def count_in_lists(found: Any) -> Any:
    kind, value = found
    return kind, count(value) if kind is list else value


@pytest.mark.parametrize("make", PARTITIONS)
def test_reify(make: Callable[[], Any]) -> None:
    """Iterators become lists, also in lists; all else stays or fails as it does."""
    found, expected = outcome(stand_ins.reify, make()), outcome(core.reify, make())
    if isinstance(expected[1], tuple) and any(
        isinstance(item, Iterator) for item in expected[1]
    ):
        assert found[0] is expected[0]
    else:
        assert found == expected


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("function", [list, sum, len, max, count])
@pytest.mark.parametrize("make", PARTITIONS)
def test_empty_safe_apply(
    make: Callable[[], Any], function: Callable[[Any], Any], is_last: bool
) -> None:
    """Results and failures are those of Dask's, for whatever a partition is."""
    found = outcome(stand_ins.empty_safe_apply, function, make(), is_last)
    expected = outcome(core.empty_safe_apply, function, make(), is_last)
    if function is list:
        # Some are lists of iterators, of which no two are equal.
        found, expected = map(count_in_lists, (found, expected))
    assert found == expected


@pytest.mark.parametrize(
    "results",
    [[], [[1, 2], [3]], [[], [1]], ["ab", "cd"], [1, 2], [(1, 2), [3]], [{1: 2}], ()],
)
def test_finalize(results: Any) -> None:
    """The items of partitions come one after another; texts stay whole."""
    for kind in (list, tuple, iter):
        found = outcome(stand_ins.finalize, kind(results))
        assert found == outcome(core.finalize, kind(results))


class Text(str):
    pass


def test_finalize_texts_of_a_kind() -> None:
    """Classes below `str` are texts as well."""
    assert stand_ins.finalize([Text("ab")]) == core.finalize([Text("ab")])


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("function", [list, sum])
@pytest.mark.parametrize(
    "parts",
    [
        [],
        [core.no_result],
        [core.no_result, core.no_result],
        [1, core.no_result, 2],
        [0, None],
        [str, core.no_result],
    ],
)
def test_empty_safe_aggregate(
    parts: list[Any], function: Callable[[Any], Any], is_last: bool
) -> None:
    """What came of empty partitions is passed over."""
    assert outcome(
        stand_ins.empty_safe_aggregate, function, iter(parts), is_last
    ) == outcome(core.empty_safe_aggregate, function, iter(parts), is_last)


@pytest.mark.parametrize(
    "seq",
    [
        [],
        ["b", "a", "b", "c", "a", "b"],
        (1, True, 1.0, None, 2),
        {"x": 5, "y": 7},
        "text",
        [1, [2]],
        7,
        None,
    ],
)
def test_frequencies(seq: Any) -> None:
    """Counts, their order, and what can't be counted."""
    expected = outcome(core.frequencies, seq)
    assert outcome(stand_ins.frequencies, seq) == expected
    if isinstance(expected[1], dict):
        found = stand_ins.frequencies(iter(seq))
        assert list(map(repr, found.items())) == list(map(repr, expected[1].items()))


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [{"a": 1}],
        [{"a": 1, "b": 2}, {}, {"c": 3, "b": 4}, {"b": 1, "a": 1}],
        [{}, {"z": 1}, {1: 2, "z": 3}],
    ],
)
def test_merge_frequencies(counts: list[dict[Any, int]]) -> None:
    """Sums and their order, and none of the counts is changed."""
    before = [dict(count) for count in counts]
    expected = outcome(core.merge_frequencies, counts)
    for kind in (list, tuple, iter):
        found = outcome(stand_ins.merge_frequencies, kind(counts))
        assert found == expected
        assert list(found[1].items()) == list(expected[1].items())
    assert counts == before


TEXT = "one\ntwo\r\nthree\rf\xfcnf\n\nlast".encode()


def read(function: Callable[[Any], Iterator[str]], file: OpenFile) -> Any:
    return outcome(lambda: list(function(file)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"newline": ""},
        {"newline": "\r"},
        {"encoding": "latin1"},
        {"encoding": "ascii"},
        {"encoding": "ascii", "errors": "replace"},
        {"encoding": "no such encoding"},
        {"compression": "gzip"},
        {"protocol": "memory"},
    ],
    ids=str,
)
def test_lines_of_files(tmp_path: Path, options: dict[str, Any]) -> None:
    """Lines are as `fsspec` reads them, and so are the errors, wherever a file is."""
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(TEXT) if "compression" in options else TEXT)
    options = {"encoding": "utf-8", **options}
    for name in (path, tmp_path / "missing", tmp_path / "no[ne]*", tmp_path):
        (file,) = open_files([str(name)], "rt", expand=False, **options)
        expected = read(partial(text.file_to_blocks, False), file)
        assert read(stand_ins.read_lines, file) == expected
