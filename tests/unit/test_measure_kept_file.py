"""Small files that are kept between runs."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from amorsize_dask.measure.kept_file import read_json, write_json

posix = pytest.mark.skipif(os.name != "posix", reason="the system has no such files")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Also what isn't ASCII, and in a folder that wasn't there."""
    path = tmp_path / "a" / "b" / "file.json"
    write_json(path, ["α", {"β": 1.5}], indent=2)
    assert read_json(path, 100) == ["α", {"β": 1.5}]
    write_json(path, None)
    assert read_json(path, 100) is None
    assert [other.name for other in path.parent.iterdir()] == ["file.json"]


@posix
def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    """Neither the file nor its folder is open to others, whatever the umask is."""
    path = tmp_path / "a" / "file.json"
    before = os.umask(0)
    try:
        write_json(path, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    """It isn't read to its end, and so is no JSON."""
    path = tmp_path / "file"
    write_json(path, "12345")
    assert read_json(path, 7) == "12345"
    with pytest.raises(ValueError, match="Unterminated"):
        read_json(path, 6)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """It can't be decoded."""
    path = tmp_path / "file"
    write_json(path, "")
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_json(path, 5)


def link(path: Path) -> None:
    path.with_name("target").write_text("x")
    path.symlink_to(path.with_name("target"))


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def open_to_group(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o620)


def open_to_all(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o602)


@posix
@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (link, "link"),
        (link_to_nothing, "link"),
        (make_folder, "no regular file"),
        (make_pipe, "no regular file"),
        (open_to_group, "others may write"),
        (open_to_all, "others may write"),
    ],
)
def test_what_is_not_trusted(tmp_path: Path, plant: Any, why: str) -> None:
    """The reason is told, no pipe is waited for and no descriptor stays open."""
    path = tmp_path / "file"
    plant(path)
    with pytest.raises(PermissionError, match=why):
        read_json(path, 100)


@posix
def test_a_link_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't followed, though it wasn't there when it was looked for."""
    path = tmp_path / "file"
    link(path)
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        read_json(path, 100)


@posix
def test_a_file_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't trusted."""
    path = tmp_path / "file"
    write_json(path, "x")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match="another user"):
        read_json(path, 100)


@posix
def test_a_link_is_replaced(tmp_path: Path) -> None:
    """What it leads to stays as it is."""
    path = tmp_path / "file"
    link(path)
    write_json(path, "y")
    assert not path.is_symlink()
    assert path.with_name("target").read_text() == "x"


def test_the_old_file_stays_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing lies beside it."""
    path = tmp_path / "file"
    write_json(path, "old")

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            write_json(path, "new")
    assert read_json(path, 100) == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["file"]
