"""Whether a stage is still what earlier runs have shown, going by its first tasks."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.model import WAITING_FRACTION, Lane
from amorsize_dask.core.outcome import Outcome

#: Times by which a first outcome may differ from what earlier runs have shown. Smaller:
#: an item that is out of the common makes a stage forgotten that is well known; larger:
#: work that has become another is believed to be the same.
STALE_FACTOR = 3.0

#: Standard deviations by which it may differ besides. Smaller: the first file of a
#: folder, which is short, makes forgotten what a folder of uneven files takes; larger:
#: where tasks are uneven, work that has become another is noticed later.
STALE_SPREADS = 3.0

#: Seconds by which they may differ in any case. Smaller: the noise of microseconds
#: makes known stages forgotten; larger: millions of items that take longer aren't
#: noticed.
STALE_S = 20e-6


def is_refuted(
    recalled: Experience, outcomes: Sequence[Outcome], n_items: int, lane: Lane
) -> bool:
    """Whether the first outcomes aren't what earlier runs let expect.

    Parameters
    ----------
    recalled : Experience
        What they have shown.
    outcomes : sequence of Outcome
        Tasks that have finished together.
    n_items : int
        Items that they had in all.
    lane : Lane
        Where they ran.
    """
    # There seconds contain the waiting for the GIL, which is little beside other
    # waiting; and what the first one computes, as it connects, is much then.
    by_cpu = lane is Lane.THREADS and recalled.cpu_fraction >= WAITING_FRACTION
    found = [out.cpu_s if by_cpu else out.seconds for out in outcomes]
    measured = [seconds for seconds in found if seconds is not None]
    if not measured:
        return False
    expected_s = recalled.mean_s
    if by_cpu:
        expected_s *= recalled.cpu_fraction
    found_s = sum(measured) / len(measured) * len(outcomes) / n_items
    # Items of one task are alike where data is sorted: they tell no more of the others
    # than a single one.
    return _is_stale(found_s, expected_s, recalled.std_s / sqrt(len(outcomes)))


def is_exceeded(recalled: Experience, seconds: float) -> bool:
    """Whether an item that goes on has taken more than earlier runs let expect."""
    return seconds > recalled.mean_s and _is_stale(
        seconds, recalled.mean_s, recalled.std_s
    )


def _is_stale(found_s: float, expected_s: float, std_s: float) -> bool:
    """Whether a time is not what earlier runs let expect."""
    low_s, high_s = sorted((found_s, expected_s))
    if high_s <= STALE_FACTOR * low_s + STALE_S:
        return False
    return high_s - low_s > STALE_SPREADS * std_s
