"""What workers share with the caller, so that a task runs there as it would here."""

from __future__ import annotations

import logging
import os
import sys

from dask import config

from amorsize_dask.execute.launch import worker_environ
from amorsize_dask.execute.log_levels import find_levels
from amorsize_dask.execute.wire import Part, dump
from amorsize_dask.execute.worker import WorkerState

logger = logging.getLogger(__name__)


def dump_caller_state() -> list[Part]:
    """Pickle import path, folder, environment, Dask's configuration and log levels."""
    try:
        folder = os.getcwd()
    except OSError:
        folder = None  # it has been removed; the worker stays where it is
    state = WorkerState(
        list(sys.path), folder, worker_environ(), _portable_config(), find_levels()
    )
    return dump(("state", state))


def _portable_config() -> dict[str, list[bytes]]:
    """Pickle Dask's configuration without what can't be sent.

    A scheduler or a pool that is an object of this process means nothing in another.
    """
    settings = {}
    for name, value in config.config.items():
        if name in ("scheduler", "pool") and not isinstance(value, str):
            continue
        try:
            settings[name] = [bytes(part) for part in dump(value)]
        except Exception as error:
            logger.debug("Dask's setting %r does not travel: %r", name, error)
    return settings
