"""A batch: what it gives, how it ends early, and what is measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from amorsize_dask.execute import batch
from amorsize_dask.execute.batch import BatchResult, Item, run_batch


def double(values: Mapping[str, int]) -> int:
    return 2 * values["x"]


def total(values: Mapping[str, int]) -> int:
    return sum(values.values())


def fail(values: Mapping[str, int]) -> int:
    raise ValueError(values["x"])


class Delay:
    """Seconds without a core, as tests want them to be read."""

    def __init__(self, *values_s: float) -> None:
        self._values_s = iter(values_s or itertools.repeat(0.0))

    def read_s(self) -> float:
        return next(self._values_s)


class Peak:
    """A process's peak of memory, as tests want it to be."""

    def __init__(self, *values: int) -> None:
        self._values = iter(values)

    def __call__(self) -> int:
        return next(self._values)


def run(
    items: list[Item],
    values: Mapping[str, Any],
    is_cancelled: Callable[[], bool] | None = None,
) -> BatchResult:
    """Run a batch on a machine with cores enough."""
    return run_batch(items, values, Delay(), is_cancelled)


def test_tasks_run_in_order() -> None:
    """Each task gives an outcome and a value, in the order of the batch."""
    items = [(7, double, ["x"]), (3, total, ["x", "y"]), (5, double, ["x"])]
    result = run(items, {"x": 4, "y": 3})
    assert [outcome.task for outcome in result.outcomes] == [7, 3, 5]
    assert result.values == [8, 7, 8]
    assert result.failure is None


def test_task_sees_its_own_arguments_alone() -> None:
    """A task is given the values that it names, no others, in a mapping of its own."""
    seen: list[Mapping[str, int]] = []
    items = [(0, seen.append, ["x"]), (1, seen.append, []), (2, seen.append, ["y"])]
    run(items, {"x": 4, "y": 3, "z": 2})
    assert seen == [{"x": 4}, {}, {"y": 3}]
    assert len({id(values) for values in seen}) == 3


def test_empty_batch() -> None:
    """No tasks, no outcomes."""
    result = run([], {})
    assert result.outcomes == result.values == []
    assert result.failure is None


def test_failure_keeps_what_came_before() -> None:
    """The values before a failure are kept, and what comes after it isn't run."""
    seen: list[Any] = []
    items = [
        (0, double, ["x"]),
        (1, double, ["x"]),
        (2, fail, ["x"]),
        (3, seen.append, ["x"]),
    ]
    result = run(items, {"x": 4})
    assert [outcome.task for outcome in result.outcomes] == [0, 1]
    assert result.values == [8, 8]
    assert result.failure is not None
    task, error = result.failure
    assert task == 2
    assert isinstance(error, ValueError)
    assert error.args == (4,)
    assert error.__traceback__ is not None
    assert not seen


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_every_exception_is_a_failure(kind: type[BaseException]) -> None:
    """Exceptions that end programs are handed over as well."""

    def end(values: Mapping[str, int]) -> None:
        raise kind

    result = run([(0, end, [])], {})
    assert result.failure is not None
    assert isinstance(result.failure[1], kind)


def test_missing_argument_is_the_task_s_failure() -> None:
    """A value that isn't there fails the task that needs it."""
    result = run([(0, double, ["x"]), (1, double, ["y"])], {"x": 1})
    assert result.values == [2]
    assert result.failure is not None
    assert result.failure[0] == 1
    assert isinstance(result.failure[1], KeyError)


def test_cancelled_before_a_task() -> None:
    """Once it is cancelled no further task is run; what is done is kept."""
    answers = iter([False, False, True])
    seen: list[Any] = []
    items = [(i, seen.append, ["x"]) for i in range(5)]
    result = run(items, {"x": 4}, lambda: next(answers))
    assert [outcome.task for outcome in result.outcomes] == [0, 1]
    assert len(seen) == 2
    assert result.failure is None


def set_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tasks take 1, 2, 3 seconds, half a second of each computing."""
    ticks = itertools.accumulate(itertools.count())
    cpu = itertools.count(0.0, 0.5)
    monkeypatch.setattr(batch, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(batch, "thread_time", lambda: next(cpu))


def test_seconds_are_those_of_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall and CPU seconds of a task go from the end of the one before to its own."""
    set_clocks(monkeypatch)
    result = run_batch([(i, double, ["x"]) for i in range(3)], {"x": 1}, Delay(7, 7))
    assert [outcome.seconds for outcome in result.outcomes] == [1, 2, 3]
    assert [outcome.cpu_s for outcome in result.outcomes] == [0.5] * 3


@pytest.mark.parametrize(
    ("delay_s", "expected"),
    [
        (0.9, [0.5 / 0.9, 1 / 1.7, 1.5 / 2.5]),
        (4.5, [1, 2, 3]),
        (100, [1, 2, 3]),
    ],
)
def test_seconds_without_a_core(
    monkeypatch: pytest.MonkeyPatch, delay_s: float, expected: list[float]
) -> None:
    """They count as what tasks do, and are theirs in proportion to what each lacks."""
    set_clocks(monkeypatch)
    items = [(i, double, ["x"]) for i in range(3)]
    result = run_batch(items, {"x": 1}, Delay(7, 7 + delay_s))
    assert [outcome.cpu_s for outcome in result.outcomes] == pytest.approx(expected)


def test_seconds_without_a_core_that_no_task_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that computed all the time has done no more than that."""
    ticks = itertools.count(0.0)
    monkeypatch.setattr(batch, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(batch, "thread_time", lambda: next(ticks))
    result = run_batch([(0, double, ["x"])], {"x": 1}, Delay(0, 1))
    assert result.outcomes[0].cpu_s == result.outcomes[0].seconds


@pytest.mark.parametrize(("left", "passing"), [(900, 600), (1300, 200), (1600, 0)])
def test_peak_of_memory_is_told_once(
    monkeypatch: pytest.MonkeyPatch, left: int, passing: int
) -> None:
    """What the batch took and gave back is the last outcome's."""
    monkeypatch.setattr(batch, "read_peak_rss", Peak(1000, 1500))
    monkeypatch.setattr(batch, "read_rss", lambda: left)
    result = run([(0, double, ["x"]), (1, double, ["x"])], {"x": 1})
    assert [outcome.peak_bytes for outcome in result.outcomes] == [None, passing]


@pytest.mark.parametrize("node", [double, fail])
def test_no_growth_is_not_measured(monkeypatch: pytest.MonkeyPatch, node: Any) -> None:
    """A peak from before says nothing of this batch, nor is there one to tell it of."""
    after = 1000 if node is double else 1500
    monkeypatch.setattr(batch, "read_peak_rss", Peak(1000, after))
    result = run([(0, node, ["x"])], {"x": 1})
    assert [outcome.peak_bytes for outcome in result.outcomes] in ([None], [])
