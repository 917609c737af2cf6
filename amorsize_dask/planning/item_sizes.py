"""How large items are, where that is quickly seen: it mostly tells how long they take.

A few of the items can't tell of a tenth that takes twenty times as long. Their sizes
can: those of all items are looked at, items of all sizes are tried, and if the seconds
of these go with their sizes, so do those of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, pstdev
from typing import Any

from amorsize_dask.measure.item_size import find_measure, measure_items, size_of_file
from amorsize_dask.planning.data import spread

#: Items whose sizes are looked at, and files among them. Smaller: what is rare isn't
#: seen; larger: looking takes longer than the calls.
MOST_SIZED = 5000
MOST_FILES = 500

#: Items that must have been tried for their seconds to be compared with their sizes.
#: Smaller: they go together by chance; larger: of long items there are never so many.
LEAST_COMPARED = 6

#: Share of the variance of the seconds that sizes must explain. Smaller: what they
#: don't is lost sight of; larger: the noise of the machine hides what they do.
LEAST_EXPLAINED = 0.9


#: Times less that seconds by size must differ, as a share of their mean, than seconds
#: do. Smaller: of a few items the noise decides; larger: chance does.
RATIO_FRACTION = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds by size: ``base_s + size * slope_s``, and what that leaves open."""

    base_s: float
    slope_s: float
    #: Standard deviation of the seconds from it.
    error_s: float


def measure_sizes(items: Sequence[Any]) -> dict[int, float]:
    """Return sizes by place: of files their bytes, of containers their lengths.

    Numbers are their own size. Empty if items are of several kinds, of one that has no
    size that is quickly seen, or all of one size.
    """
    if not len(items):
        return {}
    find = find_measure(items)
    if find is None:
        return {}
    most = MOST_FILES if find is size_of_file else MOST_SIZED
    places = list(islice(spread(len(items)), most))
    some = [items[place] for place in places]
    if {*map(type, some)} != {type(items[0])}:
        return {}
    sizes = measure_items(some, find)
    if sizes is None or len(set(sizes)) < 2:
        return {}
    return dict(zip(places, sizes, strict=True))


def order_by_size(n: int, sizes: Mapping[int, float]) -> Iterator[int]:
    """Yield all places below n, so that the first few are of all sizes."""
    by_size = sorted(sizes, key=lambda place: sizes[place])
    # In this order there is no period to be met.
    for i in spread(len(by_size), jitter=0.0):
        yield by_size[i]
    yield from (place for place in spread(n) if place not in sizes)


def fit(
    sizes: Mapping[int, float],
    seconds: Mapping[int, float],
    *,
    is_certain: bool = False,
) -> Line | None:
    """Return the line that seconds follow by size; ``None`` if they don't.

    Parameters
    ----------
    sizes : mapping of int to float
        By place.
    seconds : mapping of int to float
        The same of some of these places, and of others.
    is_certain : bool, optional
        Whether they are known to follow sizes, from fewer of them: those that were
        tried were chosen by that.
    """
    pairs = [(sizes[place], s) for place, s in seconds.items() if place in sizes]
    line = _fit_line(pairs) or _fit_ratio(pairs)
    if line is None and is_certain and sum(size for size, _ in pairs) > 0:
        return _draw_through_nothing(pairs)
    return line


def _fit_line(pairs: Sequence[tuple[float, float]]) -> Line | None:
    if len(pairs) < LEAST_COMPARED:
        return None
    mean_size, mean_s = (fmean(column) for column in zip(*pairs, strict=True))
    spread_size = sum((size - mean_size) ** 2 for size, _ in pairs)
    spread_s = sum((s - mean_s) ** 2 for _, s in pairs)
    both = sum((size - mean_size) * (s - mean_s) for size, s in pairs)
    if not spread_size or not spread_s or both <= 0:
        return None
    explained = both * both / (spread_size * spread_s)
    if explained < LEAST_EXPLAINED:
        return None
    slope_s = both / spread_size
    error_s = ((1 - explained) * spread_s / len(pairs)) ** 0.5
    return Line(mean_s - slope_s * mean_size, slope_s, error_s)


def _fit_ratio(pairs: Sequence[tuple[float, float]]) -> Line | None:
    """Return a line through nothing, if seconds by size differ less than seconds.

    Two items can show that: of long ones there are no more.
    """
    if len(pairs) < 2 or min(size for size, _ in pairs) <= 0:
        return None
    seconds = [s for _, s in pairs]
    ratios = [s / size for size, s in pairs]
    mean_s, mean_ratio_s = fmean(seconds), fmean(ratios)
    if not mean_s or pstdev(ratios) / mean_ratio_s > RATIO_FRACTION * (
        pstdev(seconds) / mean_s
    ):
        return None
    return _draw_through_nothing(pairs)


def _draw_through_nothing(pairs: Sequence[tuple[float, float]]) -> Line:
    slope_s = sum(s for _, s in pairs) / sum(size for size, _ in pairs)
    return Line(0.0, slope_s, pstdev([s - slope_s * size for size, s in pairs]))


def expect(line: Line, sizes: Mapping[int, float]) -> tuple[float, float]:
    """Return mean and standard deviation of the seconds of items of these sizes."""
    mean_s = line.base_s + line.slope_s * fmean(sizes.values())
    std_s = line.slope_s * pstdev(sizes.values())
    return mean_s, (std_s**2 + line.error_s**2) ** 0.5
