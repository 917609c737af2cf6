"""The bytes of results and of this process, as the core counts them."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cached_property
from math import inf
from time import perf_counter
from typing import Any

from amorsize_dask.core.budget import LARGE_BYTES, Budget
from amorsize_dask.core.events import BatchDone, Event, Immovable
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.remote import Remote
from amorsize_dask.execute.spool import Spooled, read
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.wire import load
from amorsize_dask.measure.rss import read_private_rss, trim_rss
from amorsize_dask.measure.size import measure_held, measure_pickled

logger = logging.getLogger(__name__)

#: Seconds of a sample from which on its sizes are measured, and of its whole stage, if
#: all tasks are like it. Smaller: what takes no time is measured for longer than that;
#: larger: what takes longer to pickle than to run is sent.
SIZE_S = 0.0005
STAGE_SIZE_S = 0.015

#: Bytes of a pickled result from which on it is looked at how many more it takes as an
#: object. Smaller: looking takes longer than making it; larger: results of which
#: thousands are held aren't counted as what they are.
PICKLED_BYTES = 1000

#: Share of the memory limit that must have been taken before each result is measured
#: that was made of a large one. Smaller: runs that have memory enough pay for it;
#: larger: parts of large values, of which the first was empty, aren't seen.
CLOSE_FRACTION = 0.05

#: Share of the memory limit that must be taken before this process looks at what it
#: really has. Smaller: it looks for nothing; larger: it looks too late.
NEAR_FRACTION = 0.25

#: Seconds between two looks before that. Smaller: short batches pay for it; larger:
#: results whose size no one knows fill the memory meanwhile.
LOOK_S = 0.02

#: Share of the limit by which it may have more than is known of before it gives back
#: what it has freed. Smaller: that takes time, for little; larger: it has no room.
TRIM_FRACTION = 0.05


class Sizing:
    """Measures what results and samples of a run take, each no oftener than it pays."""

    def __init__(
        self,
        tasks: TaskGraph,
        store: Store,
        budget: Budget,
        start_bytes: int | None = None,
        load_bytes_per_s: float = inf,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._budget = budget
        self._load_bytes_per_s = load_bytes_per_s
        # Stages whose results are large, and those whose tasks were pickled.
        self._large: set[int] = set()
        self._weighed: set[int] = set()
        # How many times as large as its pickle a result is, by stage.
        self._ratios: dict[int, float] = {}
        self._next_look_s = 0.0
        if start_bytes is None:
            start_bytes = read_private_rss()
            self._next_look_s = perf_counter() + LOOK_S
        self._start_bytes = start_bytes

    @cached_property
    def _n_tasks(self) -> Counter[int]:
        return Counter(self._tasks.stage_of)

    def measure_results(self, result: BatchResult) -> None:
        """Note the sizes of results of this process, of which some are measured.

        Of small results one in each batch, of large ones each. What is made of large
        results may be large or not, as the parts of a partition that is shuffled are:
        where memory is short these are measured each as well.
        """
        stage_of = self._tasks.stage_of
        seen: set[int] = set()
        is_close = self._is_close
        for i, outcome in enumerate(result.outcomes):
            task = outcome.task
            stage = stage_of[task]
            if (
                stage not in seen
                or stage in self._large
                or (is_close and self._budget.needs_large(task))
            ):
                seen.add(stage)
                size = measure_held(result.values[i])
                result.outcomes[i] = outcome._replace(held_bytes=size)
                if size >= LARGE_BYTES:
                    self._large.add(stage)

    def measure_received(self, outcomes: list[Outcome], values: list[Any]) -> None:
        """Note what results take that other processes have made.

        Those that are here go by the largest of their stage, those that are in files by
        what is known of it; where memory is short one of them is loaded to know it.
        """
        stage_of = self._tasks.stage_of
        sized = [
            i
            for i, outcome in enumerate(outcomes)
            if (outcome.out_bytes or 0) >= PICKLED_BYTES
            and not isinstance(values[i], Remote)
        ]
        if not sized:
            return
        here = [i for i in sized if not isinstance(values[i], Spooled)]
        here.sort(key=lambda i: outcomes[i].out_bytes or 0)
        largest = {stage_of[outcomes[i].task]: i for i in here}
        for stage, i in largest.items():
            ratio = measure_held(values[i]) / (outcomes[i].out_bytes or 1)
            self._ratios[stage] = ratio
        for i in sized:
            outcome, value = outcomes[i], values[i]
            stage = stage_of[outcome.task]
            if isinstance(value, Spooled):
                n_bytes = int(self._find_ratio(stage, value) * value.sizes[0])
                outcomes[i] = outcome._replace(loaded_bytes=n_bytes)
            else:
                n_bytes = int(self._ratios[stage] * (outcome.out_bytes or 0))
                outcomes[i] = outcome._replace(held_bytes=n_bytes)

    def _find_ratio(self, stage: int, spooled: Spooled) -> float:
        """Return how many times as large as its pickle a result in a file is.

        What is beside the pickle, the data of arrays, is as large as it was.
        """
        ratio = self._ratios.get(stage)
        if ratio is None and spooled.sizes[0] >= LARGE_BYTES and self._is_close:
            n_beside = spooled.n_bytes - spooled.sizes[0]
            ratio = 1.0
            try:
                held_bytes = measure_held(load(read(spooled)))
            except Exception as error:
                # Whoever needs it says what is wrong.
                logger.debug("a result in a file can't be measured: %r", error)
            else:
                ratio = max(1.0, (held_bytes - n_beside) / spooled.sizes[0])
            self._ratios[stage] = ratio
        return 1.0 if ratio is None else ratio

    @property
    def _is_close(self) -> bool:
        """Whether the run has taken so much that all results should be looked at."""
        budget = self._budget
        return budget.peak_bytes >= CLOSE_FRACTION * budget.limit_bytes

    def measure_growth(self) -> int:
        """Return the bytes that this process has more than in the beginning.

        Without what it has mapped, which counts as files. 0 as long as it doesn't
        matter.
        """
        budget, now = self._budget, perf_counter()
        near_bytes = NEAR_FRACTION * budget.limit_bytes
        if budget.taken_bytes < near_bytes and now < self._next_look_s:
            return 0
        self._next_look_s = now + LOOK_S
        grown = read_private_rss() - self._start_bytes
        if grown < near_bytes and budget.taken_bytes < near_bytes:
            return 0
        if grown > budget.here_bytes + TRIM_FRACTION * budget.limit_bytes:
            trim_rss()
            grown = read_private_rss() - self._start_bytes
        return max(0, grown)

    def measure_sample(self, done: BatchDone, result: BatchResult) -> list[Event]:
        """Measure what it would cost to run a sampled task elsewhere, on the first."""
        if not done.outcomes:
            return []
        stage = self._tasks.stage_of[done.outcomes[0].task]
        seconds = done.outcomes[0].seconds
        is_short = seconds < SIZE_S and seconds * self._n_tasks[stage] < STAGE_SIZE_S
        if is_short or stage in self._weighed:
            return []
        self._weighed.add(stage)
        task = done.outcomes[0].task
        try:
            # The functions in there are sent once, and so is the time for them.
            items = measure_pickled(self._store.items([task]))
            arguments = measure_pickled(self._store.arguments([task]))
            made = measure_pickled(result.values[0])
        except Exception as error:
            reason = f"it can't be pickled: {type(error).__name__}: {error}"
            return [Immovable(task, reason)]
        n = len(done.outcomes)
        done.in_bytes = (items.n_bytes + arguments.n_bytes) * n
        rate = self._load_bytes_per_s
        done.pack_s = n * sum(
            size.seconds + size.loading_s(rate) for size in (arguments, made)
        )
        if made.is_complete:
            # Else what it takes here has to do for what it would as a pickle.
            first = done.outcomes[0]
            done.outcomes[0] = first._replace(out_bytes=made.n_bytes)
            if first.held_bytes is not None and made.n_bytes >= PICKLED_BYTES:
                self._ratios[stage] = max(1.0, first.held_bytes / made.n_bytes)
        return []
