"""Arrays that map a file, sent by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amorsize_dask.execute.wire import count_bytes, dump, load
from amorsize_dask.measure.mapped_array import BY_NAME_BYTES, goes_by_name
from amorsize_dask.measure.size import measure_pickled

N = BY_NAME_BYTES // 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    np.arange(3 * N, dtype="f8").tofile(path)
    return path


def send(array: Any) -> tuple[Any, int]:
    """Return what arrives, and how many bytes were sent."""
    parts = dump(array, shares_files=True)
    return load([bytearray(bytes(part)) for part in parts]), count_bytes(parts)


@pytest.mark.parametrize(
    "cut",
    [
        lambda a: a,
        lambda a: a[5:],
        lambda a: a[N:][7 : 2 * N],
        lambda a: a.reshape(3, N),
        lambda a: a.reshape(3, N).T,
        lambda a: a.reshape(3, N)[1:],
        lambda a: a.view("i8"),
    ],
)
def test_arrays_go_by_name(path: Path, cut: Any) -> None:
    """Whatever part of the file it is; what arrives maps the file."""
    array = cut(np.memmap(path, "f8", mode="r"))
    found, n_bytes = send(array)
    assert n_bytes < 1_000
    assert goes_by_name(array)
    assert isinstance(found, np.memmap)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found.flags.c_contiguous == array.flags.c_contiguous
    assert measure_pickled(array).n_bytes < 1_000


def test_files_with_a_head(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array may begin further on in the file, which has a relative name."""
    monkeypatch.chdir(path.parent)
    array = np.memmap(path.name, "f8", mode="r", offset=4096, shape=(N,))
    parts = dump(array[3:], shares_files=True)
    monkeypatch.chdir("/")
    assert load(parts)[0] == 4096 / 8 + 3
    assert len(load(parts)) == N - 3


def test_what_refers_to_them_is_sent_with_names(path: Path) -> None:
    """Such as a function that is sent by value, or a list."""
    array = np.memmap(path, "f8", mode="r")
    found, n_bytes = send([lambda i: array[i], {"a": array}])
    assert n_bytes < 10_000
    assert found[0](7) == 7.0
    assert np.array_equal(found[1]["a"], array)


@pytest.mark.parametrize(
    ("mode", "cut"),
    [
        ("r", lambda a: a[:10]),
        ("r", lambda a: a[::2]),
        ("r", lambda a: a + 0),
        ("r+", lambda a: a),
        ("c", lambda a: a),
    ],
    ids=["small", "strided", "computed", "for writing", "private"],
)
def test_arrays_that_go_by_value(path: Path, mode: Any, cut: Any) -> None:
    """What is small, in pieces, of its own, or could be written arrives as a copy."""
    array = cut(np.memmap(path, "f8", mode=mode))
    found, n_bytes = send(array)
    assert n_bytes >= array.nbytes
    assert not goes_by_name(array)
    assert np.array_equal(found, array)


def test_files_that_are_gone(path: Path) -> None:
    """What is mapped is still there, and goes by value."""
    array = np.memmap(path, "f8", mode="r")
    path.unlink()
    found, _ = send(array)
    assert np.array_equal(found, array)
    path.write_bytes(b"short")
    found, _ = send(array)
    assert np.array_equal(found, array)


def test_results_go_by_value(path: Path) -> None:
    """Whoever made the file may have removed it by the time that they are looked at."""
    array = np.memmap(path, "f8", mode="r")
    assert count_bytes(dump(array)) >= array.nbytes
