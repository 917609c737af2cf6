"""A plugin for pytest: a client is active while Dask's own tests run.

Its cluster has two workers of this machine. `.ci/run` uses it for the mode `cluster`,
in which the tests go through the lane of that name.
"""

from __future__ import annotations

from typing import Any

import dask
import pytest
from dask.base import named_schedulers

_open: list[Any] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a cluster and its client, or start them anew where a test has closed them.

    Not before: the workers import what starts them, and tests are collected once.
    """
    from distributed import Client, LocalCluster

    if _open and _open[0].status == "running":
        try:
            Client.current()
        except ValueError:
            _close()
        else:
            return
    _close()
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    _open.extend([Client(cluster), cluster])
    # The client has made itself the default; named schedulers are all the one to test.
    dask.config.set(scheduler=named_schedulers["sync"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close them."""
    _close()


def _close() -> None:
    while _open:
        _open.pop(0).close()
