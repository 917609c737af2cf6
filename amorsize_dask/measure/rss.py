"""How much memory this process takes, and how much it has taken at most.

Imports next to nothing, since every worker process does it before its first task.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

from amorsize_dask.measure.descriptor import open_into

if sys.platform != "win32":
    import resource

#: Bytes by which two ways of reading the same peak may differ, as the kernel counts
#: pages in each core apart. Smaller: processes whose peak is their own read it the slow
#: way; larger: an inherited peak hides a growth of as much.
PEAK_SLACK_BYTES = 4 << 20

#: What `ru_maxrss` counts in.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024

_STATM = "/proc/self/statm"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def read_rss() -> int:
    """Return the resident bytes of this process.

    A few microseconds on Linux, some ten times as many elsewhere. Linux counts pages in
    each core apart and adds them up now and then, so that this can be behind by a few
    hundred kB.
    """
    return _read_statm(1, "rss")


def read_private_rss() -> int:
    """Return the resident bytes of this process that are of no file.

    Those of files in shared memory, too, belong to whoever wrote them. As quick as
    `read_rss`; where the system doesn't tell, all resident bytes.
    """
    return _read_statm(1, "rss", without=2)


def read_virtual() -> int:
    """Return the bytes of address space of this process; as quick as `read_rss`."""
    return _read_statm(0, "vms")


def _read_statm(column: int, name: str, without: int | None = None) -> int:
    descriptors: list[int] = []
    try:
        # Opened anew each time: one that is kept would, after a fork, still tell of the
        # parent.
        open_into(descriptors, _STATM)
        pages = [int(n) for n in os.read(descriptors[0], 128).split()]
    except OSError:
        return _read_with_psutil(name)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    n_left_out = 0 if without is None else pages[without]
    return (pages[column] - n_left_out) * _PAGE_BYTES


def _read_with_psutil(name: str) -> int:
    try:
        # Imported where it is needed: workers boot without it.
        import psutil

        return int(getattr(psutil.Process().memory_info(), name))
    except (OSError, ImportError):
        if sys.platform == "win32":
            raise
        # No descriptor is left. The peak is told without one, and isn't too low.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def read_peak_rss() -> int:
    """Return the highest resident bytes that this process has had so far.

    Costs a microsecond, where the system keeps count; else the present value is taken.
    """
    if sys.platform == "win32":
        return read_rss()
    if _inherits_peak(os.getpid()):
        return _read_own_peak() or read_rss()
    return peak_rss_of(resource.getrusage(resource.RUSAGE_SELF))


def peak_rss_of(usage: Any) -> int:
    """Return the highest resident bytes in a `resource.struct_rusage`."""
    return int(usage.ru_maxrss) * _MAXRSS_BYTES


def reset_peak_rss() -> None:
    """Let `read_peak_rss` begin anew with what this process takes now.

    Costs a few microseconds. Only where the system can; elsewhere the peak stays.
    """
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, b"5")
    except OSError:
        return
    finally:
        os.close(descriptor)


def trim_rss() -> None:
    """Give memory that this process has freed back to the system, where that is kept.

    Takes up to some milliseconds. Python does it by itself for what it manages; the C
    library keeps what lies between things that are in use.
    """
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Any:
    # Imported where it is needed: most processes never come to it.
    import ctypes

    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None  # another C library


@cache
def _inherits_peak(pid: int) -> bool:
    """Whether `ru_maxrss` of this process began with that of another one.

    On Linux it survives `exec`. A worker that is a fresh interpreter would otherwise
    report the caller's peak as its own, and no growth of it before it is larger.
    """
    if not sys.platform.startswith("linux"):
        return False
    peak = peak_rss_of(resource.getrusage(resource.RUSAGE_SELF))
    # Read afterwards, so that only an inherited peak can be higher.
    own_peak = _read_own_peak()
    return own_peak is not None and peak > own_peak + PEAK_SLACK_BYTES


def _read_own_peak() -> int | None:
    """Return the peak since the last `exec`, at twenty times the price."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
