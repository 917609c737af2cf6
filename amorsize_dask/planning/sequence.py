"""`from_sequence`: a bag whose partitions were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from amorsize_dask.arguments import check_function, check_max_workers, check_seconds
from amorsize_dask.core.model import Workload
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.choice import LEAST_PARTITION_S, choose_partitions
from amorsize_dask.planning.data import Data, list_all, spread
from amorsize_dask.planning.optimize import CHUNK_S, optimize
from amorsize_dask.planning.sample import N_SIZED
from amorsize_dask.planning.sending import measure_sent

#: Items that are tried. Smaller: one that is unlike the others decides; larger: the bag
#: runs them again, and partitions needn't be better known than that.
N_TRIED = 6

#: Seconds of an item below which so few can't tell what they take, and how many more
#: are tried then. Smaller: they seem to take as long as timing them does; larger: the
#: bag runs more of them again.
SHORT_S = 0.0001
N_SHORT = 3000


def from_sequence(
    seq: Iterable[Any],
    func: Callable[[Any], Any] | None = None,
    target_chunk_duration: float = CHUNK_S,
    max_workers: int | None = None,
) -> Any:
    """Make a bag of items, in partitions that suit what is to be done with them.

    Parameters
    ----------
    seq : iterable
        The items. What has no length is put into a list first.
    func : callable, optional
        What the bag is going to be mapped with. Some items are tried, as `optimize`
        does it; the bag is one of the items all the same. Without it partitions are as
        many as suit the cores, and no larger than suits the memory.
    target_chunk_duration : float, optional
        Seconds that a partition should take at most, > 0.
    max_workers : int, optional
        Most threads or processes, >= 1.

    Returns
    -------
    dask.bag.Bag
        Of the items, in order.

    Raises
    ------
    ArgumentError
        For arguments that can't be used. Nothing has been called.
    BaseException
        What the sequence raises when it is read.

    Examples
    --------
    >>> from_sequence([3, 4]).sum().compute(scheduler="sync")
    7
    """
    if func is not None:
        check_function("func", func)
    target_s = check_seconds("target_chunk_duration", target_chunk_duration)
    max_workers = check_max_workers("max_workers", max_workers)
    items = list_all(Data(seq).whole)
    if func is not None:
        size = _measure(func, items, target_s, max_workers)
    else:
        n_workers = max_workers or measure_machine().n_cores
        # What they take isn't known, but what they are is.
        workload = Workload(
            n_tasks=len(items), mean_s=target_s, out_bytes=_mean_bytes(items)
        )
        size, _ = choose_partitions(workload, n_workers, float("inf"))
    from dask.bag import from_sequence as make

    return make(items, partition_size=size)


def _measure(
    func: Callable[[Any], Any], items: Any, target_s: float, max_workers: int | None
) -> int:
    """Return the partition size that suits a function."""
    for n_tried in (N_TRIED, N_SHORT):
        plan = optimize(
            func,
            items,
            n_tried,
            target_chunk_duration=target_s,
            max_workers=max_workers,
        )
        are_long = plan.serial_s > SHORT_S * len(items)
        if are_long or plan.serial_s < 2 * LEAST_PARTITION_S:
            break
    return plan.partition_size


def _mean_bytes(items: Any) -> float:
    sizes: list[int] = []
    for place in spread(len(items)):
        if len(sizes) == N_SIZED:
            break
        try:
            sizes.append(measure_sent(items[place]).n_bytes)
        except Exception:
            return 0.0  # it can't be sent, so that doesn't matter
    return sum(sizes) / max(1, len(sizes))
