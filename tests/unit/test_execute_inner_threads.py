"""The cores are shared out between the threads that libraries start in tasks."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from amorsize_dask.execute import inner_threads
from amorsize_dask.execute.inner_threads import limit_inner_threads

N_CORES = 8


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_threads, "count_cores", lambda: N_CORES)


def read_threads() -> set[int]:
    """Return how many threads the libraries of this process would use."""
    counts = {library["num_threads"] for library in ThreadpoolController().info()}
    if not counts:
        pytest.skip(f"NumPy {np.__version__} has no threads of its own")
    return counts


def test_each_task_gets_its_share() -> None:
    """Two tasks at once on eight cores get four threads each, and one gets them all."""
    with threadpool_limits(N_CORES):
        if read_threads() != {N_CORES}:
            pytest.skip("the library was built for fewer threads")
        with limit_inner_threads(2):
            assert read_threads() == {4}
        with limit_inner_threads(100):
            assert read_threads() == {1}
        with limit_inner_threads(1):
            assert read_threads() == {N_CORES}
        assert read_threads() == {N_CORES}


def test_what_the_user_has_set_is_not_raised() -> None:
    """One thread, from the environment or by a call, stays one."""
    with threadpool_limits(1), limit_inner_threads(2):
        assert read_threads() == {1}
