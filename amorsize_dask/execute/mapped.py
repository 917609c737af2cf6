"""Mapping a file copy-on-write without keeping it open.

Until Python 3.13 an `mmap.mmap` holds a descriptor for as long as it lives, and a run
may have more large results than a process may have descriptors.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from functools import cache
from typing import Any


def map_private(fd: int, n_bytes: int) -> memoryview:
    """Map the start of a file; what is changed in it is changed for no one else.

    Parameters
    ----------
    fd : int
        May be closed afterwards.
    n_bytes : int
        How much of it, > 0.

    Raises
    ------
    OSError
        If the system can't map it.
    """
    if sys.version_info >= (3, 13):
        return memoryview(
            mmap.mmap(fd, n_bytes, access=mmap.ACCESS_COPY, trackfd=False)
        )
    return _map_by_hand(fd, n_bytes)


def _map_by_hand(fd: int, n_bytes: int) -> memoryview:
    libc = _find_libc()
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = libc.mmap(None, n_bytes, protection, mmap.MAP_PRIVATE, fd, 0)
    if address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    array = (ctypes.c_ubyte * n_bytes).from_address(address)
    # Whatever is made from the memory refers to the array, which so goes last.
    weakref.finalize(array, libc.munmap, address, n_bytes).atexit = False
    return memoryview(array).cast("B")


@cache
def _find_libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_longlong,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


#: What the system answers if it can't: -1, as an address.
_FAILED = ctypes.c_void_p(-1).value
