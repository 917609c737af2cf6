"""How many workers would pay for what a cluster has left to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from amorsize_dask.arguments import check_count, check_seconds
from amorsize_dask.cluster.makespans import (
    MOST_WORKERS,
    find_cluster_costs,
    list_counts,
)
from amorsize_dask.cluster.record import ClusterRecord
from amorsize_dask.core.cost import rounds_s
from amorsize_dask.core.model import Costs, Workload
from amorsize_dask.core.units import format_seconds

#: Seconds that a worker takes to come, if nobody says. Smaller: workers are asked for
#: that come when all is done; larger: they are asked for late.
START_S = 2.0

#: Share by which more workers must be faster to pay. Smaller: a hundred are asked for
#: to save milliseconds; larger: those that would halve what is left aren't.
PAY_FRACTION = 0.1

#: Share of the memory above which Dask asks for twice as many workers. The same here.
FULL_FRACTION = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAdvice:
    """How many workers would pay; ``str()`` of it shows the curve."""

    #: Workers worth having; 0: there is nothing left to do.
    n_workers: int
    #: Seconds that what is left would take, by number of workers, the time in which
    #: those come that aren't there included.
    makespans: Mapping[int, float]
    reason: str

    def __str__(self) -> str:
        most_s = max(self.makespans.values(), default=0.0) or 1.0
        lines = [f"{self.n_workers} workers: {self.reason}"]
        lines += [
            f"{n:>5} {format_seconds(seconds):>9} {'#' * round(40 * seconds / most_s)}"
            f"{' <-' if n == self.n_workers else ''}"
            for n, seconds in self.makespans.items()
        ]
        return "\n".join(lines)


def advise(
    record: ClusterRecord,
    *,
    maximum: int = MOST_WORKERS,
    target_s: float | None = None,
    start_s: float = START_S,
) -> WorkerAdvice:
    """Return how many workers would pay for what a cluster has left to do.

    Parameters
    ----------
    record : ClusterRecord
        What it has done, and what is left.
    maximum : int, optional
        Most workers, >= 1.
    target_s : float, optional
        Seconds in which it should be done, > 0: no more workers than that takes.
    start_s : float, optional
        Seconds until a worker that isn't there is, > 0.

    Raises
    ------
    ArgumentError
        For an argument that can't be used.
    """
    maximum = check_count("maximum", maximum, 1)
    start_s = check_seconds("start_s", start_s)
    if target_s is not None:
        target_s = check_seconds("target_s", target_s)
    if not record.n_left:
        return WorkerAdvice(n_workers=0, makespans={}, reason="nothing is left to do")
    rest = record.list_rest()
    if not rest:
        return WorkerAdvice(
            n_workers=max(1, min(maximum, record.n_workers)),
            makespans={},
            reason=f"nothing is known of the {record.n_left} tasks that are left",
        )
    n_threads = max(1, round(record.n_threads / max(1, record.n_workers)))
    counts = {*list_counts(), maximum, record.n_workers}
    makespans = predict_rest(
        rest,
        sorted(n for n in counts if 1 <= n <= maximum),
        n_threads=n_threads,
        n_there=record.n_workers,
        start_s=start_s,
        bytes_per_s=record.bytes_per_s,
    )
    least_s = min(makespans.values())
    n_workers = _first_within(makespans, least_s / (1 - PAY_FRACTION))
    reason = (
        f"{format_seconds(makespans[n_workers])} predicted; more would gain "
        f"{PAY_FRACTION:.0%} at most"
    )
    if target_s is not None and least_s <= target_s:
        n_workers = _first_within(makespans, target_s)
        reason = (
            f"{format_seconds(makespans[n_workers])} predicted, "
            f"{format_seconds(target_s)} asked for"
        )
    if record.held_bytes > FULL_FRACTION * record.limit_bytes > 0:
        n_memory = min(maximum, 2 * record.n_workers)
        if n_memory > n_workers:
            n_workers = n_memory
            reason = "the results leave little memory for the tasks that are left"
    if record.n_unknown:
        reason += f"; {record.n_unknown} tasks are left out, of which nothing is known"
    return WorkerAdvice(n_workers=n_workers, makespans=makespans, reason=reason)


def predict_rest(
    rest: Iterable[Workload],
    counts: Iterable[int],
    *,
    n_threads: int,
    n_there: int,
    start_s: float,
    bytes_per_s: float,
) -> dict[int, float]:
    """Return the seconds of what is left by number of workers.

    What tasks take was measured in such workers, whose threads may have been in each
    other's way, so each thread is taken for a worker with a core of its own. With m(n)
    the seconds of all stages on n workers, of which w are there and the others come
    after s seconds::

        n <= w or m(w) <= s:  m(min(n, w))
        n > w:                s + (1 - s / m(w)) m(n)       and s + m(n) if w = 0
    """
    rest = list(rest)
    costs = find_cluster_costs(replace(Costs(), bytes_per_s=bytes_per_s))

    def find(n_workers: int) -> float:
        return sum(
            estimate_stage(stage, n_workers * n_threads, costs) for stage in rest
        )

    found: dict[int, float] = {}
    for n in counts:
        if n <= n_there:
            found[n] = find(n)
        elif not n_there:
            found[n] = start_s + find(n)
        else:
            present_s = find(n_there)
            left = max(0.0, 1 - start_s / present_s) if present_s else 0.0
            found[n] = min(present_s, start_s + left * find(n))
    return found


def estimate_stage(stage: Workload, n_threads: int, costs: Costs) -> float:
    """Return what `makespans.simulate_stage` finds, by a formula.

    This is asked for again and again, maybe in the loop of a scheduler, and must not
    take longer than microseconds. With the symbols of `core.cost`, x being a task's
    bytes over bytes per second, and d the scheduler's seconds for a task::

        stage(n) = max( rounds(R, n, t_task + x),    n threads
                        R d,                         one scheduler
                        R d / 2 + t_task + x )       the task that is given out last
    """
    move_s = (stage.in_bytes + stage.out_bytes) / costs.bytes_per_s
    task_s = stage.mean_s + move_s
    # Half of it before the task begins.
    handling_s = stage.n_tasks * (costs.task_s + costs.batch_s)
    return max(
        rounds_s(stage.n_tasks, min(n_threads, stage.n_tasks), task_s, stage.std_s),
        handling_s,
        handling_s / 2 + task_s,
    )


def _first_within(makespans: Mapping[int, float], good_s: float) -> int:
    return next(n for n, seconds in makespans.items() if seconds <= good_s)


def cluster_record(client: Any) -> ClusterRecord:
    """Return what a Dask cluster has done and has left to do.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose scheduler has a `ClusterRecorder`. Not an asynchronous one.

    Returns
    -------
    ClusterRecord
        With its stages; ``str()`` of it is a report. `cluster_kwargs` takes it as
        ``work``.

    Raises
    ------
    LookupError
        If the scheduler has no recorder.
    """
    return _check_found(client.run_on_scheduler(read_record))


def advise_workers(
    client: Any,
    *,
    maximum: int = MOST_WORKERS,
    target_s: float | None = None,
    start_s: float = START_S,
) -> WorkerAdvice:
    """Say how many workers would pay for the work that a Dask cluster has left.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose scheduler has a `ClusterRecorder`. Not an asynchronous one.
    maximum : int, optional
        Most workers, >= 1.
    target_s : float, optional
        Seconds in which it should be done, > 0: no more workers than that takes. By
        default as many as make it faster.
    start_s : float, optional
        Seconds until a worker comes that is asked for, > 0.

    Returns
    -------
    WorkerAdvice
        With the predicted seconds by number of workers of as many threads as those
        that there are.

    Raises
    ------
    ArgumentError
        For an argument that can't be used.
    LookupError
        If the scheduler has no recorder.
    """
    record = cluster_record(client)
    return advise(record, maximum=maximum, target_s=target_s, start_s=start_s)


def read_record(dask_scheduler: Any) -> ClusterRecord | None:
    """Return the record, in the scheduler's process; ``None``: it has no recorder."""
    for plugin in dask_scheduler.plugins.values():
        # By name: a plugin that was sent may be of a copy of its class.
        if getattr(plugin, "name", None) == "amorsize-recorder":
            return plugin.read()  # type: ignore[no-any-return]
    return None


def _check_found(record: ClusterRecord | None) -> ClusterRecord:
    if record is None:
        raise LookupError(
            "The scheduler has no recorder: client.register_plugin(ClusterRecorder()) "
            "before the work that is asked about."
        )
    return record
