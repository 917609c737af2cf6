"""What other users of the machine can see and touch of a run: nothing."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import dask
import psutil
import pytest
from dask import delayed
from troubles import fill_up

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.execute import spool_folder
from amorsize_dask.execute.spool_folder import SpoolFolder
from amorsize_dask.measure.kept_file import read_json, write_json

NOBODY = 65534

as_root = pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0, reason="takes one who may change users"
)


def test_nothing_listens() -> None:
    """Neither the caller nor a worker has a socket that others can connect to."""
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        dask.compute(*[delayed(fill_up)(i) for i in range(9)], scheduler=scheduler)
        me = psutil.Process()
        processes = [me, *me.children(recursive=True)]
        assert len(processes) >= 3
        for process in processes:
            assert not process.net_connections("inet")
            # Pairs without a name: no one can find them.
            assert not [c for c in process.net_connections("unix") if c.laddr]


def test_all_that_is_made_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders and files of a run, whatever the user's mask."""
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", tmp_path / "nowhere")
    for mask in (0o000, 0o777):
        before = os.umask(mask)
        try:
            with dask.config.set({"temporary-directory": str(tmp_path)}):
                folder = SpoolFolder()
            assert folder.place.write([bytes(200_000)]) is not None
        finally:
            os.umask(before)
        found = [*tmp_path.glob("amorsize-*"), *tmp_path.glob("amorsize-*/*")]
        assert len(found) == 3
        for path in found:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0
            assert path.is_dir() or path.name == "lock" or mode == 0o600
        folder.close()
        assert not any(tmp_path.iterdir())


def test_a_folder_in_which_anyone_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No spool files are made there: another one's could be put in their place."""
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", tmp_path / "nowhere")
    tmp_path.chmod(0o777)
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        folder = SpoolFolder()
        assert folder.place.folders == ()
        folder.close()
        tmp_path.chmod(0o1777)
        folder = SpoolFolder()
        assert len(folder.place.folders) == 1
        folder.close()
    tmp_path.chmod(0o700)


@as_root
def test_what_another_user_has_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and folders with names like ours are neither followed nor removed."""
    # pytest's own folder lets no one else in.
    shared = spool_folder.SHARED_MEMORY if spool_folder.SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="planted-", dir=shared) as name:
        _look_at_what_is_planted(Path(name), monkeypatch)


def _look_at_what_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_folder, "SHARED_MEMORY", tmp_path / "nowhere")
    monkeypatch.setattr("amorsize_dask.execute.spool_folder._swept", set())
    tmp_path.chmod(0o1777)
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "lock").touch()
    prefix = f"amorsize-{os.getuid()}"
    os.seteuid(NOBODY)
    try:
        (tmp_path / f"{prefix}-link").symlink_to(ours)
        (tmp_path / f"{prefix}-folder").mkdir()
        (tmp_path / f"{prefix}-folder" / "lock").symlink_to(ours / "lock")
    finally:
        os.seteuid(0)
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        folder = SpoolFolder()
        folder.close()
    assert (ours / "lock").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "ours",
        f"{prefix}-link",
        f"{prefix}-folder",
    }


# -- what is kept between runs ---------------------------------------------------------


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    """Links, folders and pipes are not read, and the latter not waited for."""
    real = tmp_path / "real"
    write_json(real, {"a": 1})
    assert read_json(real, 100) == {"a": 1}
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(OSError, match=r"regular file|a link|symbolic"):
            read_json(tmp_path / name, 100)
    real.write_text(json.dumps("!" * 1_000))
    with pytest.raises(ValueError, match="Unterminated"):
        read_json(real, 100)


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    """What it points to stays as it is."""
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "link").symlink_to(other)
    write_json(tmp_path / "link", 1)
    assert other.read_text() == "mine"
    assert read_json(tmp_path / "link", 100) == 1


@as_root
def test_files_of_another_user(tmp_path: Path) -> None:
    """They aren't read, even where one could."""
    path = tmp_path / "theirs"
    write_json(path, 1)
    os.chown(path, NOBODY, -1)
    with pytest.raises(PermissionError, match="another user"):
        read_json(path, 100)
