"""Small JSON files that are kept between runs: read with distrust, replaced whole.

They are data: reading one can't run code. One that another user has made, or could have
changed, isn't read.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import platformdirs

#: A link isn't followed, and a pipe that nobody writes to isn't waited for.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def cache_folder(name: str) -> Path:
    """Return a folder of this package in the user's cache folder.

    Raises
    ------
    FileNotFoundError
        If the user has none.
    """
    folder = Path(platformdirs.user_cache_dir("amorsize")) / name
    if not folder.is_absolute():
        # A user without a home: this would be a folder named "~" in this one.
        raise FileNotFoundError(f"there is no cache folder, only {folder}")
    return folder


def read_json(path: Path, most_characters: int) -> object:
    """Return what a file holds.

    Parameters
    ----------
    path : Path
        The file.
    most_characters : int
        So many are read; a longer file is broken, then.

    Raises
    ------
    OSError
        If it can't be read; `PermissionError`, which says why, if it is a link, or no
        file, or if others own it or may write it.
    ValueError, RecursionError
        If it is no JSON.
    """
    if path.is_symlink():
        raise PermissionError("it is a link, which could lead anywhere")
    with open(path, encoding="utf-8", opener=_open_own) as file:
        return json.loads(file.read(most_characters))


def _open_own(path: str, flags: int) -> int:
    """Open a file if it is one, and this user's: no link, and no pipe to wait for."""
    fd = os.open(path, flags | _FLAGS)
    try:
        _check_trust(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_trust(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError("it is no regular file")
    if not hasattr(os, "getuid"):
        return
    if found.st_uid != os.getuid():
        raise PermissionError("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write it: take that from them by chmod go-w")


def write_json(path: Path, content: object, *, indent: int | None = None) -> None:
    """Replace a file, and make its folder if there is none, for the user alone.

    Whoever reads at the same time finds the old file or the new one, whole. A link in
    its place is replaced, never followed.

    Raises
    ------
    OSError
        If it can't be written. The old file is still there, then.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(content, indent=indent)
    with NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.stem, delete=False, encoding="utf-8"
    ) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise
