"""Trying out functions on some items."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planned_functions as functions
import pytest

from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning import sample as planning_sample
from amorsize_dask.planning.sample import take_sample
from amorsize_dask.planning.sending import describe_function
from amorsize_dask.planning.sharing import try_sharing
from amorsize_dask.planning.trial import Trial


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_results_are_kept_by_their_places() -> None:
    items = list(range(1000, 1300))
    sample = take_sample(functions.double, items, len(items))
    assert sample.values
    assert all(value == 2 * items[place] for place, value in sample.values.items())
    assert len(sample.values) == sample.n_tried


def test_each_item_is_tried_once(tmp_path: Path) -> None:
    recorder = functions.Recorder(tmp_path, 0.0005)
    sample = take_sample(recorder, range(200), 200)
    counts = recorder.counts()
    assert counts == dict.fromkeys(sample.values, 1)


def test_it_spreads() -> None:
    """Sorted by size, the head would tell of the smallest."""
    items = [0.0001] * 300 + [0.002] * 300
    sample = take_sample(functions.spin, items, len(items))
    low = sum(place < 300 for place in sample.values)
    assert 0.25 <= low / len(sample.values) <= 0.75
    assert sample.mean_s > 0.0004


class ExactTrial:
    """Calls that take as many seconds as their items say, though none passes."""

    gil_fraction, n_busy_cores = 1.0, 1.0

    def call(self, places: list[int], items: list[float]) -> BatchResult:
        """Return what came of them."""
        pairs = zip(places, items, strict=True)
        outcomes = [Outcome(place, item, item) for place, item in pairs]
        return BatchResult(outcomes, list(items))


def test_items_too_large_for_the_time_are_left_out() -> None:
    """By those that fit it is known what they would have taken."""
    items = [*(0.0005 * 1.03**i for i in range(80)), 3.0, 4.0]
    sampling = planning_sample.Sampling(abs, items, len(items), len(items), 1)
    n = 1
    while n:
        sampling.try_out(ExactTrial(), n)  # type: ignore[arg-type]
        sample = sampling.sample
        n = sampling.count_next(sample.called_s)
    assert len(sample.values) > 3
    assert not {80, 81} & sample.values.keys()
    assert sample.mean_s == pytest.approx(sum(items) / len(items))
    assert sample.called_s <= 0.03 * sum(items)


def test_calls_are_counted_apart_from_what_is_beside() -> None:
    sample = take_sample(functions.nap, [0.005] * 20, 20)
    assert 0.005 * len(sample.values) <= sample.called_s < sample.seconds
    short = take_sample(functions.double, range(100_000), 100_000)
    assert 0 < short.called_s < short.seconds


def test_short_calls_are_tried_beside_each_other() -> None:
    """As a loop makes them, and all over the data; no item twice."""
    items = [1000 * i for i in range(100_000)]
    sample = take_sample(functions.double, items, len(items))
    assert all(value == 2 * items[place] for place, value in sample.values.items())
    places = sorted(sample.values)
    beside = sum(b - a == 1 for a, b in itertools.pairwise(places))
    assert beside > 0.8 * len(places)
    assert places[-1] - places[0] > 0.3 * len(items)


def test_it_stops_when_it_is_clear() -> None:
    """Of thousands of items that are alike a few tell enough."""
    sample = take_sample(functions.nap, [0.002] * 100_000, 100_000)
    assert planning_sample.LEAST_ITEMS <= sample.n_tried < 1000


def test_it_stops_where_there_is_little() -> None:
    sample = take_sample(functions.double, range(500), 500)
    assert 1 < sample.n_tried <= 500
    assert sample.seconds < 10 * planning_sample.BUDGET_S


def test_one_short_call_never_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others keep the machine busy the time may be up before it has begun."""
    monkeypatch.setattr(planning_sample, "BUDGET_S", 0.0)
    monkeypatch.setattr(planning_sample, "BUDGET_FRACTION", 0.0)
    short = take_sample(functions.spin, [1e-6] * 100_000, 100_000)
    assert short.n_tried >= planning_sample.CLEAR_ITEMS
    long = take_sample(functions.nap, [0.01] * 100, 100)
    assert long.n_tried == 1


def test_most_is_most() -> None:
    for most in (1, 2, 7):
        sample = take_sample(functions.spin, [0.001] * 100, 100, most)
        assert sample.n_tried <= most


def test_nothing_to_try() -> None:
    sample = take_sample(functions.double, [], 0)
    assert sample.n_tried == 0
    assert sample.variation is None


def test_failures_are_noted_and_the_others_go_on() -> None:
    sample = take_sample(functions.fail_at_odd, range(100), 100, 30)
    assert sample.failures.keys().isdisjoint(sample.values)
    assert sample.failures
    assert all(place % 2 for place in sample.failures)
    assert all(isinstance(error, ValueError) for error in sample.failures.values())
    assert all(value % 2 == 0 for value in sample.values.values())
    assert len(sample.values) > 1


def test_short_calls_are_timed_together() -> None:
    """What noting each takes isn't taken for what they take; failures are found."""
    called: list[int] = []

    def work(x: int) -> int:
        called.append(x)
        if x % 70 == 3:
            raise ValueError(x)
        return x

    sample = take_sample(work, range(2000), 1_000_000)
    assert len(called) == len(set(called)) == sample.n_tried > 64
    assert sample.values == {x: x for x in called if x % 70 != 3}
    assert sample.failures.keys() == {x for x in called if x % 70 == 3}


def test_what_would_end_a_loop_is_a_failure() -> None:
    """Where calls are timed together, and where they are made in two threads."""

    def stop(x: int) -> int:
        if x % 70 == 3:
            raise StopIteration
        return x

    sample = take_sample(stop, range(2000), 1_000_000)
    tried = sample.values.keys() | sample.failures.keys()
    assert max(tried) > 70
    assert sample.failures.keys() == {x for x in tried if x % 70 == 3}
    shared = try_sharing(stop, range(10), range(10))
    assert shared.failures.keys() == {3}


def test_what_always_fails_is_given_up() -> None:
    sample = take_sample(functions.fail, range(1000), 1000)
    assert len(sample.failures) == planning_sample.LEAST_ITEMS
    assert not sample.values


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_ends_it(kind: type[BaseException]) -> None:
    def end(x: int) -> None:
        raise kind

    with pytest.raises(kind):
        take_sample(end, range(10), 10)
    deadline = time.monotonic() + 5
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)


def test_waiting_and_computing_are_told_apart() -> None:
    waiting = take_sample(functions.nap, [0.01] * 1000, 1000)
    computing = take_sample(functions.spin, [0.005] * 1000, 1000)
    assert waiting.statistics.cpu_fraction < 0.3
    assert computing.statistics.cpu_fraction > 0.7
    gil = computing.statistics.gil_fraction
    assert gil is not None
    assert gil > 0.6


def test_the_gil_is_seen_to_be_free() -> None:
    sample = take_sample(functions.digest, [3_000_000] * 1000, 1000)
    gil = sample.statistics.gil_fraction
    assert gil is not None
    assert gil < 0.4
    assert sample.statistics.cpu_fraction > 0.7


def test_uneven_items() -> None:
    even = take_sample(functions.nap, [0.004] * 400, 400)
    uneven = take_sample(functions.nap, [0.001, 0.02] * 200, 400)
    assert even.variation is not None
    assert uneven.variation is not None
    # Naps take longer where others keep the machine busy, some more than others.
    assert uneven.variation > max(0.4, even.variation)


def test_a_slow_first_call_is_no_part_of_the_mean() -> None:
    """It loads something, once; every process pays for that, but not every item."""
    loaded: list[int] = []

    def load(x: int) -> int:
        if not loaded:
            time.sleep(0.1)
            loaded.append(1)
        time.sleep(0.001)
        return x

    sample = take_sample(load, range(1000), 1000)
    assert sample.first_call_s > 0.05
    assert sample.mean_s < 0.02


def test_sizes() -> None:
    sample = take_sample(functions.make_bytes, [2_000_000] * 10, 10)
    workload = sample.statistics.workload(10)
    assert workload.out_bytes == pytest.approx(2_000_000, rel=0.01)
    assert workload.in_bytes < 100
    arrays = [np.zeros(1_000_000) for _ in range(5)]
    sample = take_sample(np.sum, arrays, 5)
    assert sample.statistics.workload(5).in_bytes == pytest.approx(8e6, rel=0.01)
    # Of a long list only a part is pickled.
    sample = take_sample(len, [list(range(1_000_000))] * 3, 3)
    assert sample.statistics.workload(3).in_bytes > 2e6


def test_few_large_results_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However quickly they are made, and one in any case."""
    monkeypatch.setattr(planning_sample, "KEPT_BYTES", 5_000_000)
    sample = take_sample(functions.make_bytes, [1_000_000] * 5000, 5000)
    assert 1 < sample.n_tried <= 5
    monkeypatch.setattr(planning_sample, "KEPT_BYTES", 10)
    sample = take_sample(functions.make_bytes, [1_000_000] * 5000, 5000)
    assert sample.n_tried == 1


def test_what_cannot_be_sent() -> None:
    sample = take_sample(iter, [[1], [2]], 2)
    assert sample.unsendable is None
    sample = take_sample(lambda x: (y for y in [x]), range(3), 3)
    assert sample.unsendable is not None
    assert "a result can't be pickled" in sample.unsendable
    sample = take_sample(lambda x: lambda: x, range(3), 3)
    assert sample.unsendable is None
    assert sample.unpicklable is not None


def test_functions_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    n_bytes, unsendable, unpicklable = describe_function(functions.double)
    assert 0 < n_bytes < 200
    assert unsendable is unpicklable is None
    _, unsendable, unpicklable = describe_function(lambda x: x)
    assert unsendable is None
    assert unpicklable is not None
    _, unsendable, unpicklable = describe_function(lambda x: lock)
    assert unsendable is not None
    assert "lock" in unsendable


def test_state_is_seen_and_tried_in_order() -> None:
    n = 0

    def count(x: int) -> tuple[int, int]:
        nonlocal n
        n += 1
        return x, n

    sample = take_sample(count, range(100), 100)
    assert sample.state == "n"
    assert list(sample.values) == list(range(len(sample.values)))
    assert all(value == (i, i + 1) for i, value in sample.values.items())


def test_inner_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that keeps more than one core busy is seen to."""

    class Busy(Trial):
        def call(self, places: Any, items: Any) -> Any:
            found = super().call(places, items)
            self.n_busy_cores = 3.0
            return found

    assert take_sample(functions.spin, [0.005] * 100, 100).n_inner_cores == 1.0
    monkeypatch.setattr(planning_sample, "Trial", Busy)
    sample = take_sample(functions.spin, [0.005] * 100, 100)
    assert sample.n_inner_cores == 3.0


def test_a_trial_can_be_left(tmp_path: Path) -> None:
    """One that takes long goes on while something else is done."""
    with Trial(functions.nap) as trial:
        trial.begin([0], [0.05])
        assert trial.wait(timeout_s=0.001) is None
        found = trial.wait()
        assert found is not None
        assert found.values == [0.05]


def test_context_variables_are_seen() -> None:
    from contextvars import ContextVar

    variable: ContextVar[Any] = ContextVar("variable", default=None)
    variable.set("here")
    sample = take_sample(lambda x: variable.get(), range(3), 3)
    assert set(sample.values.values()) == {"here"}


def test_calls_below_a_microsecond_are_timed_many_at_once() -> None:
    """What timing a few of them takes is longer than they are."""
    items = range(10_000_000)
    sample = take_sample(abs, items, len(items))
    assert sample.n_tried > 500
    assert all(value == items[place] for place, value in sample.values.items())
    assert 0 < sample.mean_s < 1e-5


@pytest.mark.parametrize(
    ("func", "are_in_the_way"),
    [(functions.digest_alone, True), (functions.digest, False)],
)
def test_threads_that_are_in_the_way_of_each_other_are_seen(
    monkeypatch: pytest.MonkeyPatch, func: Any, are_in_the_way: bool
) -> None:
    """No call by itself shows it: both leave the GIL alone."""
    machine = replace(measure_machine(), n_cores=4, n_physical_cores=4)
    monkeypatch.setattr(planning_sample, "measure_machine", lambda: machine)
    digest = functions.digest(20_000_000)
    seen = []
    # On a machine that others keep busy the two may not meet.
    while are_in_the_way not in seen and len(seen) < 5:
        sample = take_sample(func, [20_000_000] * 500, 500)
        seen.append(sample.workload(500).gil_fraction > 0.5)
        assert set(sample.values.values()) == {digest}
    assert are_in_the_way in seen


def test_what_is_tried_together_is_kept() -> None:
    """Results by their places, up to the item that an exception has ended a thread."""
    shared = try_sharing(functions.double, range(10, 20), range(100, 110))
    assert shared.values == {10 + i: 200 + 2 * i for i in range(10)}
    assert not shared.failures
    shared = try_sharing(functions.invert, range(6), [1, 2, 4, 0, 5, 8])
    assert shared.values == {0: 1.0, 1: 0.5, 2: 0.25, 4: 0.2}
    assert list(shared.failures) == [3]
    assert isinstance(shared.failures[3], ZeroDivisionError)
