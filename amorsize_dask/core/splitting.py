"""Whether chains are worth splitting, so that their halves run in different lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from amorsize_dask.core.model import WAITING_FRACTION, Lane, Placement, Workload

#: Share of the makespan that splitting the tasks of a stage must save. Smaller: what
#: the values between the halves cost is more than what is won; larger: tasks that wait
#: and then compute have to do both in one place.
SPLIT_FRACTION = 0.2


#: Seconds of work that aren't worth a split. Smaller: short computes pay for threads
#: and processes that can't save them more than that; larger: what could run at the
#: same time runs one after the other.
WORTH_S = 0.03


@dataclass(frozen=True, slots=True)
class Half:
    """What the links of one half of a chain take together."""

    seconds: float
    cpu_s: float

    @property
    def waits(self) -> bool:
        """Whether it waits rather than computes."""
        return self.cpu_s <= WAITING_FRACTION * self.seconds

    def of(self, workload: Workload) -> Workload:
        """Return the half of a workload that these links are."""
        cpu_fraction = min(1.0, self.cpu_s / self.seconds) if self.seconds else 1.0
        return replace(
            workload,
            mean_s=self.seconds,
            std_s=workload.std_s * self.seconds / (workload.mean_s or 1.0),
            cpu_fraction=cpu_fraction,
            gil_fraction=cpu_fraction,
            crowded_s=0.0,
        )


class SplitChoice(NamedTuple):
    """After which link to split, and what the halves take."""

    n_links: int
    first: Half
    second: Half
    #: Seconds by which the stage is predicted to end sooner than in one place.
    saved_s: float


def choose_split(
    links: Sequence[tuple[float, float]],
    workload: Workload,
    place: Callable[[Workload], Placement],
) -> SplitChoice | None:
    """Say after which link the tasks of a stage should be split, if at all.

    Each half, and the whole, is taken to hold the GIL whenever it computes: of a part
    of a task that isn't known. Where it is free, a split costs little.

    Parameters
    ----------
    links : sequence of (float, float)
        For each link its seconds and CPU seconds.
    workload : Workload
        What is left of the stage.
    place : callable
        Places a workload; with a prediction.

    Returns
    -------
    SplitChoice
        ``None`` if one place for all links is as good: halves in different lanes work
        at the same time, others one after the other.
    """
    whole_s = _makespan_s(place(replace(workload, gil_fraction=workload.cpu_fraction)))
    if whole_s < WORTH_S:
        return None
    least_s = SPLIT_FRACTION * whole_s
    best: SplitChoice | None = None
    for n in range(1, len(links)):
        halves = _sum(links[:n]), _sum(links[n:])
        if halves[0].waits is halves[1].waits:
            continue
        first, second = (place(half.of(workload)) for half in halves)
        seconds = [_makespan_s(first), _makespan_s(second)]
        if first.lane is second.lane or Lane.INLINE in (first.lane, second.lane):
            took_s = sum(seconds)
        else:
            # The second half begins when the first tasks have done the first one.
            took_s = max(seconds) + halves[0].seconds
        if whole_s - took_s > least_s:
            least_s = whole_s - took_s
            best = SplitChoice(n, *halves, saved_s=least_s)
    return best


def _sum(links: Sequence[tuple[float, float]]) -> Half:
    seconds = sum(seconds for seconds, _ in links)
    return Half(seconds, min(seconds, sum(cpu_s for _, cpu_s in links)))


def _makespan_s(placement: Placement) -> float:
    return 0.0 if placement.predicted is None else placement.predicted.makespan_s
