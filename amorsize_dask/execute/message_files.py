"""Files that batches travel in, each written again once its batch has been answered.

To get new memory for a file, and to give it back, takes two to three times as long as
to write into one that is there. Workers are sent a message after the other, of much the
same size.

A worker may keep what it has mapped for as long as it likes, arrays for one. So a file
is written again only if nothing of its message was beside the pickle: what comes of a
pickle is a copy of what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from amorsize_dask.execute.spool import Spooled, SpoolPlace, remove, write_part
from amorsize_dask.execute.wire import Part, sizes_of

#: Bytes of a message up to which its file is used again. Smaller: larger messages take
#: new memory each time; larger: files that no one reads take that much of it.
REUSED_BYTES = 2_000_000

#: Files that wait for a message. Smaller: where many workers answer at once some are
#: made anew; larger: they take memory at the end of a stage.
MAX_WAITING = 4


class MessageFiles:
    """Writes messages, into files that are free or into new ones."""

    def __init__(self) -> None:
        self._free: list[str] = []

    def write(self, parts: Sequence[Part], place: SpoolPlace) -> Spooled | None:
        """Write a message; ``None`` if it fits nowhere."""
        while self._free and _is_reusable(sizes_of(parts)):
            path = self._free.pop()
            try:
                return _write_again(path, parts)
            except OSError:
                # It is gone, or has no room to grow.
                with suppress(OSError):
                    os.unlink(path)
        return place.write(parts)

    def take_back(self, spooled: Spooled) -> None:
        """Have a file that its reader is done with."""
        if not is_kept(spooled):
            return
        if len(self._free) < MAX_WAITING:
            self._free.append(spooled.path)
        else:
            remove(spooled)


def is_kept(spooled: Spooled) -> bool:
    """Whether a message's file is not for its reader to remove."""
    return _is_reusable(spooled.sizes)


def _is_reusable(sizes: Sequence[int]) -> bool:
    return len(sizes) == 1 and sizes[0] <= REUSED_BYTES


def _write_again(path: str, parts: Sequence[Part]) -> Spooled:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_part(fd, parts[0])
    finally:
        os.close(fd)
    return Spooled(path, sizes_of(parts))
