"""What is recommended to those who have a pool of their own."""

from __future__ import annotations

import pytest

from amorsize_dask.core.model import Costs, Limits, Machine, Workload
from amorsize_dask.planning.pools import choose_pool

MACHINE = Machine(
    n_cores=2,
    n_physical_cores=2,
    memory_bytes=8_000_000_000,
    costs=Costs(bytes_per_s=2e9),
)


@pytest.mark.parametrize(("out_bytes", "n_jobs"), [(2_000_000, 1), (2_000, 2)])
def test_pipes_are_slower_than_files(out_bytes: int, n_jobs: int) -> None:
    """Large results come back through a pool's pipes, and not as they would to us."""
    work = Workload(n_tasks=150, mean_s=0.0022, out_bytes=out_bytes)
    choice = choose_pool(work, MACHINE, Limits(), target_chunk_s=0.2)
    assert choice.n_jobs == n_jobs
