"""A plugin for pytest: a client is active while Dask's own tests run.

Its cluster has two workers of this machine. `.ci/run` uses it for the mode `cluster`, in
which the tests go through the lane of that name.
"""

from __future__ import annotations

from typing import Any

import pytest

_open: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start a cluster and its client."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    _open.extend([Client(cluster), cluster])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close them."""
    while _open:
        _open.pop(0).close()
