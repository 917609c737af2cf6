"""What `optimize` answers: how to run some work, and why."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.model import Lane
from amorsize_dask.core.units import format_bytes, format_seconds
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.stand_ins import call_each
from amorsize_dask.planning.data import list_all
from amorsize_dask.planning.execution import (
    compute_collection,
    leave_out,
    put_back,
    run_all,
    stream_all,
)
from amorsize_dask.planning.head_start import begin_here
from amorsize_dask.planning.partitioning import apply_partitions
from amorsize_dask.planning.pools import (
    SentByValue,
    check_pool,
    describe_pool,
    map_with,
)
from amorsize_dask.planning.profile import DiagnosticProfile
from amorsize_dask.planning.reading import merge, stream_read
from amorsize_dask.planning.sending import describe_function
from amorsize_dask.scheduler import (
    AmorsizeScheduler,
    amorsize_scheduler,
    check_scheduler,
)

#: Fields of a plan that are the work itself, and nothing to keep or to show.
_WORK = ("func", "data", "results", "diagnostic_profile")


class SampledResults(dict[int, Any]):
    """Results of the items that were sampled, by their places in the data.

    Parameters
    ----------
    values : mapping of int to value
        The results.
    func : callable, optional
        What has returned them.
    data : iterable, optional
        What it was called with some items of. They are of no use to a plan that was
        given another function, or other data, by `dataclasses.replace`.
    """

    def __init__(
        self,
        values: Mapping[int, Any] | Iterable[tuple[int, Any]] = (),
        func: Callable[[Any], Any] | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(values)
        self.func = func
        self.data = data


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to run some work.

    It serves two kinds of users. Those who have a pool of their own take `n_jobs` and
    `chunksize`: a loop is best if `n_jobs` is 1, and it is 1 for functions that wait,
    which processes don't help. Those who let the plan run itself, by `compute` or
    `stream`, get `n_workers` of `lane`: for functions that wait, many threads.
    """

    #: Processes for a pool of one's own, >= 1; 1: a loop is as fast.
    n_jobs: int = 1
    #: Items that such a pool should send at once, >= 1.
    chunksize: int = 1
    #: Items of a partition of a bag, >= 1, and how many such partitions there are.
    partition_size: int = 1
    npartitions: int = 1
    #: Where the plan itself runs the work: "inline", "threads" or "processes".
    lane: str = "inline"
    #: Threads or processes of that lane, >= 1.
    n_workers: int = 1
    #: Times as fast as a loop that lane is predicted to be; about 1 if it is a loop.
    speedup: float = 1.0
    #: The same for a pool of `n_jobs` processes.
    pool_speedup: float = 1.0
    #: Seconds that `compute` is predicted to take: what was sampled isn't run again.
    predicted_s: float = 0.0
    #: Seconds that a new pool of `n_jobs` is predicted to take for all items; if that
    #: is 1, a loop.
    pool_predicted_s: float = 0.0
    #: Seconds that a loop over all items is predicted to take.
    serial_s: float = 0.0
    #: Why, for people.
    reason: str = ""
    #: What else people should know, and what to do about it.
    warnings: tuple[str, ...] = ()
    #: What to call with each item; ``None`` for a Dask collection.
    func: Callable[[Any], Any] | None = field(default=None, repr=False)
    #: All items, with those that were read from a generator to be sampled; or the Dask
    #: collection.
    data: Any = field(default=(), repr=False)
    #: Results of the items that were sampled, by their places in the data.
    results: Mapping[int, Any] = field(default_factory=dict, repr=False)
    #: Most workers that were asked for; ``None``: as many as pay.
    max_workers: int | None = None
    #: All that was measured.
    diagnostic_profile: DiagnosticProfile | None = field(default=None, repr=False)

    def explain(self) -> str:
        """Return the plan as a text for a terminal."""
        return describe_plan(self)

    def compute(self, scheduler: AmorsizeScheduler | None = None) -> Any:
        """Run the work, without what was sampled, and return its results in order.

        The scheduler goes on measuring meanwhile, and changes its mind if the sample
        has misled it.

        Parameters
        ----------
        scheduler : AmorsizeScheduler, optional
            What runs it; the ready instance by default.

        Returns
        -------
        list
            Of the function's results; of a Dask collection what it computes to.

        Raises
        ------
        ArgumentError
            If there is no end of the data, or a generator was gone through before; and
            for a scheduler of another kind.
        BaseException
            What the function raises, as itself.
        """
        if self.func is None:
            self._check_whole()
            return compute_collection(
                self.data, scheduler or amorsize_scheduler, self.max_workers
            )
        scheduler = check_scheduler(scheduler)
        items, known = list_all(self.data), self._known
        others = leave_out(items, known)
        values: list[Any] = []
        if self._is_alone:
            values = call_each(self.func, others)
        elif self.lane == Lane.INLINE:
            begin_here(
                self.func,
                others,
                values,
                scheduler,
                self.max_workers,
                self._experience,
            )
        if len(values) < len(others):
            values += run_all(
                scheduler,
                self.func,
                others[len(values) :],
                self._experience,
                self.max_workers,
            )
        return put_back(values, known)

    def stream(
        self, scheduler: AmorsizeScheduler | None = None
    ) -> Generator[Any, None, None]:
        """Run the work, and yield its results in order as they come.

        Data without a length is read bit by bit, and may be endless. Nothing runs
        before the first value is asked for, nor after the iterator was closed.

        Parameters
        ----------
        scheduler : AmorsizeScheduler, optional
            What runs it; the ready instance by default.

        Raises
        ------
        BaseException
            From the iterator: as `compute`.
        """
        scheduler = check_scheduler(scheduler)
        if self.func is None:
            self._check_whole()
            return scheduler.stream(self.data)
        return self._stream(self.func, scheduler)

    def _stream(
        self, func: Callable[[Any], Any], scheduler: AmorsizeScheduler
    ) -> Generator[Any, None, None]:
        results, n_workers = self._known, self.max_workers
        if self._is_alone:
            for place, item in enumerate(self.data):
                yield results[place] if place in results else func(item)
        elif isinstance(self.data, Sequence):
            # What has places needn't have slices, as a deque hasn't.
            others = leave_out(list_all(self.data), results)
            values = stream_all(scheduler, func, others, self._experience, n_workers)
            with closing(values):
                yield from merge(values, dict(results), len(self.data))
        else:
            yield from stream_read(
                scheduler, func, self.data, results=results, max_workers=n_workers
            )

    def apply(self, bag: Any) -> Any:
        """Return a bag of the same items in `partition_size`, where no one can tell.

        That is so for a bag made of a list, and for what takes each item by itself
        afterwards: ``map``, ``filter``, ``pluck``, ``flatten``. Any other bag is
        returned as it is: a function that is given whole partitions would be given
        others.

        Parameters
        ----------
        bag : dask.bag.Bag

        Raises
        ------
        ArgumentError
            If it is no bag.
        """
        return apply_partitions(bag, self.partition_size)

    def pool_arguments(self, kind: str = "multiprocessing") -> dict[str, int]:
        """Return the arguments to make a pool of one's own with.

        Parameters
        ----------
        kind : str, optional
            "multiprocessing" for `multiprocessing.Pool`, "concurrent.futures" for its
            `ProcessPoolExecutor`, "threads" for its `ThreadPoolExecutor`, or "joblib"
            for `joblib.Parallel`.

        Raises
        ------
        ArgumentError
            For another kind.

        Examples
        --------
        >>> Plan(n_jobs=2, chunksize=10).pool_arguments("joblib")
        {'n_jobs': 2, 'batch_size': 10}
        """
        n_threads = self.n_workers if self.lane == Lane.THREADS else 1
        return describe_pool(self.n_jobs, n_threads, self.chunksize, kind)

    def map(self, pool: Any) -> list[Any]:
        """Run the work in a pool of one's own, and return its results in order.

        What was sampled isn't run again. Functions that `pickle` can't send go by
        cloudpickle.

        Parameters
        ----------
        pool : Pool, Executor or joblib.Parallel
            `multiprocessing.Pool` or its `ThreadPool`, an executor of
            `concurrent.futures`, or a `joblib.Parallel`.

        Raises
        ------
        ArgumentError
            If it is no such pool, or the plan is one of a Dask collection.
        BaseException
            What the function or the pool raises.
        """
        if self.func is None:
            expected = "expected a plan for a function; this is one of a collection"
            raise ArgumentError("self", self, expected)
        check_pool(pool)
        items, known = list_all(self.data), self._known
        others = leave_out(items, known)
        profile = self.diagnostic_profile
        if profile is None:  # it is a plan from disk
            _, _, problem = describe_function(self.func)
        else:
            problem = profile.unpicklable
        func = self.func if problem is None else SentByValue(self.func)
        values = map_with(pool, func, others, self.chunksize)
        return put_back(values, known)

    @property
    def _known(self) -> Mapping[int, Any]:
        """Results of items of this data, by their places."""
        known = self.results
        if isinstance(known, SampledResults) and not (
            known.func is self.func and known.data is self.data
        ):
            return {}
        return known

    @property
    def _is_alone(self) -> bool:
        """Whether calls must be made one after the other, in order."""
        profile = self.diagnostic_profile
        return profile is not None and profile.shared_state is not None

    def _check_whole(self) -> None:
        """Raise if this is a plan from disk, with neither function nor data."""
        if self.data is None:
            expected = "add what is to be run: dataclasses.replace(plan, func=, data=)"
            raise ArgumentError("data", None, expected)

    @property
    def _experience(self) -> Experience | None:
        profile = self.diagnostic_profile
        if profile is None or profile.n_sampled == profile.n_failed:
            return None
        return profile.to_experience(profile.n_items_assumed - profile.n_sampled)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers and texts by name, ready for JSON, without the work."""
        found = {
            name: getattr(self, name) for name in self.__slots__ if name not in _WORK
        }
        found["warnings"] = list(self.warnings)
        return found


def describe_plan(plan: Plan) -> str:
    """Return what a plan says, line by line."""
    workers = f" x {plan.n_workers}" if plan.n_workers > 1 else ""
    lines = [
        plan.reason,
        f"  compute():   {plan.lane}{workers}, {format_seconds(plan.predicted_s)} "
        f"predicted, {plan.speedup:.2f} times as fast as a loop",
        f"  a pool:      n_jobs={plan.n_jobs}, chunksize={plan.chunksize}, "
        f"{format_seconds(plan.pool_predicted_s)} predicted, {plan.pool_speedup:.2f} "
        "times as fast",
        f"  a bag:       {plan.npartitions} partitions of {plan.partition_size} items",
    ]
    profile = plan.diagnostic_profile
    if profile is not None:
        lines.append(f"  measured:    {_describe_profile(profile)}")
    lines += [f"  ! {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def _describe_profile(profile: DiagnosticProfile) -> str:
    spread = profile.coefficient_of_variation
    gil = profile.gil_fraction
    return (
        f"{profile.n_sampled} items in {format_seconds(profile.sampling_s)}: "
        f"{format_seconds(profile.avg_execution_time)} each"
        + ("" if spread is None else f" (+- {spread:.0%})")
        + f", CPU {profile.cpu_fraction:.0%}, GIL "
        + ("?" if gil is None else f"{gil:.0%}")
        + f", in {format_bytes(profile.in_bytes)}"
        + f", out {format_bytes(profile.out_bytes)}"
    )
