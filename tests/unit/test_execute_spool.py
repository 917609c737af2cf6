"""Spool files: written by one process, mapped by another, and gone afterwards."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from dask import config
from hypothesis import given
from hypothesis import strategies as st

from amorsize_dask.execute import spool_folder
from amorsize_dask.execute.spool import (
    ALIGNMENT,
    Spooled,
    SpoolPlace,
    read,
    remove,
)
from amorsize_dask.execute.spool_folder import SpoolFolder
from amorsize_dask.execute.wire import count_bytes, dump, load


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Return what takes the place of shared memory, and of the folder on disk."""
    shared, disk = tmp_path / "shared", tmp_path / "disk"
    shared.mkdir()
    disk.mkdir()
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", shared)
    monkeypatch.setattr(spool_folder, "_swept", set())
    with config.set({"temporary-directory": str(disk)}):
        yield [shared, disk]


@pytest.fixture
def folder(roots: list[Path]) -> Iterator[SpoolFolder]:
    made = SpoolFolder()
    yield made
    made.close()
    assert not any(path for root in roots for path in root.iterdir())


def write(place: SpoolPlace, value: Any) -> Spooled:
    spooled = place.write(dump(value))
    assert spooled is not None
    return spooled


# -- what is in them -------------------------------------------------------------------


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_parts_come_back_as_they_were(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever their sizes; each begins at an aligned place."""
    place = SpoolPlace((str(tmp_path_factory.mktemp("spool")),))
    parts = [bytes([i]) * (size + (i == 0)) for i, size in enumerate(sizes)]
    spooled = place.write(parts)
    assert spooled is not None
    assert [bytes(part) for part in read(spooled)] == parts
    assert spooled.n_bytes == count_bytes(parts)


def test_arrays_are_writable_and_ones_own(folder: SpoolFolder) -> None:
    """Who changes what was read changes it for no one else."""
    array = np.arange(50_000.0)
    spooled = write(folder.place, {"a": array})
    first, second = (load(read(spooled))["a"] for _ in range(2))
    assert first.ctypes.data % ALIGNMENT == 0
    first[:] = -1
    np.testing.assert_array_equal(second, array)
    np.testing.assert_array_equal(load(read(spooled))["a"], array)


def test_what_was_read_outlives_the_file(folder: SpoolFolder) -> None:
    """So it can be removed as soon as it was read."""
    array = np.arange(50_000)
    spooled = write(folder.place, array)
    found = load(read(spooled))
    remove(spooled)
    remove(spooled)
    np.testing.assert_array_equal(found, array)
    with pytest.raises(FileNotFoundError):
        read(spooled)


def test_a_file_that_was_cut_short(folder: SpoolFolder) -> None:
    """It is an error, and no crash when the memory behind it is touched."""
    spooled = write(folder.place, np.arange(50_000))
    os.truncate(spooled.path, 1000)
    with pytest.raises(ValueError, match="shorter"):
        read(spooled)


# -- where they are --------------------------------------------------------------------


def test_shared_memory_comes_first(folder: SpoolFolder, roots: list[Path]) -> None:
    """Disk is for what has no room there."""
    spooled = write(folder.place, np.arange(50_000))
    assert Path(spooled.path).is_relative_to(roots[0])


def test_what_has_no_room_goes_to_disk(
    folder: SpoolFolder, roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the 64 MB of shared memory that a container has."""
    real = os.statvfs

    def statvfs(path: str) -> Any:
        found = list(real(path))
        if Path(path).is_relative_to(roots[0]):
            found[1], found[4] = 1, 64_000_000  # bytes of a block, blocks that are free
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert Path(write(folder.place, bytes(31_000_000)).path).is_relative_to(roots[0])
    assert Path(write(folder.place, bytes(33_000_000)).path).is_relative_to(roots[1])


@pytest.mark.parametrize("n_bad", [1, 2])
def test_a_disk_that_is_full(
    folder: SpoolFolder, roots: list[Path], monkeypatch: pytest.MonkeyPatch, n_bad: int
) -> None:
    """The next place is taken, or none; nothing half-written stays behind."""
    real = os.write
    bad = [str(root) for root in roots[:n_bad]]

    def write_some(fd: int, data: Any) -> int:
        if any(os.readlink(f"/proc/self/fd/{fd}").startswith(root) for root in bad):
            real(fd, data[:10])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write_some)
    spooled = folder.place.write(dump(np.arange(50_000)))
    if n_bad == 1:
        assert spooled is not None
        assert Path(spooled.path).is_relative_to(roots[1])
    else:
        assert spooled is None
    for place in folder.place.folders[:n_bad]:
        assert [path.name for path in Path(place).iterdir()] == ["lock"]


def test_nowhere_to_write() -> None:
    """Then the caller and the worker have their pipe."""
    assert SpoolPlace().write(dump(1)) is None
    assert SpoolPlace(("/nonexistent",)).write(dump(1)) is None


def test_temporary_files_that_are_kept_in_memory(
    roots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what should go to disk is where files last, if the user hasn't chosen."""
    lasting = tmp_path / "lasting"
    lasting.mkdir()
    mounts = {tmp_path: "ext4", roots[1]: "tmpfs"}
    monkeypatch.setattr(
        psutil,
        "disk_partitions",
        lambda all: [
            SimpleNamespace(mountpoint=str(path), fstype=kind)
            for path, kind in mounts.items()
        ],
    )
    monkeypatch.setattr(spool_folder, "LASTING", lasting)
    monkeypatch.setattr(tempfile, "tempdir", str(roots[1] / "deeper"))
    (roots[1] / "deeper").mkdir()
    spool_folder._is_in_memory.cache_clear()
    with config.set({"temporary-directory": None}):
        folder = SpoolFolder()
        assert [Path(f).parent for f in folder.place.folders] == [roots[0], lasting]
        assert [Path(f).parent for f in folder.place.on_disk.folders] == [lasting]
        folder.close()
    with config.set({"temporary-directory": str(roots[1])}):
        folder = SpoolFolder()
        assert folder.place.on_disk.folders == ()
        folder.close()
    spool_folder._is_in_memory.cache_clear()


# -- whose they are --------------------------------------------------------------------


def test_they_are_private(folder: SpoolFolder) -> None:
    """No one else may enter the folder or read a file, or guess its name."""
    spooled = [write(folder.place, bytes(200_000)) for _ in range(2)]
    for path in (*folder.place.folders, *(s.path for s in spooled)):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0
    assert len({Path(s.path).name for s in spooled}) == 2
    assert all(len(Path(s.path).name) >= 20 for s in spooled)


def test_a_link_in_the_place_of_a_file_is_not_followed(
    folder: SpoolFolder, tmp_path: Path
) -> None:
    """Not to read and not to write."""
    spooled = write(folder.place, bytes(200_000))
    other = tmp_path / "other"
    Path(spooled.path).rename(other)
    Path(spooled.path).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        read(spooled)


# -- what is left of them --------------------------------------------------------------


def test_nothing_is_left(roots: list[Path]) -> None:
    """When a run is over, whoever has read what."""
    folder = SpoolFolder()
    write(folder.place, bytes(200_000))
    folder.close()
    folder.close()
    assert not any(path for root in roots for path in root.iterdir())


LEAVE = """
import sys, os
from pathlib import Path
from dask import config
from amorsize_dask.execute import spool, spool_folder
spool_folder.SHARED_MEMORY = Path(sys.argv[1])
config.set({"temporary-directory": sys.argv[2]})
folder = spool_folder.SpoolFolder()
folder.place.write([bytes(200_000)])
os._exit(1)
"""


def test_what_a_killed_process_left_the_next_one_removes(roots: list[Path]) -> None:
    """But not what belongs to one that lives, or what isn't ours."""
    living = SpoolFolder()
    subprocess.run([sys.executable, "-c", LEAVE, *map(str, roots)], check=False)
    left = {path for root in roots for path in root.iterdir()}
    assert len(left) == 4
    strange = [root / f"amorsize-{os.getuid()}-file" for root in roots]
    link = roots[0] / f"amorsize-{os.getuid()}-link"
    for path in strange:
        path.touch()
    link.symlink_to(roots[1])
    spool_folder._swept.clear()
    other = SpoolFolder()
    kept = {Path(folder) for folder in (*living.place.folders, *other.place.folders)}
    assert {path for root in roots for path in root.iterdir()} == {
        *kept,
        *strange,
        link,
    }
    living.close()
    other.close()


def test_a_folder_that_is_being_made_is_left_alone(roots: list[Path]) -> None:
    """Its maker may be about to lock it; an old one has no maker any more."""
    fresh, old = (roots[0] / f"amorsize-{os.getuid()}-{n}" for n in ("new", "old"))
    for path in (fresh, old):
        path.mkdir()
    os.utime(old, (0, 0))
    SpoolFolder().close()
    assert list(roots[0].iterdir()) == [fresh]
