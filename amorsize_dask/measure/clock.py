"""Whether a thread computes or waits, told apart on a machine that others use too.

CPU seconds over wall seconds is not enough: a thread that wants to compute and doesn't
get a core looks like one that waits for the network.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Self

from amorsize_dask.measure.descriptor import open_into


def read_thread_cpu_s(thread_id: int) -> float | None:
    """Return the CPU seconds of a thread so far.

    Parameters
    ----------
    thread_id : int
        `threading.Thread.ident` of a thread that is alive, which is for the caller to
        make sure: given one that has ended, the C library reads memory that may be
        gone, and this process may crash.

    Returns
    -------
    float or None
        ``None`` where the system has no such clock, as on macOS and Windows, or if the
        thread has just ended.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread_id))
    except OSError:
        return None


class RunDelay:
    """Reads for how many seconds a thread could have run but had no core.

    A context that keeps one file open, so that a reading costs two microseconds. It is
    0 where the system doesn't tell: only Linux does.

    Parameters
    ----------
    native_id : int
        `threading.Thread.native_id` of a thread of this process.
    """

    def __init__(self, native_id: int) -> None:
        self._fds: list[int] = []
        with suppress(OSError):
            open_into(self._fds, f"/proc/self/task/{native_id}/schedstat")

    def read_s(self) -> float:
        """Return the seconds so far."""
        if not self._fds:
            return 0.0
        try:
            return int(os.pread(self._fds[0], 64, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0  # the thread has ended, or the file has another form

    def close(self) -> None:
        """Close the file; readings are 0 from now on."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def __del__(self) -> None:
        # An interrupt may strike before the thread has entered the context.
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count_computing_s(seconds: float, cpu_s: float, delay_s: float) -> float:
    """Return for how long a thread would have computed that never waited for a core.

    In as many seconds altogether: those without a core count as what they held up,
    computing and waiting, in the shares in which the thread did both when it had one. A
    thread that sleeps waits for a core, too, whenever it wakes; to take that for
    computing would make work that waits look like work that computes.

    Parameters
    ----------
    seconds : float
        By the wall clock.
    cpu_s, delay_s : float
        Seconds of these in which it computed, and could have run but had no core.
    """
    had_s = seconds - delay_s
    return seconds if had_s <= cpu_s else cpu_s * seconds / had_s


def read_run_delay_s(native_id: int) -> float:
    """Return what `RunDelay` reads, once."""
    with RunDelay(native_id) as delay:
        return delay.read_s()
