"""Trying out a function on some items, and keeping what it returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import ceil, inf
from statistics import median
from time import perf_counter
from typing import Any

from amorsize_dask.core.model import WAITING_FRACTION, Lane, Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.placing import LITTLE_S
from amorsize_dask.core.sampling import WATCH_S
from amorsize_dask.core.sharing import SHARED_S
from amorsize_dask.core.statistics import StageStatistics
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.execute.inner_threads import THREADED_MODULES
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.size import PickledSize, measure_known
from amorsize_dask.planning.item_sizes import (
    Line,
    expect,
    fit,
    measure_sizes,
    order_by_size,
)
from amorsize_dask.planning.sending import measure_sent, shorten_error
from amorsize_dask.planning.shared_state import SharedState
from amorsize_dask.planning.sharing import LEAST_STRETCH, N_THREADS, try_sharing
from amorsize_dask.planning.trial import Trial, call_all

#: Seconds that sampling may take, or this share of a loop's time, whichever is more.
#: Smaller: uneven items are judged by a few; larger: asking costs more than it saves.
BUDGET_S = 0.03
BUDGET_FRACTION = 0.03

#: Seconds that calls may take in any case until there are `CLEAR_ITEMS`, whatever the
#: clock says. Smaller: where others keep the machine busy one short call decides, which
#: was the first; larger: see above.
LEAST_BUDGET_S = 0.003

#: Share of a loop's time that calls in two threads at once may take beside. Smaller:
#: work of some seconds goes to threads that are in each other's way; larger: see above.
SHARING_FRACTION = 0.02

#: Seconds of an item below which no lane but the caller can be worth it, since sending
#: it takes as long; and how many such items tell that.
CHEAP_S = 5e-7
CHEAP_ITEMS = 50

#: Seconds of a call below which several are timed as one, and how many. Smaller: what
#: it takes to note each is a large part of it; larger: it isn't seen how they differ.
SHORT_S = 10e-6
GROUP_ITEMS = 32

#: Seconds that a group should take, and most items in it for that. Smaller: of calls
#: that take less than a microsecond, what it takes to time a group is seen as theirs;
#: larger: of calls that take longer there are fewer groups to compare.
GROUP_S = 100e-6
MOST_IN_GROUP = 1000

#: Most items that are tried at once. Smaller: many rounds; larger: of short items it
#: isn't the calls that take the time, but noting what they took.
MOST_AT_ONCE = 1000

#: Items that are tried before it may be clear what they take. Smaller: one in ten that
#: takes longer isn't among them; larger: where all are alike, time is spent on what is
#: known.
CLEAR_ITEMS = 30

#: Items that are tried before the first is told from the others, or all seem to fail.
#: Smaller: chance decides; larger: a slow first call is taken for what calls take.
LEAST_ITEMS = 5

#: Share of the mean by which it may be wrong, as its standard error, when it is said to
#: be clear. Smaller: more items are tried than the noise of the machine lets one see;
#: larger: predictions are wrong by that much.
CLEAR_FRACTION = 0.02

#: Times that more items are tried at once than so far, at most. Smaller: short ones are
#: tried in many rounds; larger: one that was slow for being the first, or quick by
#: chance, decides how many are tried for nothing.
MAX_GROWTH = 8

#: Bytes of results that are kept. Smaller: of large ones a few tell; larger: a plan
#: takes memory that its run needs.
KEPT_BYTES = 100_000_000

#: Items of which pickled bytes are measured. Smaller: one that is unlike the others
#: decides; larger: measuring takes as long as the calls.
N_SIZED = 3

#: Times as long as any other that the first call must have taken to be left out, and
#: times the median if modules were imported meanwhile. Smaller: what is just a larger
#: item is left out; larger: an import is taken for what each call costs.
FIRST_FACTOR = 3.0
IMPORT_FACTOR = 1.5

#: Cores that the process must have kept busy during a call for it to have threads of
#: its own. Smaller: the watching thread counts as one.
INNER_CORES = 1.4


@dataclass(slots=True)
class Sample:
    """What came of the items that were tried, by their places in the data."""

    outcomes: list[Outcome] = field(default_factory=list)
    values: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)
    #: Measurements without the first call, if that was slow for having been first.
    statistics: StageStatistics = field(default_factory=StageStatistics)
    first_call_s: float = 0.0
    #: Cores that one call keeps busy, if it has threads of its own; otherwise 1.
    n_inner_cores: float = 1.0
    in_sizes: list[PickledSize] = field(default_factory=list)
    out_sizes: list[PickledSize] = field(default_factory=list)
    #: Why items or results can't be sent to another process, and why not by `pickle`.
    unsendable: str | None = None
    unpicklable: str | None = None
    #: What calls have changed that others of them see.
    state: str | None = None
    #: Items of work that each of those tried was.
    n_each: int = 1
    seconds: float = 0.0
    #: Those of them that were calls one after the other, and not what is beside.
    called_s: float = 0.0
    #: Mean and deviation of the seconds of all items, by their sizes, if that is known.
    by_size: tuple[float, float] | None = None
    #: The seconds of each item by its size, in order, if sizes of all are known.
    each_s: Sequence[float] | None = None

    def workload(self, n_items: int, n_items_a_task: float = 1.0) -> Workload:
        """Return what was measured, for that many items."""
        workload = self.statistics.workload(n_items, n_items_a_task)
        if self.by_size is None:
            return workload
        mean_s, std_s = self.by_size
        return replace(workload, mean_s=mean_s, std_s=std_s)

    @property
    def n_tried(self) -> int:
        """How many items were tried."""
        return len(self.values) + len(self.failures)

    @property
    def mean_s(self) -> float:
        """Mean seconds of a call."""
        return self.statistics.mean_s if self.by_size is None else self.by_size[0]

    @property
    def variation(self) -> float | None:
        """Standard deviation of the seconds over their mean."""
        if self.statistics.n_counted < 2 or not self.mean_s:
            return None
        return self.workload(1).std_s / self.mean_s


def take_sample(
    func: Callable[[Any], Any],
    items: Sequence[Any],
    n_items: int,
    most: int | None = None,
    n_each: int = 1,
) -> Sample:
    """Call a function with some items, until it is clear what the others will take.

    Parameters
    ----------
    func : callable
        Called in another thread than the calling one. What it raises is kept.
    items : sequence
        Items to choose from.
    n_items : int
        How many there are in all, at least as many.
    most : int, optional
        Most items to try, >= 1.
    n_each : int, optional
        How many items of work each of them is: what is measured is by these.

    Returns
    -------
    Sample
        It has taken no longer than `BUDGET_S`, or `BUDGET_FRACTION` of what a loop
        over all items would take, but for the last call that was begun.
    """
    start = perf_counter()
    sampling = Sampling(func, items, n_items, most or len(items), n_each)
    with Trial(func) as trial:
        n = min(1, len(items))
        while n:
            sampling.try_out(trial, n)
            n = sampling.count_next(perf_counter() - start)
    sampling.try_sharing()
    sampling.expect_each()
    sample = sampling.sample
    sample.state = sampling.state.describe_changes()
    sample.seconds = perf_counter() - start
    return sample


class Sampling:
    """A sample while it is being taken."""

    def __init__(
        self,
        func: Callable[[Any], Any],
        items: Sequence[Any],
        n_items: int,
        most: int,
        n_each: int,
    ) -> None:
        self.sample = Sample(n_each=n_each)
        self._func = func
        self._groups: list[Outcome] = []
        self._group_size = GROUP_ITEMS
        self.state = SharedState(func)
        self._items = items
        self._n_items = n_items
        self._n_left = min(most, len(items))
        # A function that may keep state is called in order, as a loop would.
        self._sizes = {} if self.state.names else measure_sizes(items)
        self._places: Iterator[int] = (
            iter(range(len(items)))
            if self.state.names
            else order_by_size(len(items), self._sizes)
        )
        self._taken: set[int] = set()
        # Seconds that the next items may take, as far as their sizes tell that.
        self._left_s = inf
        self._gil: list[tuple[float, float]] = []
        self._n_modules = len(sys.modules)
        self._has_imported = False
        self._line: Line | None = None
        # Whether items were left out for their sizes, so that the others are shorter.
        self._has_left_out = False

    def try_out(self, trial: Trial, n: int) -> None:
        """Try some more items, each once, whether or not others raise."""
        places = self._take_places(n)
        while places:
            size = self._group_size
            if self._are_short and len(places) >= size:
                group, places = places[:size], places[size:]
                places = self._try_group(trial, group) + places
                continue
            found = trial.call(places, [self._items[place] for place in places])
            self._take(found, trial)
            n_done = len(found.values)
            if found.failure is not None:
                place, error = found.failure
                self._note_failure(place, error)
                n_done += 1
            places = places[n_done:]

    def _take_places(self, n: int) -> list[int]:
        """Return where the next items are that nobody has tried.

        Those of short calls are some beside each other, as a loop takes them: in
        memory they mostly are so, too, and what it takes to fetch others from all over
        it would be most of what is measured.
        """
        size = self._group_size if self._are_short else 1
        places: list[int] = []
        line = self._line if self.sample.by_size is not None else None
        left_s = self._left_s
        while len(places) < n:
            first = next((p for p in self._places if p not in self._taken), None)
            if first is None:
                break
            if line is not None:
                expected_s = line.base_s + line.slope_s * self._sizes.get(first, 0.0)
                if expected_s > left_s:
                    self._has_left_out = True
                    self._taken.add(first)
                    continue
                left_s -= max(0.0, expected_s)
            last = min(len(self._items), first + min(size, n - len(places)))
            run = takewhile(lambda p: p not in self._taken, range(first, last))
            found = list(run)
            self._taken.update(found)
            places += found
        self._n_left = self._n_left - len(places) if places else 0
        return places

    def _try_group(self, trial: Trial, places: list[int]) -> list[int]:
        """Time short calls as one; return the places of those that weren't made."""
        values: list[Any] = []

        def call_group(items: list[Any]) -> None:
            call_all(self._func, items, values)

        found = trial.call_other(call_group, [self._items[place] for place in places])
        self.sample.values.update(zip(places, values, strict=False))
        if found.failure is not None:
            self._note_failure(places[len(values)], found.failure[1])
            return places[len(values) + 1 :]
        self._groups += found.outcomes
        self.sample.called_s += sum(outcome.seconds for outcome in found.outcomes)
        self._note_watch(trial, found.outcomes)
        self._count()
        return []

    def _note_failure(self, place: int, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.sample.failures[place] = error

    def _take(self, found: BatchResult, trial: Trial) -> None:
        sample, outcomes = self.sample, found.outcomes
        if not outcomes:
            return
        is_first = not sample.outcomes
        if is_first:
            self._has_imported = len(sys.modules) > self._n_modules
            self.state.note_first_call()
        sample.outcomes += outcomes
        sample.called_s += sum(outcome.seconds for outcome in outcomes)
        self._note_watch(trial, outcomes)
        for outcome, value in zip(outcomes, found.values, strict=True):
            sample.values[outcome.task] = value
            if len(sample.in_sizes) < N_SIZED:
                self._measure_sizes(self._items[outcome.task], value)
        self._count()

    def _note_watch(self, trial: Trial, outcomes: Sequence[Outcome]) -> None:
        if trial.gil_fraction is None:
            return
        seconds = sum(outcome.seconds for outcome in outcomes)
        self._gil.append((seconds, trial.gil_fraction))
        if trial.n_busy_cores > INNER_CORES and _may_have_threads():
            most = max(self.sample.n_inner_cores, trial.n_busy_cores)
            self.sample.n_inner_cores = most

    def _measure_sizes(self, item: Any, value: Any) -> None:
        sample = self.sample
        for what, found, sizes in (
            ("an item", item, sample.in_sizes),
            ("a result", value, sample.out_sizes),
        ):
            try:
                size = measure_sent(found)
            except Exception as error:
                sample.unsendable = f"{what} can't be pickled: {shorten_error(error)}"
                size = PickledSize(measure_known(found), 0.0, True, False)
            if not size.is_plain and sample.unpicklable is None:
                reason = sample.unsendable or f"{what} can't be pickled without help"
                sample.unpicklable = reason
            sizes.append(size)

    def _count(self) -> None:
        """Add up anew what is known, with or without the first call."""
        sample = self.sample
        first, *others = sample.outcomes
        sample.first_call_s = 0.0
        seconds = [outcome.seconds for outcome in others]
        factor = inf
        if self._has_imported and seconds:
            factor = IMPORT_FACTOR * median(seconds)
        if len(seconds) >= LEAST_ITEMS - 1:
            factor = min(factor, FIRST_FACTOR * max(seconds))
        counted = sample.outcomes
        if first.seconds > factor:
            sample.first_call_s = first.seconds - sum(seconds) / len(seconds)
            counted = others
        statistics = sample.statistics = StageStatistics()
        size = sample.n_each
        if self._groups:
            # What noting single calls took is no part of them.
            counted, size = self._groups, self._group_size
        outcomes = [outcome._replace(out_bytes=None) for outcome in counted]
        n_bytes = size / sample.n_each * _mean(sample.out_sizes)
        outcomes[0] = outcomes[0]._replace(out_bytes=round(n_bytes))
        n_items = size * len(outcomes)
        statistics.add(outcomes, Lane.INLINE, n_items=n_items)
        statistics.sizes.add_sent(_mean(sample.in_sizes) / self.sample.n_each)
        loading_s = self._count_loading_s()
        if loading_s:
            seconds = [outcome.seconds for outcome in outcomes]
            statistics.packing.add(n_items * loading_s, sum(seconds), n_items)
        self._compare(counted)
        if self._gil:
            watched_s = sum(seconds for seconds, _ in self._gil)
            gil_fraction = sum(s * gil for s, gil in self._gil) / watched_s
            statistics.watch(gil_fraction, statistics.cpu_fraction)

    def _count_loading_s(self) -> float:
        """Return the seconds that loading large values takes, by item."""
        rate = measure_machine().costs.load_bytes_per_s
        return (
            sum(
                sum(size.loading_s(rate) for size in sizes) / len(sizes)
                for sizes in (self.sample.in_sizes, self.sample.out_sizes)
                if sizes
            )
            / self.sample.n_each
        )

    def _compare(self, counted: Sequence[Outcome]) -> None:
        """See whether the seconds of calls go with the sizes of their items."""
        self.sample.by_size = self.sample.each_s = None
        if self._sizes and not self._groups:
            seconds = {outcome.task: outcome.seconds for outcome in counted}
            line = fit(self._sizes, seconds, is_certain=self._has_left_out)
            if line is not None:
                mean_s, std_s = expect(line, self._sizes)
                if min(seconds.values()) <= mean_s:
                    self.sample.by_size = mean_s, std_s
                    self._line = line

    def try_sharing(self) -> None:
        """See whether calls that seem to leave the GIL free do so to each other.

        If they compute, and as far as there is time for it.
        """
        statistics, mean_s = self.sample.statistics, self.sample.mean_s
        gil = statistics.gil_fraction
        if gil is None or self.state.names or self.sample.failures:
            return
        if gil > WAITING_FRACTION or statistics.cpu_fraction < WAITING_FRACTION:
            return
        n_cores = measure_machine().n_cores
        if n_cores < N_THREADS or self.sample.n_inner_cores > 1 or mean_s <= 0:
            return
        each_s = self.sample.n_each * mean_s
        # One for each is over before the other thread has begun, if that is slow.
        n = max(2 * N_THREADS, ceil(1.1 * SHARED_S / each_s / statistics.cpu_fraction))
        loop_s = self._n_items * mean_s
        has_time = n * each_s < SHARING_FRACTION * loop_s
        has_room = n * self._result_bytes < KEPT_BYTES / 2
        if n > self._n_left or not has_time or not has_room:
            return
        self._left_s = inf
        places = self._take_places(n)
        if len(places) < n:
            return  # others were left out for their sizes
        try:
            found = try_sharing(self._func, places, [self._items[i] for i in places])
        except RuntimeError:
            return  # there is no thread to be had
        self.sample.values.update(found.values)
        for place, error in found.failures.items():
            self._note_failure(place, error)
        if not found.failures and found.stretch > LEAST_STRETCH:
            n_tried = n * self.sample.n_each
            seconds = n_tried * mean_s * found.stretch * statistics.cpu_fraction
            shared = [Outcome(0, seconds)]
            statistics.add_shared(shared, n_tried, N_THREADS, n_cores)

    def expect_each(self) -> None:
        """Work out what each item takes, if that is known of all of them."""
        line, n_items = self._line, self._n_items
        if self.sample.by_size is not None and line and len(self._sizes) == n_items:
            self.sample.each_s = [
                max(0.0, line.base_s + line.slope_s * self._sizes[place])
                for place in range(n_items)
            ]

    @property
    def _are_short(self) -> bool:
        """Whether noting what single calls take takes as long as they do."""
        return self.sample.n_each == 1 and 0 < self.sample.mean_s < SHORT_S

    @property
    def _result_bytes(self) -> float:
        return _mean(self.sample.out_sizes)

    def count_next(self, elapsed_s: float) -> int:
        """Return how many items to try next; 0 if that is enough."""
        sample = self.sample
        n_left = self._n_left
        if not n_left or len(sample.failures) >= LEAST_ITEMS > len(sample.values):
            return 0
        if not sample.values:
            return 1
        mean_s = max(self.sample.n_each * sample.mean_s, 1e-9)
        loop_s = self._n_items / self.sample.n_each * mean_s
        n_enough = CHEAP_ITEMS if self._are_short else 2
        if len(sample.values) >= n_enough and loop_s < LITTLE_S / 2:
            return 0
        if self._is_clear():
            return 0
        left_s = max(BUDGET_S, BUDGET_FRACTION * loop_s) - elapsed_s
        if sample.n_tried < CLEAR_ITEMS:
            called_s = sum(outcome.seconds for outcome in sample.outcomes)
            left_s = max(left_s, LEAST_BUDGET_S - called_s)
        left_bytes = KEPT_BYTES - len(sample.values) * self._result_bytes
        # One that is longer than the others is left out if it would take more.
        self._left_s = left_s
        if left_s < mean_s or left_bytes < self._result_bytes:
            return 0
        n_most = min(MAX_GROWTH * sample.n_tried, MOST_AT_ONCE)
        if self._are_short:
            self._enlarge_groups(mean_s)
            n_most = max(n_most, self._group_size)
        if self._result_bytes:
            n_most = min(n_most, int(left_bytes / self._result_bytes))
        return max(1, min(n_left, n_most, int(min(WATCH_S, left_s) / mean_s)))

    def _enlarge_groups(self, mean_s: float) -> None:
        """Time more calls as one, if timing so few is a large part of what they take.

        Smaller groups than that are forgotten.
        """
        if self._may_enlarge(mean_s):
            self._group_size = _group_size(mean_s)
            self._groups = []

    def _may_enlarge(self, mean_s: float) -> bool:
        size = _group_size(mean_s)
        return 2 * self._group_size <= size <= self._n_left

    def _is_clear(self) -> bool:
        sample = self.sample
        n, variation = len(sample.values), sample.variation
        if n < CLEAR_ITEMS or variation is None:
            return False
        if self._are_short and not self._groups and self._n_left:
            return False
        if n >= CHEAP_ITEMS and sample.mean_s < CHEAP_S:
            return not self._may_enlarge(sample.mean_s)
        if variation / n**0.5 > CLEAR_FRACTION:
            return False
        return sample.statistics.gil_fraction is not None


def _group_size(mean_s: float) -> int:
    return max(GROUP_ITEMS, min(MOST_IN_GROUP, int(GROUP_S / mean_s)))


def _may_have_threads() -> bool:
    return any(name in sys.modules for name in THREADED_MODULES)


def _mean(sizes: Sequence[PickledSize]) -> float:
    return sum(size.n_bytes for size in sizes) / max(1, len(sizes))
