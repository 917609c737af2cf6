"""Spool files: large payloads that one process writes and another one maps.

A payload is written once, its buffers each at an aligned place, and mapped
copy-on-write by whoever reads it: no pipe, no copy, and arrays are writable. Files are
in shared memory where there is room, on disk otherwise; where there is neither, the
caller and the worker use their pipe.

Their names can't be guessed; the folders that they are in are in `spool_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from amorsize_dask.execute.mapped import map_private
from amorsize_dask.execute.wire import Part, buffers_of, count_bytes, sizes_of

#: Bytes of a payload from which on it is spooled. Smaller: creating and removing a
#: file, some 30 µs, costs more than the pipe; larger: what goes through the pipe is
#: copied four times.
SPOOL_BYTES = 100_000

#: Buffers begin at multiples of this, as NumPy's own do.
ALIGNMENT = 64

#: Share of what is free in a place in memory that one payload may take. Smaller: large
#: ones go to disk while there is room; larger: others find none for theirs.
MEMORY_FRACTION = 0.5


class Spooled(NamedTuple):
    """A payload in a file, in the place of the payload itself."""

    path: str
    #: The sizes of its parts, in order; each begins at the next aligned place.
    sizes: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """The bytes of all parts together."""
        return sum(self.sizes)


class SpoolPlace(NamedTuple):
    """Where files may be written, the better place first; nothing where there is none.

    It is sent to workers.
    """

    folders: tuple[str, ...] = ()
    #: How many of these, the first ones, are in memory.
    n_in_memory: int = 0

    def write(self, parts: Sequence[Part]) -> Spooled | None:
        """Write a payload.

        Returns
        -------
        Spooled or None
            ``None`` if it fits nowhere; nothing is left behind then.
        """
        sizes = sizes_of(parts)
        for i, folder in enumerate(self.folders):
            path = f"{folder}/{os.urandom(12).hex()}"
            fraction = MEMORY_FRACTION if i < self.n_in_memory else 1.0
            with suppress(OSError):
                if sum(sizes) <= fraction * _count_free_bytes(folder):
                    _write(path, parts)
                    return Spooled(path, sizes)
        return None

    @property
    def on_disk(self) -> SpoolPlace:
        """The places that take no memory."""
        return SpoolPlace(self.folders[self.n_in_memory :])

    def remove(self) -> None:
        """Remove all files; who has mapped one keeps what is in it."""
        # Imported where it is needed: workers boot without it.
        import shutil

        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def read(spooled: Spooled) -> list[memoryview]:
    """Map the parts of a payload; they can be changed, which no one else sees.

    Raises
    ------
    OSError
        If the file is gone.
    ValueError
        If it is shorter than it should be.
    """
    fd = os.open(spooled.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ends = list(_places(spooled.sizes))
        n_bytes = ends[-1][1] if ends else 0
        if os.fstat(fd).st_size < n_bytes:
            raise ValueError(f"{spooled.path} is shorter than {n_bytes} bytes")
        mapped = map_private(fd, n_bytes)
    finally:
        os.close(fd)
    return [mapped[start:end] for start, end in ends]


def remove(spooled: Spooled) -> None:
    """Remove a payload's file; who has mapped it keeps what is in it."""
    with suppress(OSError):
        os.unlink(spooled.path)


def is_in(spooled: Spooled, place: SpoolPlace) -> bool:
    """Whether a payload's file is in one of these folders."""
    return os.path.dirname(spooled.path) in place.folders


def _count_free_bytes(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _places(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for size in sizes:
        yield start, start + size
        start = -(-(start + size) // ALIGNMENT) * ALIGNMENT


def _write(path: str, parts: Sequence[Part]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        # A task may have set a mask that takes even that away.
        os.fchmod(fd, 0o600)
        end = 0
        for part in parts:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            if start > end:
                write_part(fd, bytes(start - end))
            write_part(fd, part)
            end = start + count_bytes([part])
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def write_part(fd: int, part: Part) -> None:
    """Write all of a part to where a file is."""
    for buffer in buffers_of(part):
        view = memoryview(buffer).cast("B")
        while view:
            view = view[os.write(fd, view) :]


def is_large(parts: Sequence[Part]) -> bool:
    """Whether a payload should be spooled."""
    return count_bytes(parts) >= SPOOL_BYTES
