"""The guide on memory and on tuning: each block is run and its claim asserted.

Docstrings say what is asserted; where that isn't what the guide says, also why.
"""

from __future__ import annotations

import weakref
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import guide_arrays as arrays
import guide_stand_ins as stand_ins
import numpy as np
import psutil
import pytest
from guide_blocks import FORKS, Guide, expect_parallel, expect_serial
from guide_stand_ins import Item

from amorsize_dask import (
    AmorsizeScheduler,
    estimate_safe_batch_size,
    load_config,
)
from amorsize_dask.measure.machine import measure_machine


def test_24_estimate_memory_requirements(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number of images is told, and it halves where images are twice as large.

    Images take 4 and 8 MB, where the guide has 50.
    """
    ran = guide.run(
        load_image=arrays.load_image,
        process=arrays.keep_half,
        image_paths=[f"{i}_4.jpg" for i in range(20)],
    )
    assert capsys.readouterr().out == f"Safe batch size: {ran.batch_size}\n"
    assert ran.batch_size > 1
    larger = estimate_safe_batch_size(
        ran.memory_intensive_task, [f"{i}_8.jpg" for i in range(10)], 0.6
    )
    assert larger == pytest.approx(ran.batch_size / 2, rel=0.3)


@FORKS
def test_25_use_streaming_for_large_results(guide: Guide, tmp_path: Path) -> None:
    """All items are saved, and what comes back is small."""
    ran = guide.run(
        expensive_computation=stand_ins.expensive_computation,
        save_to_disk=stand_ins.save_to_disk,
        items=[Item(id=i) for i in range(60)],
        Pool=Pool,
    )
    done = sorted(ran.summaries, key=lambda summary: summary["id"])
    assert done == [{"id": i, "status": "success"} for i in range(60)]
    assert {path.name for path in tmp_path.glob("output_*.pkl")} == {
        f"output_{i}.pkl" for i in range(60)
    }
    plan = ran.streaming_result
    assert plan.n_jobs <= measure_machine().n_physical_cores
    assert list(plan.data) == ran.items


def test_26_clear_memory_in_workers(guide: Guide) -> None:
    """When it returns, what it has loaded is gone."""
    loaded: list[weakref.ref[Any]] = []

    def load_large_dataset(item: int) -> Any:
        data = np.full(100_000, float(item))
        loaded.append(weakref.ref(data))
        return data

    ran = guide.run(load_large_dataset=load_large_dataset, compute=stand_ins.add_up)
    assert [ran.process_with_cleanup(item) for item in range(3)] == [0.0, 1e5, 2e5]
    assert len(loaded) == 3
    assert all(data() is None for data in loaded)


@FORKS
def test_27_use_memory_mapped_files_for_huge_data(guide: Guide, tmp_path: Path) -> None:
    """Four billion bytes are mapped by each process, and copied by none.

    That holds for processes that are forked, which share the map, and for others, which
    are told the file's name. What is computed of the rows that are sampled, tens of
    thousands of them, is their length: reading each from a disk takes long.
    """
    with open(tmp_path / "large_data.dat", "wb") as file:
        file.truncate(4_000_000_000)  # it has a hole, and takes no space
        file.seek(4_000 * 7)
        file.write(np.arange(1, 1_001, dtype="float32").tobytes())
    before_bytes = count_own_bytes()
    ran = guide.run(compute=len)
    assert ran.result.data == range(1_000_000)
    ran.compute = stand_ins.take_first
    expected = [0.0] * 7 + [1.0] + [0.0] * 2
    with Pool(2) as pool:
        assert pool.map(ran.process_row, range(10)) == expected
    # Not as a bag: Dask would read all that a function has, to name the bag by it.
    graph = {f"row-{i}": (ran.process_row, i) for i in range(10)}
    with AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler:
        assert list(scheduler(graph, list(graph))) == expected
    assert count_own_bytes() - before_bytes < 400_000_000
    del ran.shared_data, ran.result, ran.process_row
    guide.plans.clear()


def count_own_bytes() -> int:
    """Return the bytes that are in memory and not in a file as well."""
    found = psutil.Process().memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def test_28_monitor_memory_usage(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory and cores are told as a run would find them, and warnings if any."""
    ran = guide.run()
    found = ran.validation
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Available memory: {found.memory_bytes / 1e9:.1f} GB"
    assert lines[1] == f"Physical cores: {measure_machine().n_physical_cores}"
    assert len(lines) == 2 + bool(found.warnings)


def test_29_use_diagnostic_profiling(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured is told; that pickling takes longer only where it does."""
    ran = guide.run(func=stand_ins.work_long, data=range(1_000))
    output = capsys.readouterr()
    profile = ran.profile
    assert 0.0009 < profile.avg_execution_time < 0.1
    assert 0 < profile.avg_pickle_time < profile.avg_execution_time
    assert profile.spawn_cost > 0
    expect_parallel(ran.result)
    for text in ("Avg execution time: 0.0", "Pickle overhead", "Spawn", "speedup"):
        assert text in output.out
    assert "Pickling is slower" not in output.out
    assert ran.result.reason in output.err

    large = [bytearray(1_000_000) for _ in range(20)]
    ran = guide.run(func=len, data=large)
    assert "Pickling is slower" in capsys.readouterr().out
    expect_serial(ran.result)


def test_30_tune_for_your_workload(guide: Guide) -> None:
    """No more items are tried than was asked for, and chunks keep to their time."""
    guide.run(func=stand_ins.work_long, data=range(4_000))
    uneven, even = guide.plans
    assert 1 <= uneven.diagnostic_profile.n_sampled <= 50
    assert 1 <= even.diagnostic_profile.n_sampled <= 10
    for plan, target_s in ((uneven, 0.5), (even, 2.0)):
        expect_parallel(plan)
        item_s = plan.diagnostic_profile.avg_execution_time
        assert plan.chunksize * item_s <= target_s


def test_31_validate_predictions_with_benchmarking(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is run for real, and its prediction rated."""
    ran = guide.run(func=stand_ins.work_long, data=range(100))
    found = ran.validation
    assert (found.n_jobs, found.chunksize) == (ran.result.n_jobs, ran.result.chunksize)
    assert found.has_same_results
    assert found.serial_s > 100 * 0.001
    assert found.actual_speedup > 0
    assert 0 < found.accuracy <= 100
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"Predicted speedup: {ran.result.speedup:.2f}x",
        f"Actual speedup: {found.actual_speedup:.2f}x",
        f"Prediction accuracy: {found.accuracy:.1f}%",
    ]


@FORKS
def test_32_cache_results_for_repeated_workloads(guide: Guide) -> None:
    """What was saved is loaded, without a warning, and used."""
    ran = guide.run(func=stand_ins.work_briefly, data=range(2_000), Pool=Pool)
    assert (ran.config.n_jobs, ran.config.chunksize) == (
        ran.result.n_jobs,
        ran.result.chunksize,
    )
    assert ran.results == [x * x for x in range(2_000)]
    assert (
        load_config("my_workload", stand_ins.work_briefly).reason == ran.result.reason
    )


def test_33_use_comparison_mode_for_algorithm_selection(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """All ways are run, and the fastest is told."""
    ran = guide.run(func=stand_ins.wait, data=range(10))
    found = ran.comparison
    names = [strategy.name for strategy in found.strategies]
    assert names == ["serial", "threads", "processes", "batched", "amorsize"]
    assert all(strategy.is_usable for strategy in found.strategies)
    assert all(len(strategy.times_s) == 3 for strategy in found.strategies)
    # Waiting side by side takes less than one after the other.
    assert found.best_strategy != "serial"
    assert capsys.readouterr().out.splitlines() == [
        f"Best strategy: {found.best_strategy}",
        f"Best time: {found.best_time:.2f}s",
    ]
