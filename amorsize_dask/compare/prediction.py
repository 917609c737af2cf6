"""Whether a plan takes what it was predicted to take: `validate_optimization`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from time import thread_time
from typing import Any

from amorsize_dask.arguments import check_count, check_function, check_seconds
from amorsize_dask.compare.comparison import read_items
from amorsize_dask.compare.strategies import (
    Function,
    Strategy,
    run_in_processes,
    run_serially,
)
from amorsize_dask.compare.trials import StrategyTimes, run_trials
from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import Lane, Workload
from amorsize_dask.core.units import format_seconds
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.size import measure_pickled
from amorsize_dask.planning.optimize import optimize

#: Share of a loop's time that has to be saved for processes to be worth it. Smaller:
#: noise is taken for a gain; larger: a gain is taken for noise.
GAIN_FRACTION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationValidation:
    """What a number of processes and a chunk size have really taken.

    ``str()`` of it is a report.
    """

    #: What was run: processes, and items that were sent together.
    n_jobs: int
    chunksize: int
    #: Seconds of a loop and of the processes, each in the middle of its trials.
    serial_s: float
    parallel_s: float
    #: Times as fast as the loop that it was predicted to be.
    predicted_speedup: float
    #: Whether the processes had the same results as the loop.
    has_same_results: bool
    #: The items, also if they came from a generator.
    data: Sequence[Any] = field(repr=False)

    @property
    def actual_speedup(self) -> float:
        """Times as fast as the loop that it was."""
        return self.serial_s / self.parallel_s

    @property
    def accuracy(self) -> float:
        """How near the prediction was, in percent.

        100 if it was right, 50 if it was twice or half of what came.
        """
        least, most = sorted((self.predicted_speedup, self.actual_speedup))
        return 100 * least / most

    @property
    def advice(self) -> str:
        """What follows from it, for people."""
        if not self.has_same_results:
            return "results differ from a loop's: it can't be used"
        if self.n_jobs == 1:
            return "a loop"
        if self.parallel_s > (1 - GAIN_FRACTION) * self.serial_s:
            return "not worth it: a loop is as fast"
        return "worth it"

    def __str__(self) -> str:
        return (
            f"{self.n_jobs} processes, chunks of {self.chunksize}: "
            f"{format_seconds(self.parallel_s)} against "
            f"{format_seconds(self.serial_s)} of a loop\n"
            f"{self.actual_speedup:.2f} times as fast, {self.predicted_speedup:.2f} "
            f"predicted, accuracy {self.accuracy:.0f} %\n{self.advice}"
        )


def validate_optimization(
    func: Callable[[Any], Any],
    data: Iterable[Any],
    predicted_n_jobs: int | None = None,
    predicted_chunksize: int | None = None,
    num_trials: int = 3,
    predicted_speedup: float | None = None,
) -> OptimizationValidation:
    """Call a function with all items in a loop and in processes, and compare.

    Both are run in turns. The processes start anew each time, and that counts.

    Parameters
    ----------
    func : callable
        Called with each item, in each trial both ways.
    data : iterable
        The items; as many as can be waited for. A generator is read to its end.
    predicted_n_jobs : int, optional
        Processes to validate, >= 1; 1 is a loop. By default those of `optimize`.
    predicted_chunksize : int, optional
        Items that are sent to one together, >= 1. By default as `optimize` has it.
    num_trials : int, optional
        Runs of each, >= 1; the one in the middle counts.
    predicted_speedup : float, optional
        What was predicted, > 0: `Plan.pool_speedup`. By default what `optimize`
        predicts if processes and chunks are its own, else what the cost model predicts
        from what a loop takes.

    Returns
    -------
    OptimizationValidation

    Raises
    ------
    ArgumentError
        Before anything has started.
    BaseException
        What `func` raises, as itself; and `SerializationError` or `LaneError` where it
        can't be run in processes.

    Examples
    --------
    >>> validation = validate_optimization(abs, [-1, -2, -3], 1, 1)
    >>> validation.advice
    'a loop'
    """
    check_function("func", func)
    for name, count in (
        ("predicted_n_jobs", predicted_n_jobs),
        ("predicted_chunksize", predicted_chunksize),
    ):
        if count is not None:
            check_count(name, count, 1)
    check_count("num_trials", num_trials, 1)
    if predicted_speedup is not None:
        check_seconds("predicted_speedup", predicted_speedup)
    items = read_items(data)
    if predicted_n_jobs is None or predicted_chunksize is None:
        plan = optimize(func, items)
        if predicted_n_jobs is predicted_chunksize is predicted_speedup is None:
            predicted_speedup = plan.pool_speedup
        predicted_n_jobs = predicted_n_jobs or plan.n_jobs
        predicted_chunksize = predicted_chunksize or plan.chunksize
    n_jobs, chunksize = int(predicted_n_jobs), int(predicted_chunksize)
    loop = _Loop()
    run = run_serially
    if n_jobs > 1:
        run = partial(run_in_processes, n_jobs=n_jobs, chunksize=chunksize)
    strategies = [Strategy("serial", loop.run), Strategy("parallel", run)]
    serial, parallel = run_trials(strategies, func, items, num_trials)
    if parallel.error is not None:
        raise parallel.error
    if predicted_speedup is None:
        predicted_speedup = _predict_speedup(serial, loop, items, n_jobs, chunksize)
    return OptimizationValidation(
        n_jobs=n_jobs,
        chunksize=chunksize,
        serial_s=serial.median_s,
        parallel_s=parallel.median_s,
        predicted_speedup=float(predicted_speedup),
        has_same_results=parallel.has_same_results,
        data=items,
    )


class _Loop:
    """A loop that notes what is needed to predict what processes would take."""

    def __init__(self) -> None:
        #: CPU seconds of the last run, and one of its results.
        self.cpu_s = 0.0
        self.result: Any = None

    def run(self, func: Function, items: Sequence[Any]) -> list[Any]:
        """Call the function in a loop."""
        start_s = thread_time()
        results = run_serially(func, items)
        self.cpu_s = thread_time() - start_s
        self.result = results[-1]
        return results


def _predict_speedup(
    serial: StrategyTimes,
    loop: _Loop,
    items: Sequence[Any],
    n_jobs: int,
    chunksize: int,
) -> float:
    """Predict by the cost model how many times as fast as a loop processes are."""
    if n_jobs == 1:
        return 1.0
    serial_s = max(serial.median_s, 1e-9)
    n_chunks = ceil(len(items) / chunksize)
    workload = Workload(
        n_tasks=n_chunks,
        mean_s=serial_s / n_chunks,
        cpu_fraction=min(1.0, loop.cpu_s / serial_s),
        in_bytes=chunksize * measure_pickled(items[-1]).n_bytes,
        out_bytes=chunksize * measure_pickled(loop.result).n_bytes,
    )
    # As `run_in_processes` has it: workers alone are at work.
    found = predict(
        workload, measure_machine(), Lane.PROCESSES, n_jobs, caller_helps=False
    )
    return serial_s / found.makespan_s
