"""Whether seconds go with sizes where all that is known is how a run began.

Few have finished then, they are mostly of one end of the sizes, and one that others
have held up takes several times as long as it should. So what counts is in how many
pairs of them the larger one took longer, and the median of what it took more (Theil and
Sen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

#: Tasks that must have finished for their seconds to be compared with their sizes.
#: Smaller: they go together by chance; larger: of long ones there are never so many.
LEAST_COMPARED = 6

#: How many are compared. Smaller: more depends on each; larger: it takes longer than a
#: millisecond.
MOST_COMPARED = 50

#: Share of pairs in which the larger one must have taken longer, less that of those in
#: which it is the other way round (Kendall). Smaller: they go together by chance;
#: larger: a busy machine hides that they do.
LEAST_RANKED = 0.4

#: Share of the mean seconds that must be due to size. Smaller: noise is carried on to
#: sizes that haven't been seen; larger: what each item costs in any case hides it.
LEAST_DUE = 0.3


@dataclass(frozen=True, slots=True)
class Trend:
    """Seconds by size: ``base_s + size * slope_s``, neither below 0."""

    base_s: float
    slope_s: float


def find_trend(pairs: Sequence[tuple[float, float]]) -> Trend | None:
    """Return how seconds go with sizes; ``None`` if they don't, or it can't be told.

    Parameters
    ----------
    pairs : sequence of (float, float)
        The size and the seconds of each of some items, in the order of time.
    """
    if len(pairs) < LEAST_COMPARED:
        return None
    some = pairs[:: -(-len(pairs) // MOST_COMPARED)]
    slopes = [
        (other_s - one_s) / (other - one)
        for (one, one_s), (other, other_s) in combinations(some, 2)
        if other != one
    ]
    n_up, n_down = sum(s > 0 for s in slopes), sum(s < 0 for s in slopes)
    if not slopes or n_up - n_down < LEAST_RANKED * len(slopes):
        return None
    mean_size, mean_s = (fmean(column) for column in zip(*pairs, strict=True))
    slope_s = median(slopes)
    if slope_s * mean_size < LEAST_DUE * mean_s:
        return None
    base_s = mean_s - slope_s * mean_size
    if base_s < 0:
        return Trend(0.0, mean_s / mean_size)
    return Trend(base_s, slope_s)
