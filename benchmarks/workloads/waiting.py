"""Tasks that wait, alone and with computing after it."""

from __future__ import annotations

from time import sleep
from typing import Any, NamedTuple

from by_hand import pool, threads, threads_into_pool
from limits import NOT_SLOWER_THAN_STOCK, ratio
from workload import Job, Setting, Workload

from workloads.spinning import spin

#: Seconds of one wait.
WAIT_S = 0.02


class Request(NamedTuple):
    """What waits and then computes."""

    n_steps: int


def wait(item: Any) -> Any:
    """Wait, and return the item."""
    sleep(WAIT_S)
    return item


def spin_for(request: Request) -> int:
    """Compute what is asked for."""
    return spin(request.n_steps)


def wait_and_spin(request: Request) -> int:
    """Wait and compute in one task."""
    return spin_for(wait(request))


def make_waits(setting: Setting, variant: int) -> range:
    """Return what 400 tasks return after their wait."""
    return range(variant, variant + setting.size(400, 20))


def make_requests(setting: Setting, variant: int) -> list[Request]:
    """Return 60 requests for 2 ms each."""
    n_steps = 2 * setting.steps_per_ms
    return [Request(n_steps + variant + i) for i in range(setting.size(60, 6))]


def waits(data: range) -> Any:
    """Return a bag with a partition for each wait."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=len(data)).map(wait)


def two_stages(data: list[Request]) -> Any:
    """Return delayed results, each of a task that waits and one that computes."""
    from dask import delayed

    return [delayed(spin_for)(delayed(wait)(request)) for request in data]


def one_stage(data: list[Request]) -> Any:
    """Return a bag with a partition for each request."""
    from dask.bag import from_sequence

    return from_sequence(data, npartitions=len(data)).map(wait_and_spin)


WORKLOADS = (
    Workload(
        name="waits",
        title="400 tasks that wait 20 ms",
        make=make_waits,
        collection=waits,
        job=lambda data: Job(wait, data),
        by_hand={"100 threads": threads(100), "400 threads": threads(400)},
        limits=(ratio(0.06, "threads"),),
    ),
    Workload(
        name="wait_then_compute",
        title="60 delayed waits of 20 ms, each followed by a task of 2 ms",
        make=make_requests,
        collection=two_stages,
        job=lambda data: Job(wait_and_spin, data),
        by_hand={
            "60 threads": threads(60),
            "60 threads into a pool": threads_into_pool(60, wait, spin_for),
        },
        limits=(ratio(0.25, "threads"),),
    ),
    Workload(
        name="wait_and_compute",
        title="60 tasks that wait 20 ms and compute 2 ms",
        make=make_requests,
        collection=one_stage,
        job=lambda data: Job(wait_and_spin, data),
        by_hand={
            "60 threads": threads(60),
            "pool of 16 a core": pool(1, n_times_cores=16),
        },
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
