"""What is recommended is right on simulated machines of any size, and is predicted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

#: Times as long as the best of the grid that what was recommended may take.
MOST = 1.1

MACHINES = ["4 cores, 1.5 GB", "16 cores, 4 GB", "64 cores, 12 GB"]

# Seconds of computing, and on a machine that others keep busy a few times as many.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def plans() -> Any:
    """Return the benchmark that simulates them, imported as its scripts do it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield import_module("simulated_plans")


@pytest.fixture(scope="module")
def find(plans: Any) -> Callable[[str], list[Any]]:
    """Return what measures all work on a machine, once."""
    return cache(lambda machine: [plans.measure(machine, work) for work in plans.WORKS])


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_recommended_pools_and_partitions_are_as_good_as_any(
    find: Callable[[str], list[Any]], machine: str
) -> None:
    """On 4, 16 and 64 cores with little memory, for work of all kinds."""
    found = find(machine)
    assert len(found) >= 12
    slow = [
        (one.work, one.plan, one.pool, one.best_pool, one.bag, one.best_bag)
        for one in found
        if one.pool > MOST or one.bag > MOST
    ]
    assert not slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["pool_predicted", "compute_predicted", "early_predicted"]
)
def test_makespans_are_predicted(find: Callable[[str], list[Any]], what: str) -> None:
    """Half of the predictions are within 15 %, and nine tenths within 35 %."""
    found = [one for machine in MACHINES for one in find(machine)]
    ratios = [getattr(one, what) for one in found]
    errors = [abs(ratio - 1) for ratio in ratios if ratio is not None]
    assert len(errors) >= len(found) - len(MACHINES)  # one of each is over at once
    assert median(errors) <= 0.15
    assert quantiles(errors, n=10)[-1] <= 0.35


@pytest.mark.slow
def test_the_grid_tells_good_from_bad(plans: Any) -> None:
    """Elsewhere in the grid the same work takes much longer."""
    machine, tasks = plans.MACHINES["16 cores, 4 GB"], plans.WORKS["uneven"]()
    best_s, _ = plans.find_best_pool(tasks, machine)
    for n_jobs, size in ((1, 1), (4, 1), (16, len(tasks) // 4)):
        run = plans.simulate_pool(tasks, machine, n_jobs, size)
        assert run.makespan_s > 1.5 * best_s
    hungry = plans.WORKS["memory_bound"]()
    run = plans.simulate_pool(hungry, machine, 16, 1)
    assert run.peak_bytes > machine.memory_bytes
