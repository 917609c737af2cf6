"""Interleaved rounds: what all benchmarks here time with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any


def time_rounds(
    contestants: Mapping[str, Callable[[], Any]], n_rounds: int
) -> dict[str, float]:
    """Run all contestants in turn, round by round, and compare their results.

    A machine that gets slower meanwhile does so for all of them. Each round starts with
    another contestant, and one round before the first isn't counted.

    Parameters
    ----------
    contestants : mapping of str to callable
        What to time; all must return equal results.
    n_rounds : int
        Rounds that count, >= 1.

    Returns
    -------
    dict of str to float
        The median seconds of each.

    Raises
    ------
    SystemExit
        If two results differ.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    expected = contestants[names[0]]()
    for i in range(-1, n_rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            start_s = perf_counter()
            result = contestants[name]()
            seconds[name].append(perf_counter() - start_s)
            if result != expected:
                raise SystemExit(f"{name} has another result than {names[0]}")
    return {name: median(times[1:]) for name, times in seconds.items()}
