"""Which chains are split, and where."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from amorsize_dask.core.model import Lane, Limits, Machine, Placement, Workload
from amorsize_dask.core.placement import place
from amorsize_dask.core.splitting import WORTH_S, choose_split

MACHINE = Machine(n_cores=4, n_physical_cores=4, memory_bytes=10**10)

WAIT = (0.02, 0.0)
COMPUTE = (0.004, 0.004)


def workload_of(links: list[tuple[float, float]], n_tasks: int) -> Workload:
    """Return the workload of chains of these links."""
    seconds = sum(s for s, _ in links)
    cpu_fraction = sum(cpu_s for _, cpu_s in links) / seconds
    return Workload(
        n_tasks=n_tasks,
        mean_s=seconds,
        cpu_fraction=cpu_fraction,
        gil_fraction=cpu_fraction,
    )


def place_with_warm_workers(*lanes: Lane) -> Callable[[Workload], Placement]:
    """Return what places a workload in one of these lanes, processes being up."""
    return lambda workload: place(
        workload,
        MACHINE,
        Limits(),
        lanes=lanes,
        n_up={Lane.PROCESSES: MACHINE.n_cores},
    )


place_anywhere = place_with_warm_workers(*Lane)


@pytest.mark.parametrize(
    ("links", "n_first"),
    [
        ([WAIT, COMPUTE], 1),
        ([COMPUTE, WAIT], 1),
        ([WAIT, WAIT, COMPUTE], 2),
        ([(1e-6, 1e-6), WAIT, COMPUTE, (1e-6, 1e-6)], 2),
    ],
)
def test_waiting_and_computing_are_parted(
    links: list[tuple[float, float]], n_first: int
) -> None:
    """Between the links that wait and those that compute, in whatever order."""
    chosen = choose_split(links, workload_of(links, 400), place_anywhere)
    assert chosen is not None
    first, second = chosen.first, chosen.second
    assert chosen.n_links == n_first
    assert chosen.saved_s > 0
    assert first.seconds + second.seconds == pytest.approx(sum(s for s, _ in links))
    assert first.waits is not second.waits


@pytest.mark.parametrize("links", [[COMPUTE, COMPUTE], [WAIT, WAIT], [COMPUTE], []])
def test_what_is_alike_stays_together(links: list[tuple[float, float]]) -> None:
    """A value that travels between two halves must bring something."""
    workload = workload_of(links or [COMPUTE], 400)
    assert choose_split(links, workload, place_anywhere) is None


def test_little_work_stays_together() -> None:
    """Where all of it takes no time, a split would."""
    links = [WAIT, COMPUTE]
    n_tasks = int(WORTH_S / sum(s for s, _ in links))
    assert choose_split(links, workload_of(links, n_tasks), place_anywhere) is None


def test_nothing_is_split_where_both_halves_must_go_to_one_lane() -> None:
    """With threads alone, waiting and computing share them as well as one by one."""
    links = [WAIT, COMPUTE]
    for lane in (Lane.INLINE, Lane.THREADS, Lane.PROCESSES):
        place_in_one = place_with_warm_workers(lane)
        assert choose_split(links, workload_of(links, 400), place_in_one) is None
