"""Who runs a workload: Dask's schedulers, joblib, plain Python and this scheduler."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from typing import Any

import dask
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from limits import HAND
from workload import Graph, Workload

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.core import scheduling
from amorsize_dask.core.budget import Budget
from amorsize_dask.measure.history import shared

#: More than any machine has, in bytes.
NO_LIMIT = 10**15

#: What comes before the name of a way in the name of its runner.
HAND_PREFIX = f"{HAND}: "


class Rehearsal(Enum):
    """What is run before the clock, so that imports and caches aren't timed."""

    #: A workload of the same size with other data, by the same runner.
    WHOLE = "whole"
    #: A small one: nothing is left of it but what was imported.
    PART = "part"
    #: A small one under `sync`: the runner itself stays as it is when it is new.
    OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One column of the table."""

    #: Makes what is timed of the workload and its input; this isn't timed.
    prepare: Callable[[Workload, Any], Any]
    #: A context of the function that is timed; it takes what was prepared.
    open: Callable[[Workload], AbstractContextManager[Callable[[Any], Any]]]
    rehearsal: Rehearsal = Rehearsal.WHOLE


def prepare_collection(workload: Workload, data: Any) -> Any:
    """Return the collection of an input."""
    return workload.collection(data)


def prepare_job(workload: Workload, data: Any) -> Any:
    """Return the job of an input."""
    return workload.job(data)


def compute(collection: Any, *, scheduler: Any, **kwargs: Any) -> Any:
    """Compute a bag, a delayed, a list of them or a `Graph`."""
    if isinstance(collection, Graph):
        get = get_scheduler(scheduler=scheduler)
        return get(collection.dsk, collection.keys, **kwargs)
    if isinstance(collection, list):
        return dask.compute(*collection, scheduler=scheduler, **kwargs)
    return collection.compute(scheduler=scheduler, **kwargs)


def named(scheduler: str, rehearsal: Rehearsal = Rehearsal.WHOLE) -> Runner:
    """Return one of Dask's schedulers that need nothing started before."""
    return Runner(
        prepare=prepare_collection,
        open=lambda workload: nullcontext(partial(compute, scheduler=scheduler)),
        rehearsal=rehearsal,
    )


@contextmanager
def open_pool(workload: Workload) -> Iterator[Callable[[Any], Any]]:
    """Start the pool that `processes` is given."""
    context = multiprocessing.get_context("spawn")  # as without a pool
    with ProcessPoolExecutor(CPU_COUNT, mp_context=context) as executor:
        yield partial(compute, scheduler="processes", pool=executor, chunksize=1)


@contextmanager
def open_cluster(workload: Workload) -> Iterator[Callable[[Any], Any]]:
    """Start a cluster as it is by default."""
    from distributed import Client, LocalCluster

    # A dashboard would need other packages, and answers nobody here.
    with (
        LocalCluster(dashboard_address=None, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        yield partial(compute, scheduler=client)


@contextmanager
def open_joblib(workload: Workload) -> Iterator[Callable[[Any], Any]]:
    """Use joblib's own pool, which stays from one call to the next."""
    from joblib import Parallel, delayed

    yield lambda job: job.finish(
        Parallel(n_jobs=CPU_COUNT)(delayed(job.function)(item) for item in job.items)
    )


@contextmanager
def open_amorsize(workload: Workload, **options: Any) -> Iterator[Callable[[Any], Any]]:
    """Make a scheduler of its own."""
    # Dask imports it for `sync` and all others that it knows by name; the caller's
    # memory is compared with theirs.
    import distributed  # noqa: F401

    # What other rounds have shown would make a cold run one that knows its work.
    shared.clear()
    with AmorsizeScheduler(**{**workload.options, **options}) as scheduler:
        yield partial(compute, scheduler=scheduler)


class Uncounted(Budget):
    """Counts nothing, so that all has room."""

    room_bytes = inf
    has_large = has_spilled = False

    def hold(self, *_: object, **__: object) -> None:
        """Do nothing."""

    drop = begin = end = lose = note_growth = note_left = hold


@contextmanager
def open_uncounted(workload: Workload) -> Iterator[Callable[[Any], Any]]:
    """Make a scheduler for which memory doesn't exist, in this process."""
    counted, scheduling.Budget = scheduling.Budget, Uncounted
    try:
        with open_amorsize(workload, memory_limit=NO_LIMIT) as do:
            yield do
    finally:
        scheduling.Budget = counted


RUNNERS = {
    "sync": named("sync"),
    "threads": named("threads"),
    # It starts a new pool for each compute, so there is nothing to warm.
    "processes": named("processes", Rehearsal.PART),
    "pool": Runner(prepare=prepare_collection, open=open_pool),
    "cluster": Runner(prepare=prepare_collection, open=open_cluster),
    # Its workers are up after any call, and a million items take it half a minute.
    "joblib": Runner(prepare=prepare_job, open=open_joblib, rehearsal=Rehearsal.PART),
    "cold": Runner(
        prepare=prepare_collection, open=open_amorsize, rehearsal=Rehearsal.OTHERS
    ),
    "warm": Runner(prepare=prepare_collection, open=open_amorsize),
    # For what the limit of the others costs; they are in no table of the suite.
    "unlimited": Runner(
        prepare=prepare_collection,
        open=partial(open_amorsize, memory_limit=NO_LIMIT),
    ),
    "uncounted": Runner(prepare=prepare_collection, open=open_uncounted),
}


def find_runner(name: str, workload: Workload) -> Runner:
    """Return a runner by its name; that of a way by hand is `HAND_PREFIX` and the way.

    Raises
    ------
    KeyError
        If there is none.
    """
    if name.startswith(HAND_PREFIX):
        way = workload.by_hand[name.removeprefix(HAND_PREFIX)]
        return Runner(prepare=prepare_job, open=lambda workload: way())
    return RUNNERS[name]


def expand(names: list[str], workload: Workload) -> list[str]:
    """Return the runners of a workload among the named ones.

    Those that are left out are missing, and "hand" stands for each way by hand.
    """
    found = []
    for name in names:
        if name == HAND:
            found += [f"{HAND_PREFIX}{way}" for way in workload.by_hand]
        elif name not in workload.left_out:
            found.append(name)
    return found
