"""Never run: mypy checks that the public names have the types that users rely on."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import dask.bag as db

from amorsize_dask import (
    AmorsizeScheduler,
    ClusterRecorder,
    ComparisonConfig,
    Plan,
    advise_workers,
    amorsize_scheduler,
    cluster_kwargs,
    cluster_record,
    compare_strategies,
    execute,
    load_config,
    local_cluster,
    optimize,
    predict_makespans,
    save_config,
    validate_optimization,
    validate_system,
)

assert_type(amorsize_scheduler, AmorsizeScheduler)

default = AmorsizeScheduler()
chosen = AmorsizeScheduler(
    max_workers=4,
    memory_limit="2 GB",
    lanes=("inline", "processes"),
    target_batch_duration=0.05,
    isolate=True,
    allow_oversized=True,
    respect_load=True,
)
assert_type(
    default.stream(db.from_sequence([1, 2]), ordered=False), Generator[Any, None, None]
)
in_bytes = AmorsizeScheduler(memory_limit=2_000_000_000, max_workers=None)

with AmorsizeScheduler(lanes=["threads"]) as scheduler:
    assert_type(scheduler, AmorsizeScheduler)
    db.from_sequence([1, 2]).compute(scheduler=scheduler)
    record = scheduler.last_run
    assert record is not None
    assert_type(record.actual_s, float)
    assert_type(record.predicted_s, float | None)
    assert_type(record.peak_memory_bytes, int)
    assert_type(record.n_cores, int)
    assert_type(record.load, str | None)
    assert_type(str(record), str)
    assert_type(record.lanes["threads"].n_tasks, int)
    for lane in record.lanes.values():
        assert_type(lane.seconds, float)
        assert_type(lane.n_tasks, int)
        assert_type(lane.n_workers, int)
    for stage in record.stages:
        assert_type(stage.name, str)
        assert_type(stage.n_tasks, int)
        assert_type(stage.mean_s, float)
        assert_type(stage.cpu_fraction, float)
    for decision in record.decisions:
        assert_type(decision.stage, str)
        assert_type(decision.reason, str)
        assert_type(decision.n_workers, int)

plan = optimize(len, ["a", "b"], sample_size=5, max_workers=2, respect_load=True)
assert_type(plan, Plan)
assert_type(plan.n_jobs, int)
assert_type(plan.chunksize, int)
assert_type(plan.lane, str)
assert_type(plan.speedup, float)
assert_type(plan.reason, str)
assert_type(plan.warnings, tuple[str, ...])
assert_type(plan.pool_arguments("joblib"), dict[str, int])
assert_type(plan.stream(), Generator[Any, None, None])
assert_type(optimize(db.from_sequence([1, 2])), Plan)
assert_type(execute(len, ["a", "b"], verbose=True), list[Any])
if plan.diagnostic_profile is not None:
    assert_type(plan.diagnostic_profile.avg_execution_time, float)

default.close()

arguments = cluster_kwargs((abs, [-1, -2]), max_workers=2, memory_limit="1 GB")
assert_type(arguments.reasons, dict[str, str])
assert_type(arguments.predicted_s, float)
assert_type(arguments.fits, bool)
with local_cluster(db.from_sequence([1]), client=True, name="mine") as cluster:
    assert_type(cluster.arguments.fits, bool)

compared = compare_strategies(abs, [-1, -2], ComparisonConfig(schedulers=["sync"]))
assert_type(compared.best_strategy, str)
assert_type(compared.best_time, float)
assert_type(compared.find_speedup("serial"), float)
assert_type(compared.plot(), str)
checked = validate_optimization(abs, range(3), 2, 10, num_trials=1)
assert_type(checked.actual_speedup, float)
assert_type(checked.accuracy, float)
assert_type(validate_system().available_memory_gb, float)
assert_type(validate_system().warnings, tuple[str, ...])
path = save_config("numbers", plan)
assert_type(load_config(path, abs), Plan)
assert_type(predict_makespans((abs, [-1, -2]), [1, 2], n_cores=2), dict[int, float])

with local_cluster((abs, [-1]), client=True) as cluster:
    cluster.client.register_plugin(ClusterRecorder())
    seen = cluster_record(cluster.client)
    assert_type(seen.n_left, int)
    assert_type(seen.stages[0].longest_s, float)
    advice = advise_workers(cluster.client, maximum=8, target_s=10, start_s=0.5)
    assert_type(advice.n_workers, int)
    assert_type(advice.reason, str)
    assert_type(dict(advice.makespans), dict[int, float])
    assert_type(cluster_kwargs(seen).fits, bool)
