"""Files that are written again for one message after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.execute import message_files
from amorsize_dask.execute.message_files import MAX_WAITING, MessageFiles, is_kept
from amorsize_dask.execute.spool import Spooled, SpoolPlace, read
from amorsize_dask.execute.wire import dump, load


@pytest.fixture
def place(tmp_path: Path) -> SpoolPlace:
    return SpoolPlace((str(tmp_path),))


def write(files: MessageFiles, place: SpoolPlace, value: object) -> Spooled:
    spooled = files.write(dump(value), place)
    assert spooled is not None
    return spooled


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=6))
def test_file_has_the_last_message(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """However long those before it were; all of them are in one file."""
    files, folder = MessageFiles(), tmp_path_factory.mktemp("files")
    for number, size in enumerate(sizes):
        value = number, bytes([number]) * size
        spooled = write(files, SpoolPlace((str(folder),)), value)
        assert load(read(spooled)) == value
        files.take_back(spooled)
    assert len(list(folder.iterdir())) == 1


def test_what_was_read_of_a_message_stays(place: SpoolPlace) -> None:
    """Its file is written again, and what came of the pickle is a copy."""
    files = MessageFiles()
    first = write(files, place, [b"first" * 100_000, bytearray(b"a" * 1000)])
    value = load(read(first))
    files.take_back(first)
    second = write(files, place, [b"other" * 100_000, bytearray(b"b" * 1000)])
    assert second.path == first.path
    assert value == [b"first" * 100_000, bytearray(b"a" * 1000)]


def test_file_that_is_being_read_is_not_written(place: SpoolPlace) -> None:
    """Only one that was given back."""
    files = MessageFiles()
    first, second = (write(files, place, b"x" * 1000) for _ in range(2))
    assert first.path != second.path


def test_file_that_stays_mapped_is_the_readers(place: SpoolPlace) -> None:
    """It may keep an array for as long as it likes."""
    files = MessageFiles()
    first = write(files, place, np.ones(10_000))
    assert not is_kept(first)
    files.take_back(first)
    assert write(files, place, b"x" * 1000).path != first.path


def test_large_file_is_the_readers(
    place: SpoolPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take that much memory between two messages."""
    monkeypatch.setattr(message_files, "REUSED_BYTES", 1000)
    assert not is_kept(write(MessageFiles(), place, b"x" * 1001))


def test_few_files_wait(place: SpoolPlace, tmp_path: Path) -> None:
    """The others are removed."""
    files = MessageFiles()
    written = [write(files, place, b"x" * 1000) for _ in range(MAX_WAITING + 3)]
    for spooled in written:
        files.take_back(spooled)
    assert len(list(tmp_path.iterdir())) == MAX_WAITING


def test_file_that_is_gone(place: SpoolPlace, tmp_path: Path) -> None:
    """A task has removed it: another one is made."""
    files = MessageFiles()
    first = write(files, place, b"x" * 1000)
    files.take_back(first)
    Path(first.path).unlink()
    second = write(files, place, b"y" * 1000)
    assert load(read(second)) == b"y" * 1000
    assert len(list(tmp_path.iterdir())) == 1


def test_file_without_room_to_grow(
    place: SpoolPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of the message is removed."""
    files = MessageFiles()
    first = write(files, place, b"x" * 1000)
    files.take_back(first)

    def fail(*_: object) -> Spooled:
        raise OSError("No space left on device")

    monkeypatch.setattr(message_files, "_write_again", fail)
    second = write(files, place, b"y" * 1000)
    assert second.path != first.path
    assert [str(path) for path in tmp_path.iterdir()] == [second.path]
