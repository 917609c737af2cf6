"""The simulated machine takes as long as the real one for the same work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import dask
import pytest

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Costs, Lane, Limits
from amorsize_dask.execute.pool import live_processes
from amorsize_dask.measure.costs import load_costs
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.work import SimulatedTask

#: Share by which the two may differ.
TOLERANCE = 0.2


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _uneven(n: int, seconds: float) -> list[float]:
    chance = random.Random(n)
    return [seconds * chance.uniform(0.3, 1.7) for _ in range(n)]


SPINS = partial(SimulatedTask, cpu_fraction=1.0, gil_fraction=1.0)
NAPS = partial(SimulatedTask, cpu_fraction=0.0, gil_fraction=0.0)


def _boot_workers(scheduler: AmorsizeScheduler) -> None:
    naps = [dask.delayed(spin)(0.3, dask_key_name=("boot", i)) for i in range(8)]
    dask.compute(*naps, scheduler=scheduler)
    assert len(live_processes()) == 3, "a fork server and two workers"


def _run_really(
    scheduler: AmorsizeScheduler,
    function: Callable[[float], None],
    work: list[float],
    good_s: float,
) -> float:
    """Return the quickest of several runs; no more once one took `good_s`.

    What makes the others slower is not the machine that is simulated.
    """
    delayed = dask.delayed(function)
    # Pure names would make equal times one task.
    tasks = [delayed(t, dask_key_name=("task", i)) for i, t in enumerate(work)]
    quickest_s = inf
    for _ in range(8):
        dask.compute(*tasks, scheduler=scheduler)
        assert scheduler.last_run is not None
        quickest_s = min(quickest_s, scheduler.last_run.actual_s)
        if quickest_s <= good_s:
            break
    return quickest_s


def _simulate(
    kind: Callable[[float], SimulatedTask], work: Sequence[float], limits: Limits
) -> float:
    n = len(work)
    graph = Graph(
        dependencies=[()] * n,
        stage_of=[0] * n,
        n_stages=1,
        wanted=frozenset(range(n)),
    )
    machine = measure_machine(load_costs() or Costs())
    run = simulate(graph, [kind(t) for t in work], machine, limits, n_warm=2)
    return run.makespan_s


@pytest.mark.parametrize(
    ("lanes", "function", "kind", "work"),
    [
        (("inline",), spin, SPINS, _uneven(40, 0.01)),
        (("processes",), spin, SPINS, [0.02] * 40),
        (("processes",), spin, SPINS, _uneven(60, 0.02)),
        (("processes",), spin, SPINS, _uneven(400, 0.003)),
        (("threads",), time.sleep, NAPS, _uneven(60, 0.2)),
        (tuple(Lane), time.sleep, NAPS, _uneven(100, 0.2)),
        (tuple(Lane), spin, SPINS, _uneven(60, 0.03)),
    ],
)
def test_makespans_agree(
    lanes: tuple[str, ...],
    function: Callable[[float], None],
    kind: Callable[[float], SimulatedTask],
    work: list[float],
) -> None:
    """The same work takes the same time, really and simulated, within a fifth."""
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        if "processes" in lanes:
            # Workers that are up, as in the simulation, and what they cost.
            _boot_workers(scheduler)
        simulated_s = _simulate(kind, work, Limits(lanes=tuple(map(Lane, lanes))))
        real_s = _run_really(scheduler, function, work, good_s=1.1 * simulated_s)
        (stage,) = scheduler.last_run.stages
    if real_s > simulated_s and stage.mean_s > 1.1 * sum(work) / len(work):
        # The simulated machine has its cores for itself.
        pytest.skip(f"others keep this machine busy: tasks take {stage.mean_s} s")
    assert simulated_s == pytest.approx(real_s, rel=TOLERANCE)
