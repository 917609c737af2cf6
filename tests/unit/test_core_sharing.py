"""Whether threads are in each other's way."""

from __future__ import annotations

import pytest

from amorsize_dask.core.model import GIL_HANDOVER
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.sharing import SHARED_S, Sharing


def shared(seconds: float, mean_s: float) -> Sharing:
    """Return what four threads on four cores have shown."""
    sharing = Sharing()
    sharing.add([Outcome(0, seconds)], 1, 4, 4, mean_s)
    return sharing


def test_little_shows_nothing() -> None:
    """It takes some time to tell, and more than one thread."""
    assert not shared(0.9 * SHARED_S, 0.01).is_known
    alone = Sharing()
    assert not alone.add([Outcome(0, 1.0)], 1, 1, 4, 0.1)
    assert not alone.is_known
    assert shared(SHARED_S, 0.01).is_known


def test_what_holds_up_others_needs_the_gil() -> None:
    """Four times as long in four threads: one second of work a second."""
    gil_fraction, handover = shared(0.4, 0.1).limit(0.2, 1.0, 0.1)
    assert gil_fraction * (1 + handover) == pytest.approx(1.0)
    assert shared(0.12, 0.1).limit(0.2, 1.0, 0.1) == (0.2, GIL_HANDOVER)


@pytest.mark.parametrize(("cpu_fraction", "mean_s"), [(0.1, 0.1), (1.0, 0.5), (1, 0)])
def test_there_may_be_nothing_to_tell(cpu_fraction: float, mean_s: float) -> None:
    """Of tasks that wait, take as long by themselves, or of which no more is known."""
    sharing = shared(0.4, 0.1)
    assert sharing.limit(0.05, cpu_fraction, mean_s) == (0.05, GIL_HANDOVER)


def test_what_was_shown_may_be_forgotten() -> None:
    """Then it has to be shown again."""
    sharing = shared(0.4, 0.1)
    sharing.forget()
    assert not sharing.is_known
    assert sharing.limit(0.2, 1.0, 0.1) == (0.2, GIL_HANDOVER)
