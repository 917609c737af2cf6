"""What is known of a stage in bytes."""

from __future__ import annotations

import pytest

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.sizes import Sizes

SEEN = Experience(
    n_items=100,
    mean_s=0.1,
    std_s=0.01,
    cpu_fraction=1.0,
    gil_fraction=0.5,
    in_bytes=10.0,
    out_bytes=20.0,
    held_bytes=400.0,
    peak_bytes=30.0,
)


def counted(*outcomes: Outcome) -> Sizes:
    """Return the sizes of some outcomes of one item each."""
    sizes = Sizes()
    for outcome in outcomes:
        sizes.add([outcome], 1)
    return sizes


def test_sizes_are_means_of_those_that_were_measured() -> None:
    """A result that wasn't pickled has no size, not size 0."""
    outcomes = [Outcome(i, 0.1) for i in range(20)]
    sizes = counted(*outcomes, Outcome(20, 0.1, None, 400))
    assert sizes.out_bytes == 400
    sizes.add_sent(1000)
    assert sizes.in_bytes == 1000
    sizes.add_sent(2000)
    assert 1000 < sizes.in_bytes < 2000


def test_sizes_are_by_item() -> None:
    """A task that could be cut counts as the items that it had."""
    sizes = Sizes()
    sizes.add([Outcome(0, 0.1, None, 400), Outcome(1, 0.1)], 10)
    assert sizes.out_bytes == 40
    sizes.add([Outcome(2, 0.1, None, 800)], 10)
    assert sizes.out_bytes == 60


def test_peak_is_the_largest() -> None:
    """What counts for memory is the worst task."""
    peaks = [10, 50, None, 20]
    outcomes = [Outcome(i, 0.1, peak_bytes=peak) for i, peak in enumerate(peaks)]
    assert counted(*outcomes).peak_bytes == 50


def test_objects_are_larger_than_their_pickles() -> None:
    """What is sent and what is held are two things; the one tells of the other."""
    sizes = counted(Outcome(0, 0.1, 0.1, 30, held_bytes=900))
    assert (sizes.out_bytes, sizes.held_bytes) == (30, 900)
    # In the caller no more pickles are measured.
    sizes.add([Outcome(1, 0.1, 0.1, held_bytes=1800)], 1)
    assert sizes.held_bytes == sizes.measured_bytes == 1350
    assert sizes.out_bytes == pytest.approx(45)


def test_what_earlier_runs_have_shown_counts_until_it_is_measured() -> None:
    """Each of it for itself; and it isn't what this run has taken."""
    sizes = Sizes()
    sizes.recall(SEEN)
    assert (sizes.in_bytes, sizes.out_bytes, sizes.held_bytes) == (10, 20, 400)
    assert (sizes.peak_bytes, sizes.measured_bytes) == (30, 0)
    sizes.add([Outcome(0, 0.1, 0.1, held_bytes=300)], 1)
    assert sizes.held_bytes == sizes.measured_bytes == 300
    assert sizes.out_bytes == pytest.approx(15)
    assert sizes.peak_bytes == 30
    sizes.add([Outcome(0, 0.1, 0.1, peak_bytes=20)], 1)
    assert sizes.peak_bytes == 20


def test_other_results_have_other_sizes() -> None:
    """What is sent, and what memory a task took, is as it was."""
    sizes = counted(Outcome(0, 0.1, 0.1, 30, 70, held_bytes=900))
    sizes.add_sent(1000)
    sizes.forget_results()
    assert sizes.out_bytes == sizes.held_bytes == 0
    assert (sizes.in_bytes, sizes.peak_bytes) == (1000, 70)


def test_results_in_files_count_as_what_they_are_once_loaded() -> None:
    """Objects as such, arrays as their data."""
    sizes = counted(
        Outcome(0, 0.1, 0.1, 100, loaded_bytes=500),
        Outcome(1, 0.1, 0.1, 100, loaded_bytes=0),
    )
    assert sizes.out_bytes == 100
    assert sizes.held_bytes == 300
