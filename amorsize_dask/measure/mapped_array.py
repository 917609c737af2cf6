"""Arrays that map a file: sent as the file's name, so that nobody copies them.

Pickling a `numpy.memmap` reads all of it, however large the file is. A worker process
on the same machine can map the file itself. That is the same as long as nobody writes
to it, so it is done for arrays that were opened for reading alone.
"""

from __future__ import annotations

import os
import sys
from typing import Any

#: Bytes of an array from which on it is sent by name. Smaller: opening and mapping the
#: file, some 50 µs, costs more than sending it; larger: more is copied.
BY_NAME_BYTES = 200_000


def find_reducers() -> dict[type, Any]:
    """Return how arrays that map files are pickled, by type, for a `dispatch_table`.

    It is empty as long as NumPy hasn't been imported: there are none, then.
    """
    numpy = sys.modules.get("numpy")
    memmap = getattr(numpy, "memmap", None)
    return {} if memmap is None else {memmap: reduce_mapped}


def goes_by_name(value: Any) -> bool:
    """Whether a value is an array that is sent as its file's name."""
    return any(isinstance(value, kind) for kind in find_reducers()) and (
        _find_place(value) is not None
    )


def reduce_mapped(array: Any) -> Any:
    """Reduce an array to what `open_mapped` takes, or as NumPy does."""
    place = _find_place(array)
    if place is None:
        return array.__reduce_ex__(5)
    order = "C" if array.flags.c_contiguous else "F"
    return open_mapped, (*place, array.dtype, array.shape, order)


def _find_place(array: Any) -> tuple[str, int] | None:
    """Return the file that an array maps, and where in it the array begins.

    ``None`` if it had better be sent by value: it is small, or not in one piece, or may
    be written; or the file isn't there any more, or has become too short.
    """
    if array.nbytes < BY_NAME_BYTES or array.flags.writeable:
        return None
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        return None
    whole = array
    while isinstance(whole.base, type(array)):
        # What an array is a part of; the first one has mapped the file.
        whole = whole.base
    name = getattr(whole, "filename", None)
    if whole.mode != "r" or not isinstance(name, str | os.PathLike):
        return None
    start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    offset = whole.offset + start
    path = os.path.abspath(name)
    try:
        size = os.stat(path).st_size
    except OSError:
        return None
    if not start >= 0 or offset + array.nbytes > size:
        return None
    return path, offset


def open_mapped(
    path: str, offset: int, dtype: Any, shape: tuple[int, ...], order: str
) -> Any:
    """Map a part of a file, for reading.

    Raises
    ------
    OSError
        If it is gone.
    """
    import numpy as np

    return np.memmap(
        path,
        dtype=dtype,
        mode="r",
        offset=offset,
        shape=shape,
        order="F" if order == "F" else "C",
    )
