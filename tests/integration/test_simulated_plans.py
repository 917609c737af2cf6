"""What is recommended is right on simulated machines of any size, and is predicted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

#: Times as long as the best of the grid that what was recommended may take.
MOST = 1.1


@pytest.fixture(scope="module")
def plans() -> Any:
    """Return the benchmark that simulates them, imported as its scripts do it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield import_module("simulated_plans")


@pytest.fixture(scope="module")
def found(plans: Any) -> dict[tuple[str, str], Any]:
    return {
        (machine, work): plans.measure(machine, work)
        for machine in plans.MACHINES
        for work in plans.WORKS
    }


@pytest.mark.slow
def test_recommended_pools_and_partitions_are_as_good_as_any(
    found: dict[tuple[str, str], Any],
) -> None:
    """On 4, 16 and 64 cores with little memory, for work of all kinds."""
    assert len(found) >= 3 * 12
    slow = {
        key: (one.plan, one.pool, one.best_pool, one.bag, one.best_bag)
        for key, one in found.items()
        if one.pool > MOST or one.bag > MOST
    }
    assert not slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["pool_predicted", "compute_predicted", "early_predicted"]
)
def test_makespans_are_predicted(found: dict[tuple[str, str], Any], what: str) -> None:
    """Half of the predictions are within 15 %, and nine tenths within 35 %."""
    errors = [abs(getattr(one, what) - 1) for one in found.values()]
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
