"""A Dask scheduler that measures tasks and decides where, how many and in what batches.

>>> import dask.bag as db
>>> from amorsize_dask import amorsize_scheduler
>>> db.range(10, npartitions=2).sum().compute(scheduler=amorsize_scheduler)
45

Once this package is imported, Dask knows the name ``"amorsize"``. It doesn't import
Dask itself: worker processes do without, as long as no task needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from amorsize_dask.imported import when_imported

if TYPE_CHECKING:
    from amorsize_dask.batches import (
        estimate_safe_batch_size,
        optimize_streaming,
        process_in_batches,
    )
    from amorsize_dask.cluster import (
        cluster_kwargs,
        local_cluster,
        predict_makespans,
    )
    from amorsize_dask.cluster.adaptive import MeasuredAdaptive
    from amorsize_dask.cluster.advice import advise_workers, cluster_record
    from amorsize_dask.cluster.recorder import ClusterRecorder
    from amorsize_dask.compare.comparison import (
        Comparison,
        ComparisonConfig,
        compare_strategies,
    )
    from amorsize_dask.compare.prediction import validate_optimization
    from amorsize_dask.errors import (
        AmorsizeError,
        ArgumentError,
        ClusterError,
        ConfigChangedWarning,
        ConfigError,
        ConfigNotFoundError,
        LaneError,
        MemoryBudgetError,
        ResultLostError,
        SerializationError,
        TaskTimeoutError,
        WorkerLostError,
        WorkerStartError,
    )
    from amorsize_dask.pipeline.pipeline import Pipeline
    from amorsize_dask.pipeline.stage import Stage
    from amorsize_dask.plan_file import load_config, save_config
    from amorsize_dask.planning.execute import execute
    from amorsize_dask.planning.optimize import optimize
    from amorsize_dask.planning.plan import Plan
    from amorsize_dask.planning.profile import DiagnosticProfile
    from amorsize_dask.planning.sequence import from_sequence
    from amorsize_dask.scheduler import AmorsizeScheduler, amorsize_scheduler
    from amorsize_dask.validation import validate_system

__version__ = "0.1.0"

#: Public names and the modules that have them, imported when first used.
_HOMES = {
    "AmorsizeError": "errors",
    "AmorsizeScheduler": "scheduler",
    "ArgumentError": "errors",
    "ClusterError": "errors",
    "ClusterRecorder": "cluster.recorder",
    "Comparison": "compare.comparison",
    "ComparisonConfig": "compare.comparison",
    "ConfigChangedWarning": "errors",
    "ConfigError": "errors",
    "ConfigNotFoundError": "errors",
    "DiagnosticProfile": "planning.profile",
    "LaneError": "errors",
    "MeasuredAdaptive": "cluster.adaptive",
    "MemoryBudgetError": "errors",
    "Pipeline": "pipeline.pipeline",
    "Plan": "planning.plan",
    "ResultLostError": "errors",
    "SerializationError": "errors",
    "Stage": "pipeline.stage",
    "TaskTimeoutError": "errors",
    "WorkerLostError": "errors",
    "WorkerStartError": "errors",
    "advise_workers": "cluster.advice",
    "amorsize_scheduler": "scheduler",
    "cluster_kwargs": "cluster",
    "cluster_record": "cluster.advice",
    "compare_strategies": "compare.comparison",
    "estimate_safe_batch_size": "batches",
    "from_sequence": "planning.sequence",
    "load_config": "plan_file",
    "local_cluster": "cluster",
    "optimize": "planning.optimize",
    "optimize_streaming": "batches",
    "predict_makespans": "cluster",
    "process_in_batches": "batches",
    "save_config": "plan_file",
    "validate_optimization": "compare.prediction",
    "validate_system": "validation",
}

__all__ = [
    "AmorsizeError",
    "AmorsizeScheduler",
    "ArgumentError",
    "ClusterError",
    "ClusterRecorder",
    "Comparison",
    "ComparisonConfig",
    "ConfigChangedWarning",
    "ConfigError",
    "ConfigNotFoundError",
    "DiagnosticProfile",
    "LaneError",
    "MeasuredAdaptive",
    "MemoryBudgetError",
    "Pipeline",
    "Plan",
    "ResultLostError",
    "SerializationError",
    "Stage",
    "TaskTimeoutError",
    "WorkerLostError",
    "WorkerStartError",
    "advise_workers",
    "amorsize_scheduler",
    "cluster_kwargs",
    "cluster_record",
    "compare_strategies",
    "estimate_safe_batch_size",
    "execute",
    "from_sequence",
    "load_config",
    "local_cluster",
    "optimize",
    "optimize_streaming",
    "predict_makespans",
    "process_in_batches",
    "save_config",
    "validate_optimization",
    "validate_system",
]


def __getattr__(name: str) -> Any:
    if name == "execute":
        # A folder that can be called: see there. What it calls is imported now, so that
        # the first call doesn't pay for that.
        import_module(f"{__name__}.planning.execute")
        return import_module(f"{__name__}.execute")
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


def _add_defaults() -> None:
    from amorsize_dask.config import register_defaults

    register_defaults()


def _add_name() -> None:
    from dask import base

    base.named_schedulers["amorsize"] = _compute


when_imported("dask.config", _add_defaults)
when_imported("dask.base", _add_name)
