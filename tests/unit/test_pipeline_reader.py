"""Sources are read no further than there is room for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from amorsize_dask.pipeline.reader import SequenceReader, ThreadReader, open_reader


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def readers() -> Iterator[list[ThreadReader]]:
    """Close readers, and wait for the end of their threads."""
    found: list[ThreadReader] = []
    yield found
    for reader in found:
        reader.close()


def test_sequences_are_read_here() -> None:
    reader = open_reader([1, 2, 3])
    assert isinstance(reader, SequenceReader)
    assert reader.n_left == 3
    assert reader.take(2, 0.0) == [(1, 0), (2, 0)]
    assert not reader.is_exhausted
    assert reader.take(2, 0.0) == [(3, 0)]
    assert reader.is_exhausted


def test_a_sequence_that_became_shorter() -> None:
    items = [1, 2, 3]
    reader = open_reader(items)
    items.clear()
    assert reader.take(2, 0.0) == []
    assert reader.is_exhausted


def test_what_a_sequence_raises_is_kept() -> None:
    """The items before it are given, and none after it."""
    items = deque([1, 2, 3])
    reader = open_reader(items)
    assert reader.take(1, 0.0) == [(1, 0)]
    items.append(4)
    assert reader.take(2, 0.0) == []
    assert reader.is_exhausted
    assert isinstance(reader.error, RuntimeError)


def test_nothing_is_read_unasked(readers: list[ThreadReader]) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for x in range(10):
            read.append(x)
            yield x

    reader = ThreadReader(source())
    readers.append(reader)
    time.sleep(0.02)
    assert read == []
    assert reader.take(3, 1e9) == []
    wait_until(lambda: len(read) == 3)
    time.sleep(0.02)
    assert len(read) == 3
    assert [x for x, _ in reader.take(2, 1e9)] == [0, 1]
    assert reader.n_left is None
    assert not reader.is_exhausted


def test_large_items_are_read_one_by_one(readers: list[ThreadReader]) -> None:
    """As soon as there is no more room."""
    read: list[int] = []

    def source() -> Iterator[bytes]:
        for x in range(10):
            read.append(x)
            yield bytes(1000)

    reader = ThreadReader(source())
    readers.append(reader)
    reader.take(5, 1500.0)
    wait_until(lambda: len(read) == 2)
    time.sleep(0.02)
    assert len(read) == 2
    ((_, n_bytes),) = reader.take(1, 1500.0)
    assert n_bytes >= 1000


def test_whoever_waits_is_woken(readers: list[ThreadReader]) -> None:
    news = threading.Event()
    reader = ThreadReader(iter([1]))
    reader.wake = news.set
    readers.append(reader)
    reader.take(5, 1e9)
    assert news.wait(5)
    wait_until(lambda: reader.take(5, 1e9) == [] and reader.is_exhausted)


def test_what_it_raises_is_kept(readers: list[ThreadReader]) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    reader = ThreadReader(source())
    readers.append(reader)
    reader.take(5, 1e9)
    wait_until(lambda: reader.error is not None)
    assert [x for x, _ in reader.take(5, 1e9)] == [1]
    assert reader.is_exhausted
    assert str(reader.error) == "broken"


def test_more_is_read_ahead_than_is_taken(readers: list[ThreadReader]) -> None:
    reader = ThreadReader(iter(range(100)))
    readers.append(reader)
    reader.take(2, 1e9, n_ahead=3)
    wait_until(lambda: len(reader._items) == 5)
    assert [item for item, _ in reader.take(2, 1e9, n_ahead=1)] == [0, 1]
    assert [item for item, _ in reader.take(9, 1e9)] == [2, 3, 4]
