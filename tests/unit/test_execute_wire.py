"""Values as bytes, and back."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.execute.wire import (
    COUNT,
    OUT_OF_BAND_BYTES,
    PIECE_BYTES,
    buffers_of,
    count_bytes,
    dump,
    frame,
    load,
    unpack_sizes,
)

#: Elements of an array of 8 bytes each that is large enough to travel beside.
N_LARGE = OUT_OF_BAND_BYTES // 8


def travel(value: Any) -> Any:
    """Send a value as a pipe would: the parts arrive in memory that can be written."""
    return load([bytearray(bytes(part)) for part in dump(value)])


class OwnError(Exception):
    pass


class Unpicklable:
    def __reduce__(self) -> Any:
        raise OwnError("no way")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    ),
)


@settings(max_examples=50)
@given(VALUES)
def test_plain_values_are_the_same_afterwards(value: Any) -> None:
    """Nested builtin values arrive equal and of the same types."""
    assert repr(travel(value)) == repr(value)


@pytest.mark.parametrize("n", [0, 1, N_LARGE - 1, N_LARGE, 10 * N_LARGE])
@pytest.mark.parametrize("dtype", ["f8", "i8", "M8[ns]"])
def test_arrays_are_writable(n: int, dtype: str) -> None:
    """Arrays of any size arrive equal, and may be changed in place."""
    array = np.arange(n).astype(dtype)
    other = travel(array)
    np.testing.assert_array_equal(other, array)
    assert other.dtype == array.dtype
    other[:] = 0
    assert not other.view("i8").any()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4 * N_LARGE).reshape(4, -1)[:, ::2],
        np.arange(4 * N_LARGE).reshape(4, -1).T,
        np.asfortranarray(np.arange(4 * N_LARGE).reshape(4, -1)),
        np.arange(N_LARGE)[::-1],
        np.broadcast_to(np.arange(3), (N_LARGE, 3)),
        np.array(["a", None, 3], dtype=object),
        np.array(3.0),
    ],
    ids=["strided", "transposed", "fortran", "reversed", "broadcast", "object", "0d"],
)
def test_arrays_of_any_layout(array: np.ndarray[Any, Any]) -> None:
    """What isn't contiguous arrives as well."""
    other = travel(array)
    np.testing.assert_array_equal(other, array)
    assert other.shape == array.shape


def test_array_that_must_not_be_written_to() -> None:
    """A large array that is read-only stays so."""
    array = np.arange(N_LARGE)
    array.flags.writeable = False
    assert not travel(array).flags.writeable


def test_large_buffers_are_not_copied() -> None:
    """The parts beside the pickle are the memory of the arrays themselves."""
    arrays = [np.arange(N_LARGE), np.arange(2 * N_LARGE)]
    head, *buffers = dump(arrays)
    assert len(buffers) == 2
    assert len(head) < N_LARGE
    for array, buffer in zip(arrays, buffers, strict=True):
        assert np.shares_memory(array, np.frombuffer(buffer, dtype=array.dtype))
    assert count_bytes([head, *buffers]) == len(head) + 3 * OUT_OF_BAND_BYTES


def test_many_small_buffers_are_one_part() -> None:
    """Buffers below the threshold stay inside of the pickle, however many."""
    arrays = [np.full(N_LARGE - 1, i) for i in range(1000)]
    assert len(dump(arrays)) == 1
    other = travel(arrays)
    assert [array[-1] for array in other] == list(range(1000))


def test_large_bytes_are_not_copied() -> None:
    """A large pickle has the user's own bytes among its pieces, and arrives whole."""
    values = [bytes(PIECE_BYTES), b"little", bytearray(b"x") * PIECE_BYTES]
    (pickled,) = dump(values)
    pieces = buffers_of(pickled)
    assert any(piece is values[0] for piece in pieces)
    assert any(piece is values[2] for piece in pieces)
    assert len(pickled) == sum(map(len, pieces)) == len(bytes(pickled))
    assert travel(values) == values


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * PIECE_BYTES), st.sampled_from([0, 0x80, 0x95])),
        max_size=4,
    )
)
@settings(max_examples=30)
def test_bytes_of_any_size(runs: list[tuple[int, int]]) -> None:
    """Whatever is copied and whatever isn't, it is the same afterwards."""
    values = [bytes([byte]) * size for size, byte in runs]
    assert travel(values) == values
    sent = b"".join(bytes(buffer) for buffer in frame(dump(values)))
    assert pickle.loads(sent[COUNT.size + 8 :]) == values


def test_a_script_s_class_in_a_large_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script's name is found in the last piece of a pickle, too."""
    main = importlib.import_module("__main__")
    thing = type("Thing", (), {"__module__": "__main__"})
    monkeypatch.setattr(main, "Thing", thing, raising=False)
    large = bytes(2 * PIECE_BYTES)
    by_value = bytes(dump([large, thing()])[0])
    assert len(buffers_of(dump([large, thing()])[0])) > 1
    monkeypatch.delattr(main, "Thing")
    assert type(pickle.loads(by_value)[1]).__name__ == "Thing"


def test_array_twice_is_sent_once() -> None:
    """What is the same object twice is that afterwards, and one part."""
    array = np.arange(N_LARGE)
    assert len(dump([array, array])) == 2
    first, second = travel([array, array])
    assert first is second


def test_lambdas_and_closures() -> None:
    """Functions without a name to import them by travel with what they close over."""
    offset = 10

    def shift(x: int) -> int:
        return x + offset

    assert travel(shift)(1) == 11
    assert travel(lambda x: shift(x) * 2)(1) == 22


def test_closure_over_a_large_array() -> None:
    """The array of a closure travels beside the pickle too, and is writable."""
    array = np.arange(N_LARGE)
    assert len(dump(lambda: array)) == 2
    other = travel(lambda: array)()
    np.testing.assert_array_equal(other, array)
    other[0] = 7
    assert array[0] == 0


def test_local_class_is_the_same_class_afterwards() -> None:
    """An object of a class without a name to import it by is still of that class."""

    class Local:
        pass

    assert type(travel(Local())) is Local


MAIN = """
import sys
from amorsize_dask.execute.wire import dump

OFFSET = 10

class Point:
    def __init__(self, x):
        self.x = x

def shift(x):
    return Point(x + OFFSET)

parts = dump((shift, Point(3)))
assert len(parts) == 1
sys.stdout.buffer.write(parts[0])
"""


def test_functions_of_a_script(tmp_path: Path) -> None:
    """What a script defines works in another process, whose script is another."""
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, timeout=60, check=True
    )
    shift, point = load([bytearray(done.stdout)])
    assert shift(1).x == 11
    assert point.x == 3
    assert type(point) is type(shift(1))


@pytest.fixture
def by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module that is registered to be pickled by value."""
    (tmp_path / "only_here.py").write_text(
        "class Thing:\n    pass\n\ndef make():\n    return Thing()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("only_here")
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)
    sys.modules.pop("only_here", None)


def test_module_pickled_by_value(by_value: Any) -> None:
    """Classes and functions of a registered module need no module where they arrive."""
    parts = [bytes(part) for part in dump((by_value.Thing(), by_value.make))]
    code = (
        "import sys; from amorsize_dask.execute.wire import load; "
        "thing, make = load([sys.stdin.buffer.read()]); "
        "assert type(thing) is type(make()); assert 'only_here' not in sys.modules"
    )
    assert len(parts) == 1
    subprocess.run([sys.executable, "-c", code], input=parts[0], timeout=60, check=True)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (threading.Lock(), TypeError),
        ((i for i in "abc"), TypeError),
        ([1, {"a": threading.Lock()}], TypeError),
        (Unpicklable(), OwnError),
        (sys._getframe(), TypeError),
    ],
    ids=["lock", "generator", "nested", "own error", "frame"],
)
def test_what_cannot_be_pickled(value: Any, error: type[Exception]) -> None:
    """The pickler's own error is raised, or that of the value."""
    with pytest.raises(error):
        dump(value)


def test_what_is_nested_too_deep() -> None:
    """Nesting beyond the limit is an error, not a crash."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((RecursionError, pickle.PicklingError)):
        dump(value)


@given(st.lists(st.binary(max_size=100)))
def test_frame_says_what_follows(parts: list[bytes]) -> None:
    """A frame is the number of parts, their sizes and the parts, also of no size."""
    data = b"".join(frame(parts))
    (n_parts,) = COUNT.unpack_from(data)
    end = COUNT.size + 8 * n_parts
    sizes = unpack_sizes(data[COUNT.size : end])
    assert sizes == tuple(len(part) for part in parts)
    assert data[end:] == b"".join(parts)
    assert count_bytes(parts) == len(data) - end


def test_empty_parts_are_not_handed_to_the_system() -> None:
    """No empty buffers are sent: the system may refuse them."""
    assert all(len(part) for part in frame([b"", bytearray(), memoryview(b""), b"a"]))
    assert frame([]) == [b"\0\0\0\0"]


def test_size_of_an_array_is_counted_in_bytes() -> None:
    """A view of larger elements counts all its bytes."""
    view = memoryview(np.arange(3))
    assert count_bytes([view, b"12"]) == 26
    assert unpack_sizes(frame([view])[0][COUNT.size :]) == (24,)


def test_code_keeps_its_file() -> None:
    """Functions by value, and those inside of them, name the file they are from."""

    def outer() -> Any:
        def inner() -> str:
            return sys._getframe().f_code.co_filename

        return inner

    assert travel(outer).__code__.co_filename == __file__
    assert travel(outer)()() == __file__
