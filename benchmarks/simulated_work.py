"""Work for simulated machines: items of each kind that plans have to suit."""

from __future__ import annotations

import random
from collections.abc import Callable

from amorsize_dask.core.model import Machine
from amorsize_dask.simulate.work import SimulatedTask


def _alike(n: int, task: SimulatedTask) -> list[SimulatedTask]:
    return [task] * n


def _lasting(seconds: list[float]) -> list[SimulatedTask]:
    return [SimulatedTask(s) for s in seconds]


def _uneven(n: int, mean_s: float) -> list[SimulatedTask]:
    chance = random.Random(1)
    return _lasting([mean_s * chance.uniform(0.2, 1.8) for _ in range(n)])


def _heavy_tail(n: int) -> list[SimulatedTask]:
    """Return items of 5 ms, of which each twentieth takes up to 40 times as long."""
    chance = random.Random(2)
    return _lasting(
        [
            0.005 * (chance.uniform(10, 40) if chance.random() < 0.05 else 1.0)
            for _ in range(n)
        ]
    )


def _by_size(n: int) -> list[SimulatedTask]:
    """Return items as files are: of all sizes, the largest last, and few are large."""
    chance = random.Random(3)
    sizes = sorted(chance.lognormvariate(9, 1.2) for _ in range(n))
    return [
        SimulatedTask((2e-4 + 6e-7 * size) * chance.uniform(0.9, 1.1), size=size)
        for size in sizes
    ]


#: By name; each is made anew.
WORKS: dict[str, Callable[[], list[SimulatedTask]]] = {
    "even": lambda: _alike(800, SimulatedTask(0.01)),
    "short": lambda: _alike(6000, SimulatedTask(100e-6)),
    "uneven": lambda: _uneven(600, 0.01),
    "heavy_tail": lambda: _heavy_tail(600),
    "growing": lambda: _lasting([5e-5 * i for i in range(1, 401)]),
    "by_size": lambda: _by_size(300),
    "few_long": lambda: _alike(8, SimulatedTask(1.0)),
    "some_long": lambda: _alike(100, SimulatedTask(0.5)),
    "too_few": lambda: _alike(20, SimulatedTask(0.001)),
    "too_fast": lambda: _alike(10_000, SimulatedTask(1e-7)),
    "no_gil": lambda: _alike(400, SimulatedTask(0.01, 1.0, 0.02)),
    "waits": lambda: _alike(200, SimulatedTask(0.02, 0.0, 0.0)),
    "waits_and_computes": lambda: _alike(200, SimulatedTask(0.02, 0.4, 0.4)),
    "large_results": lambda: _alike(200, SimulatedTask(0.005, out_bytes=2_000_000)),
    "large_items": lambda: _alike(200, SimulatedTask(0.01, in_bytes=1_000_000)),
    "memory_bound": lambda: _alike(200, SimulatedTask(0.05, peak_bytes=400_000_000)),
}

#: Machines with little memory for their cores: where items take some, not every core
#: can have one.
MACHINES: dict[str, Machine] = {
    f"{n} cores, {gigabytes:g} GB": Machine(
        n_cores=n, n_physical_cores=n, memory_bytes=int(gigabytes * 10**9)
    )
    for n, gigabytes in ((4, 1.5), (16, 4), (64, 12))
}
