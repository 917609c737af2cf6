"""The bytes of results and of this process, as the core counts them."""

from __future__ import annotations

from typing import Any

from amorsize_dask.core.budget import LARGE_BYTES, Budget
from amorsize_dask.core.events import BatchDone, Event, Immovable
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.remote import Remote
from amorsize_dask.execute.spool import Spooled
from amorsize_dask.execute.store import Store
from amorsize_dask.measure.rss import read_rss, trim_rss
from amorsize_dask.measure.size import measure_held, measure_pickled

#: Seconds of a sample from which on its sizes are measured. Shorter ones are cheaper
#: to run than to pickle, and their real sizes come with the first batch that is sent.
SIZE_S = 0.0005

#: Bytes of a pickled result from which on it is looked at how many more it takes as an
#: object. Smaller: looking takes longer than making it; larger: results of which
#: thousands are held aren't counted as what they are.
PICKLED_BYTES = 1000

#: Share of the memory limit that must be taken before this process looks at what it
#: really has. Smaller: it looks for nothing; larger: it looks too late.
NEAR_FRACTION = 0.25

#: Share of the limit by which it may have more than is known of before it gives back
#: what it has freed. Smaller: that takes time, for little; larger: it has no room.
TRIM_FRACTION = 0.05


class Sizing:
    """Measures what results and samples of a run take, each no oftener than it pays."""

    def __init__(self, tasks: TaskGraph, store: Store, budget: Budget) -> None:
        self._tasks = tasks
        self._store = store
        self._budget = budget
        # Stages whose results are large, and those whose tasks were pickled.
        self._large: set[int] = set()
        self._weighed: set[int] = set()
        self._start_rss = read_rss()

    def measure_results(self, result: BatchResult) -> None:
        """Note the sizes of results of this process, of which some are measured.

        Of small results one in each batch, of large ones each. What it takes in memory
        has to do for what it would as a pickle.
        """
        stage_of = self._tasks.stage_of
        seen: set[int] = set()
        for i, outcome in enumerate(result.outcomes):
            stage = stage_of[outcome.task]
            if stage not in seen or stage in self._large:
                seen.add(stage)
                size = measure_held(result.values[i])
                result.outcomes[i] = outcome._replace(out_bytes=size)
                if size >= LARGE_BYTES:
                    self._large.add(stage)

    def measure_growth(self) -> int:
        """Return the bytes that this process has more than in the beginning.

        0 as long as they don't matter.
        """
        budget = self._budget
        if budget.taken_bytes < NEAR_FRACTION * budget.limit_bytes:
            return 0
        known = budget.held_bytes + budget.running_bytes
        grown = read_rss() - self._start_rss
        if grown > known + TRIM_FRACTION * budget.limit_bytes:
            trim_rss()
            grown = read_rss() - self._start_rss
        return max(0, grown)

    def measure_sample(self, done: BatchDone, result: BatchResult) -> list[Event]:
        """Measure what it would cost to run a sampled task elsewhere, on the first."""
        if not done.outcomes or done.outcomes[0].seconds < SIZE_S:
            return []
        stage = self._tasks.stage_of[done.outcomes[0].task]
        if stage in self._weighed:
            return []
        self._weighed.add(stage)
        task = done.outcomes[0].task
        sent = self._store.items([task]), self._store.arguments([task])
        try:
            in_bytes = measure_pickled(sent).n_bytes
            out_bytes = measure_pickled(result.values[0]).n_bytes
        except Exception as error:
            reason = f"it can't be pickled: {type(error).__name__}: {error}"
            return [Immovable(task, reason)]
        done.in_bytes = in_bytes * len(done.outcomes)
        first = done.outcomes[0]
        done.outcomes[0] = first._replace(
            out_bytes=out_bytes, held_bytes=first.out_bytes
        )
        return []


def note_held(outcomes: list[Outcome], values: list[Any]) -> None:
    """Note what values take that are here in memory, by the largest of them."""
    sizes = {
        i: outcome.out_bytes
        for i, outcome in enumerate(outcomes)
        if outcome.out_bytes is not None
        and outcome.out_bytes >= PICKLED_BYTES
        and not isinstance(values[i], Spooled | Remote)
    }
    if sizes:
        largest = max(sizes, key=lambda i: sizes[i])
        ratio = measure_held(values[largest]) / sizes[largest]
        for i, n_bytes in sizes.items():
            outcomes[i] = outcomes[i]._replace(held_bytes=int(ratio * n_bytes))
