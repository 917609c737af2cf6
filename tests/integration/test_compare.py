"""Ways of calling a function with each item, run against each other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from quick_calls import nap, square
from rich.table import Table

from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    Comparison,
    ComparisonConfig,
    SerializationError,
    compare_strategies,
    optimize,
    validate_optimization,
)
from amorsize_dask.compare import strategies
from amorsize_dask.compare.strategies import Strategy
from amorsize_dask.compare.trials import StrategyTimes, run_trials

ALL = ["serial", "threads", "processes", "batched", "amorsize"]
ONLY_SERIAL = ComparisonConfig(
    include_parallel=False, include_batched=False, include_amorsize=False, num_trials=1
)


async def wait_elsewhere(x: int) -> int:
    return x


def make_items(n: int) -> Iterator[int]:
    yield from range(n)


# -- strategies ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 17])
def test_all_have_the_results_of_a_loop(n: int) -> None:
    """In order, for lambdas and items that look like tasks as well."""
    items = [(len, [x]) for x in range(n)]

    def count(item: Any) -> Any:
        return item[1][0] + 1

    expected = list(range(1, n + 1))
    assert strategies.run_serially(count, items) == expected
    assert strategies.run_in_threads(count, items, 3) == expected
    assert strategies.run_in_processes(count, items, 2) == expected
    assert strategies.run_in_processes(count, items, 2, 3) == expected
    assert strategies.run_in_batches(count, items) == expected
    assert strategies.run_measured(count, items) == expected
    assert strategies.run_in_bag(count, items, "amorsize") == expected


def test_processes_are_what_was_asked_for() -> None:
    """No more workers than jobs, none of them here, and a chunk stays together."""
    pids = strategies.run_in_processes(lambda x: os.getpid(), range(20), 2, 5)
    assert os.getpid() not in pids
    assert 1 <= len(set(pids)) <= 2
    assert all(len(set(pids[start : start + 5])) == 1 for start in range(0, 20, 5))


def test_threads_are_what_was_asked_for() -> None:
    """As many as jobs, in this process."""
    met = threading.Barrier(3, timeout=30)
    found = strategies.run_in_threads(
        lambda x: (met.wait(), os.getpid(), threading.get_ident()), range(3), 3
    )
    assert {pid for _, pid, _ in found} == {os.getpid()}
    assert len({thread for _, _, thread in found}) == 3


# -- trials ----------------------------------------------------------------------------


def test_turns() -> None:
    """Each strategy runs as often, and each is first now and then."""
    turns = []

    def make(name: str) -> Strategy:
        def run(func: Any, items: Any) -> list[Any]:
            turns.append(name)
            return [func(item) for item in items]

        return Strategy(name, run)

    found = run_trials([make("a"), make("b"), make("c")], square, [1, 2], 4)
    assert "".join(turns) == "abc" + "bca" + "cab" + "abc"
    assert [times.name for times in found] == ["a", "b", "c"]
    assert all(len(times.times_s) == 4 and times.is_usable for times in found)


def test_the_run_in_the_middle_counts() -> None:
    """One that was disturbed doesn't."""
    times = StrategyTimes(
        name="a", times_s=(1.0, 9.0, 2.0), has_same_results=True, error=None
    )
    assert times.median_s == 2.0


def test_other_results_and_errors() -> None:
    """They are noticed in any trial, and one that raises isn't run again."""
    n_runs = {"odd": 0, "broken": 0}

    def run_oddly(func: Any, items: Any) -> list[Any]:
        n_runs["odd"] += 1
        return [func(item) + (n_runs["odd"] == 2) for item in items]

    def run_and_break(func: Any, items: Any) -> list[Any]:
        n_runs["broken"] += 1
        raise OSError("no more processes")

    loop = Strategy("loop", strategies.run_serially)
    odd, broken = Strategy("odd", run_oddly), Strategy("broken", run_and_break)
    first, second, third = run_trials([loop, odd, broken], square, [1, 2], 3)
    assert first.is_usable
    assert not second.has_same_results
    assert not second.is_usable
    assert second.error is None
    assert not third.is_usable
    assert isinstance(third.error, OSError)
    assert third.median_s != third.median_s
    assert n_runs == {"odd": 3, "broken": 1}


# -- comparisons -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def napping() -> Comparison:
    """Return a comparison of work that waits, which a loop is slow at."""
    config = ComparisonConfig(schedulers=["sync", "threads"], num_trials=1)
    return compare_strategies(nap, make_items(40), config)


def test_a_comparison_has_all_of_them(napping: Comparison) -> None:
    """The best of them is the fastest, and isn't the loop for work that waits."""
    names = [found.name for found in napping.strategies]
    assert names == [*ALL, "dask sync", "dask threads"]
    assert all(found.is_usable for found in napping.strategies)
    assert napping.best_time == min(found.median_s for found in napping.strategies)
    assert napping.best.name == napping.best_strategy
    assert napping.best_strategy not in ("serial", "dask sync")
    assert napping.find_speedup(napping.best_strategy) > 1.2
    assert napping.find_speedup("serial") == 1.0
    with pytest.raises(KeyError):
        napping.find_speedup("nothing")


def test_a_generator_is_kept(napping: Comparison) -> None:
    """Its items are there to go on with."""
    assert list(napping.data) == list(range(40))


def test_what_is_shown(napping: Comparison) -> None:
    """Each strategy has a row and a bar, and the best one is marked."""
    assert isinstance(napping.table(), Table)
    assert napping.table().row_count == len(napping.strategies)
    text, html = str(napping), napping._repr_html_()
    for found in napping.strategies:
        assert text.count(found.name) >= 2
        assert found.name in html
    best = [line for line in napping.plot().splitlines() if line.endswith("best")]
    assert len(best) == 1
    assert best[0].split()[0] in napping.best_strategy
    bars = {line: line.count("█") for line in napping.plot().splitlines()}
    assert max(bars.values()) == 40
    assert min(bars.values()) >= 1


def test_trouble_is_shown() -> None:
    """What was raised is in the table, and other results are; neither is the best."""
    times = [
        StrategyTimes(name="serial", times_s=(2.0,), has_same_results=True),
        StrategyTimes(name="threads", times_s=(1.0,), has_same_results=False),
        StrategyTimes(
            name="processes",
            times_s=(),
            has_same_results=True,
            error=OSError("no [more] processes"),
        ),
    ]
    found = Comparison(strategies=tuple(times), data=[1])
    assert found.best_strategy == "serial"
    assert "OSError: no [more] processes" in str(found)
    assert "other than of serial" in str(found)
    assert "processes" not in found.plot()
    assert found.find_speedup("processes") != found.find_speedup("processes")


def test_other_results_each_time_are_best_in_a_loop() -> None:
    numbers = count()
    config = ComparisonConfig(include_batched=False, include_amorsize=False)
    found = compare_strategies(lambda x: next(numbers), range(5), config)
    assert found.best_strategy == "serial"
    assert [times.is_usable for times in found.strategies] == [True, False, False]
    assert "serial" in str(found)


def test_what_cannot_be_sent_is_no_error() -> None:
    """Processes are out of the question, and a loop is left."""
    lock = threading.Lock()

    def hold(x: int) -> int:
        with lock:
            return x

    config = ComparisonConfig(
        include_batched=False, include_amorsize=False, num_trials=1
    )
    found = compare_strategies(hold, [1, 2, 3], config)
    by_name = {times.name: times for times in found.strategies}
    assert isinstance(by_name["processes"].error, SerializationError)
    assert found.best_strategy in ("serial", "threads")


def test_functions_that_return_something_else_each_time() -> None:
    """None of the other ways can be told to be right, so the loop is best."""
    config = ComparisonConfig(include_amorsize=False, num_trials=1)
    found = compare_strategies(lambda x: object(), range(3), config)
    assert found.best_strategy == "serial"


def test_what_the_function_raises() -> None:
    """It arrives as itself, at the first item."""
    n_calls = 0

    def fail(x: int) -> None:
        nonlocal n_calls
        n_calls += 1
        raise ZeroDivisionError(x)

    with pytest.raises(ZeroDivisionError, match="7"):
        compare_strategies(fail, [7, 8])
    assert n_calls == 1


def test_without_a_loop() -> None:
    """Others are compared with the first one there is."""
    config = ComparisonConfig(
        include_serial=False,
        include_parallel=False,
        include_batched=False,
        schedulers=["sync", dask.get],
        num_trials=2,
    )
    found = compare_strategies(square, range(10), config)
    names = [times.name for times in found.strategies]
    assert names == ["amorsize", "dask sync", "dask get_sync"]
    assert found.find_speedup("amorsize") == 1.0


def test_items_may_be_an_array() -> None:
    """What has a length and places isn't copied into a list."""
    found = compare_strategies(square, np.arange(5), ONLY_SERIAL)
    assert found.best_strategy == "serial"
    assert len(found.data) == 5
    assert strategies.run_in_processes(square, np.arange(5), 2) == [0, 1, 4, 9, 16]


def test_schedulers_may_be_instances() -> None:
    """Such as one of this package with other arguments."""
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        config = ComparisonConfig(
            include_parallel=False,
            include_batched=False,
            include_amorsize=False,
            schedulers=[scheduler],
            num_trials=1,
        )
        found = compare_strategies(square, range(10), config)
        assert found.strategies[-1].name == "dask AmorsizeScheduler"
        assert found.strategies[-1].is_usable
        assert scheduler.last_run is not None


# -- predictions -----------------------------------------------------------------------


def test_a_plan_is_validated() -> None:
    """It is run for real, in as many processes, and compared with a loop."""
    found = validate_optimization(nap, make_items(60), 2, 5, num_trials=1)
    assert (found.n_jobs, found.chunksize) == (2, 5)
    assert found.has_same_results
    assert found.actual_speedup == found.serial_s / found.parallel_s
    # Waiting isn't bound to cores: about 2 with 2 processes, less their start.
    assert 0.5 < found.predicted_speedup < 2.1
    assert 0 < found.accuracy <= 100
    assert list(found.data) == list(range(60))
    assert found.advice in str(found)


@pytest.mark.parametrize(
    ("predicted", "accuracy"), [(2.0, 100.0), (4.0, 50.0), (1.0, 50.0), (8.0, 25.0)]
)
def test_accuracy(predicted: float, accuracy: float) -> None:
    """It says how far off a prediction was, whichever side it was on."""
    found = make_validation(predicted_speedup=predicted)
    assert found.accuracy == accuracy


def make_validation(**changed: Any) -> Any:
    from amorsize_dask.compare.prediction import OptimizationValidation

    fields = {
        "n_jobs": 2,
        "chunksize": 3,
        "serial_s": 4.0,
        "parallel_s": 2.0,
        "predicted_speedup": 2.0,
        "has_same_results": True,
        "data": (),
    }
    return OptimizationValidation(**{**fields, **changed})


def test_advice() -> None:
    """It tells whether the plan is worth following."""
    assert make_validation().advice == "worth it"
    assert "not worth it" in make_validation(parallel_s=3.9).advice
    assert "not worth it" in make_validation(parallel_s=9.0).advice
    assert make_validation(n_jobs=1, parallel_s=4.1).advice == "a loop"
    assert "differ" in make_validation(has_same_results=False).advice


def test_one_job_is_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started for it, and it is predicted to be no faster."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a scheduler was made")

    monkeypatch.setattr(strategies, "AmorsizeScheduler", refuse)
    found = validate_optimization(square, range(10), 1, 100)
    assert found.predicted_speedup == 1.0
    assert found.advice == "a loop"


def test_by_default_it_is_what_optimize_says() -> None:
    """Processes, chunks and the prediction are a plan's."""
    plan = optimize(square, range(100))
    found = validate_optimization(square, range(100), num_trials=1)
    assert (found.n_jobs, found.predicted_speedup) == (plan.n_jobs, 1.0)
    assert found.advice == "a loop"
    found = validate_optimization(square, range(100), 2, num_trials=1)
    assert found.n_jobs == 2
    assert found.chunksize >= 1
    assert found.predicted_speedup < 1


def test_the_users_prediction_is_taken() -> None:
    """It is what accuracy is about."""
    found = validate_optimization(
        square, [1, 2], 1, 1, num_trials=1, predicted_speedup=1e6
    )
    assert found.predicted_speedup == 1e6
    assert found.accuracy < 50


def test_work_that_cannot_be_sent() -> None:
    """There is no such plan: the error says why."""
    lock = threading.Lock()

    def hold(x: int) -> int:
        with lock:
            return x

    with pytest.raises(SerializationError, match="lock"):
        validate_optimization(hold, [1, 2], 2, 1)
    with pytest.raises(ZeroDivisionError):
        validate_optimization(lambda x: 1 // x, [0], 2, 1)


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda f: compare_strategies(3, [1]), "func"),
        (lambda f: compare_strategies(f, 3), "data"),
        (lambda f: compare_strategies(f, []), "data"),
        (lambda f: compare_strategies(f, count()), "data"),
        (lambda f: compare_strategies(wait_elsewhere, [1]), "func"),
        (lambda f: compare_strategies(f, iter([])), "data"),
        (lambda f: compare_strategies(f, [1], {"num_trials": 1}), "config"),
        (lambda f: ComparisonConfig(num_trials=0), "num_trials"),
        (lambda f: ComparisonConfig(num_trials=1.5), "num_trials"),
        (lambda f: ComparisonConfig(schedulers="threads"), "schedulers"),
        (lambda f: ComparisonConfig(schedulers=3), "schedulers"),
        (lambda f: ComparisonConfig(schedulers=["fibres"]), "fibres"),
        (lambda f: ComparisonConfig(schedulers=[3]), "schedulers"),
        (lambda f: ComparisonConfig(**dict.fromkeys(INCLUDES, False)), "include"),
        (lambda f: validate_optimization(3, [1], 1, 1), "func"),
        (lambda f: validate_optimization(f, 3, 1, 1), "data"),
        (lambda f: validate_optimization(f, [], 1, 1), "data"),
        (lambda f: validate_optimization(f, [1], 0, 1), "predicted_n_jobs"),
        (lambda f: validate_optimization(f, [1], 1, 0), "predicted_chunksize"),
        (lambda f: validate_optimization(f, [1], 1, 1, 0), "num_trials"),
        (lambda f: validate_optimization(f, [1], 1, 1, 1, 0), "predicted_speedup"),
        (lambda f: validate_optimization(f, [1], 1, 1, 1, "2"), "predicted_speedup"),
    ],
)
def test_arguments_that_make_no_sense(call: Any, name: str, tmp_path: Path) -> None:
    """They are refused before the function is called."""
    witness = tmp_path / "called"
    with pytest.raises(ArgumentError, match=name):
        call(lambda x: witness.touch())
    assert not witness.exists()


INCLUDES = ("include_serial", "include_parallel", "include_batched", "include_amorsize")
