"""Whether a thread computes or waits, told apart on a machine that others use too.

CPU seconds over wall seconds is not enough: a thread that wants to compute and doesn't
get a core looks like one that waits for the network.
"""

from __future__ import annotations

import os
import time

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux counts by thread
    getrusage = None  # type: ignore[assignment]


def read_thread_cpu_s(thread_id: int) -> float | None:
    """Return the CPU seconds of a thread so far.

    Parameters
    ----------
    thread_id : int
        `threading.Thread.ident` of a thread that is alive: the C library has no way of
        refusing one that isn't.

    Returns
    -------
    float or None
        ``None`` where the system has no such clock.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    return time.clock_gettime(time.pthread_getcpuclockid(thread_id))


def read_run_delay_s(native_id: int) -> float:
    """Return the seconds for which a thread could have run but had no core.

    Parameters
    ----------
    native_id : int
        `threading.Thread.native_id` of a thread of this process.

    Returns
    -------
    float
        0 where the system doesn't tell.
    """
    try:
        fd = os.open(f"/proc/self/task/{native_id}/schedstat", os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        return int(os.read(fd, 64).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
    finally:
        os.close(fd)


def count_waits() -> int | None:
    """Return how often the calling thread has gone to sleep by itself so far.

    One that has not done so meanwhile has not waited, however few CPU seconds it got.
    ``None`` where the system doesn't tell. Costs less than a microsecond.
    """
    return None if getrusage is None else getrusage(RUSAGE_THREAD).ru_nvcsw
