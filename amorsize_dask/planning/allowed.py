"""What a plan may use: workers and lanes."""

from __future__ import annotations

from dataclasses import replace

from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.execute.start_method import has_processes
from amorsize_dask.scheduler import AmorsizeScheduler


def find_limits(
    scheduler: AmorsizeScheduler, machine: Machine, max_workers: int | None
) -> Limits:
    """Return what a scheduler allows, and whoever asks for a plan."""
    limits = scheduler.limits_on(machine)
    most = [n for n in (limits.max_workers, max_workers) if n is not None]
    return replace(limits, max_workers=min(most, default=None))


def find_lanes(
    limits: Limits, *, may_send: bool, is_alone: bool, may_share: bool = True
) -> list[Lane]:
    """Return the lanes that work can run in, at least one.

    Parameters
    ----------
    limits : Limits
        What is allowed.
    may_send : bool
        Whether it can be sent to other processes.
    is_alone : bool
        Whether calls must be made one after the other, in this process.
    may_share : bool, optional
        Whether two calls may be under way in one process.
    """
    if is_alone:
        return [Lane.INLINE]
    # A plan is for this machine.
    useless = {Lane.CLUSTER}
    if not (may_send and has_processes()):
        useless.add(Lane.PROCESSES)
    if not may_share:
        useless.add(Lane.THREADS)
    lanes = [lane for lane in limits.allowed_lanes if lane not in useless]
    return lanes or [Lane.INLINE]
