"""The folders of one run's spool files: made, locked, removed.

Each run has a folder of its own, which only its user may enter. It holds a lock for as
long as its process lives: what is left of one that was killed the user's next removes.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
from dask import config

from amorsize_dask.execute.spool import SpoolPlace

try:
    import fcntl
except ImportError:  # Windows has no worker processes
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

#: Seconds after which a folder without a lock is taken for left over. Smaller: another
#: process may be about to make it; larger: what was left over stays that much longer.
STALE_S = 600.0

#: File systems that are kept in memory. Some systems have one for temporary files.
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")

#: Where files of shared memory are, on systems that have such a place.
SHARED_MEMORY = Path("/dev/shm")

#: Where temporary files are then that should go to disk.
LASTING = Path("/var/tmp")

_PREFIX = "amorsize-"


class SpoolFolder:
    """The folders of one run; nothing is left of them after `close`.

    If this process is killed, a later one of the user's removes them.

    Attributes
    ----------
    place : SpoolPlace
        Where to write.
    """

    def __init__(self) -> None:
        self._locks: list[int] = []
        in_memory: list[str] = []
        on_disk: list[str] = []
        self._spare = _open_spare()
        # What couldn't be read should not be written.
        for root in _find_roots() if self._spare >= 0 else ():
            folder = root / f"{_PREFIX}{os.getuid()}-{secrets.token_hex(8)}"
            try:
                self._locks.append(_make(folder))
                kind = in_memory if _is_in_memory(root) else on_disk
                kind.append(str(folder))
            except OSError as error:
                logger.debug("no spool files in %s: %r", root, error)
            if root not in _swept:
                _swept.add(root)
                _remove_stale(root)
        self.place = SpoolPlace((*in_memory, *on_disk), len(in_memory))

    @contextmanager
    def spare_lent(self) -> Iterator[None]:
        """Lend the one descriptor that was kept to read a file where none is left."""
        spare, self._spare = self._spare, -1
        if spare < 0:
            yield
            return
        os.close(spare)
        try:
            yield
        finally:
            self._spare = _open_spare()

    def close(self) -> None:
        """Remove what is left."""
        # First of all: removing takes descriptors, of which there may be no other ones.
        for fd in (self._spare, *self._locks):
            if fd >= 0:
                os.close(fd)
        self._spare, self._locks = -1, []
        self.place.remove()


def _open_spare() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        logger.debug("no spool files: %r", error)
        return -1


#: Where this process has looked for what others have left.
_swept: set[Path] = set()


def _find_roots() -> Iterator[Path]:
    shared = SHARED_MEMORY
    if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK):
        yield shared
    yield find_disk_folder()


def find_disk_folder() -> Path:
    """Return where temporary files go that are to take disk, and no memory.

    That is Dask's ``temporary-directory`` if it is set. It may be in memory after all,
    if the user has chosen so or there is nothing else.
    """
    chosen = config.get("temporary-directory", None)
    # Whole, for a task may change the folder that it is relative to.
    disk = Path(chosen or tempfile.gettempdir()).absolute()
    if chosen is None and _is_in_memory(disk) and os.access(LASTING, os.W_OK | os.X_OK):
        disk = LASTING
    return disk


@cache
def _is_in_memory(folder: Path) -> bool:
    """Whether what is written to a folder takes memory, and no disk."""
    if folder == SHARED_MEMORY:
        return True
    kinds = {
        Path(mount.mountpoint): mount.fstype
        for mount in psutil.disk_partitions(all=True)
    }
    whole = folder.resolve()
    places = (whole, *whole.parents)
    return next((kinds[p] for p in places if p in kinds), "") in MEMORY_FILE_SYSTEMS


def _make(folder: Path) -> int:
    """Make a folder, and lock it for as long as this process lives.

    Raises
    ------
    OSError
        If that can't be done, or not so that no one else gets at it.
    """
    mode = folder.parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        # Anyone could put another folder in its place.
        raise PermissionError(f"anyone may rename what is in {folder.parent}")
    folder.mkdir(mode=0o700)
    try:
        # The user's mask may have taken even that away.
        folder.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(folder / "lock", flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        # Each by itself, for all at once would take descriptors.
        with suppress(OSError):
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()
        raise
    return fd


def _remove_stale(place: Path) -> None:
    """Remove the folders of this user's processes that were killed."""
    with suppress(OSError):
        for folder in place.glob(f"{_PREFIX}{os.getuid()}-*"):
            with suppress(OSError):
                if _is_stale(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - found.st_mtime > STALE_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
