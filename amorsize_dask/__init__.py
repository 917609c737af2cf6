"""A Dask scheduler that measures tasks and decides where, how many and in what batches.

>>> import dask.bag as db
>>> from amorsize_dask import amorsize_scheduler
>>> db.range(10, npartitions=2).sum().compute(scheduler=amorsize_scheduler)
45

Importing this package registers the name ``"amorsize"`` with Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dask import base

from amorsize_dask.config import register_defaults

if TYPE_CHECKING:
    from amorsize_dask.errors import (
        AmorsizeError,
        ArgumentError,
        LaneError,
        SerializationError,
        WorkerLostError,
        WorkerStartError,
    )
    from amorsize_dask.scheduler import AmorsizeScheduler, amorsize_scheduler

__version__ = "0.1.0"

#: Public names and the modules that have them, imported when first used.
_HOMES = {
    "AmorsizeError": "errors",
    "AmorsizeScheduler": "scheduler",
    "ArgumentError": "errors",
    "LaneError": "errors",
    "SerializationError": "errors",
    "WorkerLostError": "errors",
    "WorkerStartError": "errors",
    "amorsize_scheduler": "scheduler",
}

__all__ = [
    "AmorsizeError",
    "AmorsizeScheduler",
    "ArgumentError",
    "LaneError",
    "SerializationError",
    "WorkerLostError",
    "WorkerStartError",
    "amorsize_scheduler",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _compute(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Stand for the scheduler under its registered name until it is first used."""
    from amorsize_dask.scheduler import amorsize_scheduler

    return amorsize_scheduler(dsk, keys, **kwargs)


register_defaults()
base.named_schedulers["amorsize"] = _compute
