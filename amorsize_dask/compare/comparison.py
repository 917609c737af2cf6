"""Which way of calling a function with items is the fastest: `compare_strategies`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from operator import attrgetter
from typing import Any

from dask.base import get_scheduler
from rich.console import Console
from rich.table import Table
from rich.text import Text

from amorsize_dask.arguments import check_count, check_function
from amorsize_dask.compare.strategies import (
    Strategy,
    run_in_bag,
    run_in_batches,
    run_in_processes,
    run_in_threads,
    run_measured,
    run_serially,
)
from amorsize_dask.compare.trials import StrategyTimes, run_trials
from amorsize_dask.core.units import format_seconds
from amorsize_dask.errors import ArgumentError
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.data import list_all

#: Characters of the longest bar of a plot.
BAR_WIDTH = 40

#: Characters of an error's text that a table shows.
ERROR_WIDTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonConfig:
    """What is compared, and how often each runs.

    Raises
    ------
    ArgumentError
        For a number of trials that is none, a scheduler that Dask doesn't know, and
        where nothing is left to compare.
    """

    #: A loop.
    include_serial: bool = True
    #: Threads, and worker processes: as many as there are cores, in a pool's chunks.
    include_parallel: bool = True
    #: `process_in_batches`.
    include_batched: bool = True
    #: `AmorsizeScheduler`, which decides by itself.
    include_amorsize: bool = True
    #: Schedulers of Dask's: names such as "threads", or what `compute` takes.
    schedulers: Sequence[Any] = ()
    #: Runs of each, >= 1; the one in the middle counts.
    num_trials: int = 3

    def __post_init__(self) -> None:
        check_count("num_trials", self.num_trials, 1)
        if isinstance(self.schedulers, str) or not isinstance(
            self.schedulers, Iterable
        ):
            expected = "expected a list of schedulers"
            raise ArgumentError("schedulers", self.schedulers, expected)
        for scheduler in self.schedulers:
            try:
                get_scheduler(scheduler=scheduler)
            except (ValueError, TypeError) as error:
                expected = "expected names of Dask's schedulers, or what compute takes"
                raise ArgumentError("schedulers", scheduler, expected) from error
        if not self.find_strategies():
            expected = "with all others left out there is nothing to compare"
            raise ArgumentError("include_serial", self.include_serial, expected)

    def find_strategies(self) -> list[Strategy]:
        """Return what is compared, the simplest first."""
        n_cores = measure_machine().n_cores
        found = []
        if self.include_serial:
            found.append(Strategy("serial", run_serially))
        if self.include_parallel:
            in_threads = partial(run_in_threads, n_threads=n_cores)
            in_processes = partial(run_in_processes, n_jobs=n_cores)
            found.append(Strategy("threads", in_threads))
            found.append(Strategy("processes", in_processes))
        if self.include_batched:
            found.append(Strategy("batched", run_in_batches))
        if self.include_amorsize:
            found.append(Strategy("amorsize", run_measured))
        for scheduler in self.schedulers:
            in_bag = partial(run_in_bag, scheduler=scheduler)
            found.append(Strategy(f"dask {_name_scheduler(scheduler)}", in_bag))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What each strategy took.

    ``str()`` of it is a table; in a notebook it is shown as one.
    """

    #: One for each strategy, the simplest first.
    strategies: tuple[StrategyTimes, ...]
    #: The items, also if they came from a generator.
    data: Sequence[Any] = field(repr=False)

    @property
    def best(self) -> StrategyTimes:
        """The fastest of those that had the same results as the first one."""
        usable = (found for found in self.strategies if found.is_usable)
        return min(usable, key=attrgetter("median_s"))

    @property
    def best_strategy(self) -> str:
        """What the fastest is called."""
        return self.best.name

    @property
    def best_time(self) -> float:
        """Seconds of the fastest."""
        return self.best.median_s

    def find_speedup(self, name: str) -> float:
        """Return how many times as fast as the first strategy one is.

        Parameters
        ----------
        name : str
            A strategy's.

        Returns
        -------
        float
            NaN if it has raised.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        by_name = {found.name: found for found in self.strategies}
        return self.strategies[0].median_s / by_name[name].median_s

    def table(self) -> Table:
        """Return a table for rich, one row for each strategy.

        Its speedup is how many times as fast as the first one a strategy is.
        """
        first = self.strategies[0].name
        table = Table("strategy", title=f"{len(self.data)} items")
        for heading in ("seconds", "from", "to", "speedup"):
            table.add_column(heading, justify="right")
        table.add_column("results")
        for found in self.strategies:
            if found.error is not None:
                error = f"{type(found.error).__name__}: {found.error}"[:ERROR_WIDTH]
                table.add_row(found.name, "", "", "", "", Text(error))
                continue
            times = (found.median_s, min(found.times_s), max(found.times_s))
            table.add_row(
                found.name,
                *map(format_seconds, times),
                f"{self.find_speedup(found.name):.2f}",
                "same" if found.has_same_results else f"other than of {first}",
                style="bold" if found.name == self.best_strategy else "",
            )
        return table

    def plot(self) -> str:
        """Return the seconds as bars of text, one line for each strategy that ended."""
        ended = [found for found in self.strategies if found.error is None]
        longest_s = max(found.median_s for found in ended)
        width = max(len(found.name) for found in ended)
        lines = []
        for found in ended:
            share = found.median_s / longest_s if longest_s else 0.0
            bar = "█" * max(1, round(BAR_WIDTH * share))
            mark = " best" if found is self.best else ""
            seconds = format_seconds(found.median_s)
            lines.append(f"{found.name:>{width}} {bar} {seconds}{mark}")
        return "\n".join(lines)

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=100)
        with console.capture() as capture:
            console.print(self.table())
        return f"{capture.get()}{self.plot()}"

    def _repr_html_(self) -> str:
        """Show it in a notebook, as the table and the bars."""
        console = Console(file=StringIO(), record=True, width=100)
        console.print(self.table())
        console.print(self.plot(), markup=False, highlight=False)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def compare_strategies(
    func: Callable[[Any], Any],
    data: Iterable[Any],
    config: ComparisonConfig | None = None,
) -> Comparison:
    """Call a function with all items in several ways, and see which is the fastest.

    They are run in turns. Each starts its workers anew, and that counts, as it would in
    a script that does this once.

    Parameters
    ----------
    func : callable
        Called with each item, as often as there are strategies and trials. What it does
        beside returning something is done as often.
    data : iterable
        The items; as many as can be waited for. A generator is read to its end.
    config : ComparisonConfig, optional
        What to compare.

    Returns
    -------
    Comparison
        A strategy that raises, or that has other results than the first one (the loop,
        unless that is left out), is in it and isn't the best.

    Raises
    ------
    ArgumentError
        Before anything has started.
    BaseException
        What `func` raises in the first strategy, as itself.

    Examples
    --------
    >>> comparison = compare_strategies(abs, range(-3, 3))
    >>> comparison.best_strategy
    'serial'
    """
    check_function("func", func)
    if config is None:
        config = ComparisonConfig()
    elif not isinstance(config, ComparisonConfig):
        raise ArgumentError("config", config, "expected a ComparisonConfig")
    items = read_items(data)
    found = run_trials(config.find_strategies(), func, items, config.num_trials)
    return Comparison(strategies=tuple(found), data=items)


def read_items(data: Iterable[Any]) -> Sequence[Any]:
    """Return items as something that can be gone through again.

    Raises
    ------
    ArgumentError
        If there is nothing to go through, or nothing in it, or no end of it.
    """
    items = list_all(data)
    if not len(items):
        raise ArgumentError("data", data, "expected one item or more")
    return items


def _name_scheduler(scheduler: Any) -> str:
    if isinstance(scheduler, str):
        return scheduler
    name = getattr(scheduler, "__qualname__", None) or type(scheduler).__name__
    return str(name)
