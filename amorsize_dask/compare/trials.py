"""Strategies run in turns, and what each took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from amorsize_dask.compare.sameness import are_same
from amorsize_dask.compare.strategies import Function, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyTimes:
    """What one strategy took, and whether it can be relied on."""

    #: What it is called.
    name: str
    #: Seconds of each of its runs, in order.
    times_s: tuple[float, ...]
    #: Whether all its runs had the results of the first strategy's first run; that one
    #: is what others are compared with.
    has_same_results: bool
    #: What it raised; it wasn't run again then.
    error: Exception | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it ran to its end and had the same results."""
        return self.error is None and self.has_same_results

    @property
    def median_s(self) -> float:
        """Seconds of the run in the middle; NaN if none ended."""
        return median(self.times_s) if self.times_s else float("nan")


def run_trials(
    strategies: Sequence[Strategy],
    func: Function,
    items: Sequence[Any],
    n_trials: int,
) -> list[StrategyTimes]:
    """Run strategies in turns, so that what disturbs the machine disturbs all of them.

    Parameters
    ----------
    strategies : sequence of Strategy
        At least one. Results are compared with those of the first one.
    func : callable
        Called with an item.
    items : sequence
        What to call it with.
    n_trials : int
        Runs of each, >= 1.

    Returns
    -------
    list of StrategyTimes
        One for each strategy, in order.

    Raises
    ------
    BaseException
        What the first strategy raises, as itself. What the others raise is kept.
    """
    times_s: list[list[float]] = [[] for _ in strategies]
    has_same = [True] * len(strategies)
    errors: list[Exception | None] = [None] * len(strategies)
    expected: list[Any] | None = None
    for trial in range(n_trials):
        # Each is first now and then; at the start it is the one to compare with.
        for turn in range(len(strategies)):
            number = (trial + turn) % len(strategies)
            if errors[number] is not None:
                continue
            start = perf_counter()
            try:
                results = strategies[number].run(func, items)
            except Exception as error:
                if number == 0:
                    raise
                errors[number] = error
                continue
            times_s[number].append(perf_counter() - start)
            if expected is None:
                expected = results
            elif number and has_same[number]:
                # If the first one's own runs differ, that is how the function is.
                has_same[number] = are_same(results, expected)
            del results
    return [
        StrategyTimes(
            name=strategy.name,
            times_s=tuple(times_s[number]),
            has_same_results=has_same[number],
            error=errors[number],
        )
        for number, strategy in enumerate(strategies)
    ]
