"""The guide's pitfalls and systems: each block is run and its claim asserted.

Docstrings say what is asserted; where that isn't what the guide says, also why.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import timeit
from multiprocessing import Pool
from pathlib import Path

import guide_stand_ins as stand_ins
import pytest
from guide_blocks import FORKS, Guide, expect_all_cores, expect_parallel, expect_serial

from amorsize_dask.measure.load import CoreUse, Load, LoadWatch
from amorsize_dask.measure.machine import measure_machine

SQUARES = [x * x for x in range(1_000)]


@FORKS
def test_41_ignoring_amorsize_recommendations(guide: Guide) -> None:
    """Wrong: a loop is recommended, and eight processes take longer than it does."""
    ran = guide.run(func=stand_ins.work_shortly, data=range(1_000), Pool=Pool)
    expect_serial(ran.result)
    assert "Serial execution recommended" in ran.result.reason
    assert ran.results == SQUARES

    def use_pool() -> list[int]:
        with Pool(processes=8) as pool:
            return pool.map(ran.func, ran.data)

    loop_s = min(timeit.repeat(ran.result.compute, number=1, repeat=3))
    assert min(timeit.repeat(use_pool, number=1, repeat=3)) > loop_s


@FORKS
def test_42_using_consumed_generators(guide: Guide) -> None:
    """Wrong: what was read to be sampled is missing in what is left of a generator."""
    ran = guide.run(func=stand_ins.work_briefly, Pool=Pool)
    assert len(ran.results) < 1_000
    assert set(ran.results) < set(SQUARES)


@FORKS
def test_43_using_consumed_generators(guide: Guide) -> None:
    """`result.data` has all of it."""
    ran = guide.run(func=stand_ins.work_briefly, Pool=Pool)
    assert ran.results == SQUARES


@FORKS
def test_44_over_subscribing_cores(guide: Guide) -> None:
    """Wrong: as many processes as the system has logical cores, whoever may use them.

    It does no harm to the results; how many there are is what the next block is about.
    """
    ran = guide.run(func=stand_ins.work_shortly, data=range(1_000), Pool=Pool)
    assert ran.results == SQUARES
    assert ran.n_jobs == os.cpu_count() >= measure_machine().n_physical_cores


def test_45_over_subscribing_cores(guide: Guide) -> None:
    """Work that computes is spread over physical cores, and not over more."""
    ran = guide.run(func=stand_ins.work_long, data=range(4_000))
    expect_all_cores(ran.result)
    assert ran.result.n_workers <= measure_machine().n_physical_cores


#: What the guide's block needs around it to be a script.
WITHOUT_GUARD = """
import sys
sys.modules["amorsize"] = __import__("amorsize_dask")
print("the body runs")
def func(x):
    import os
    return os.getpid()
data = range(100)
{block}
from amorsize_dask import AmorsizeScheduler
from dask.bag import from_sequence
with AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler:
    pids = from_sequence(data).map(func).compute(scheduler=scheduler)
import os
assert os.getpid() not in pids
"""

OF_PYTHON = """
import multiprocessing
multiprocessing.get_context("spawn").Process(target=print).start()
"""


def test_46_not_handling_windows_main_guard(guide: Guide, tmp_path: Path) -> None:
    """Wrong with Python's own processes; a script of ours needs no guard.

    Its body runs once, also where processes are started as on Windows and macOS.
    """
    guide.run(func=stand_ins.work_briefly, data=range(100))
    assert guide.plans

    script = tmp_path / "script.py"
    script.write_text(OF_PYTHON)
    done = run_script(script)
    assert "freeze_support" in done.stderr
    script.write_text(WITHOUT_GUARD.format(block=guide.block.code))
    done = run_script(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the body runs"]
    assert done.stderr == ""


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DASK_AMORSIZE__START_METHOD": "spawn"},
    )


def test_47_not_handling_windows_main_guard(
    guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a guard it runs as a script, and does nothing when it is imported."""
    ran = guide.run(func=stand_ins.work_briefly, data=range(100))
    assert ran.result is guide.plans[-1]
    n_plans = len(guide.plans)
    monkeypatch.setattr(guide.module, "__name__", "imported")
    guide.run()
    assert len(guide.plans) == n_plans


def test_48_parallelizing_setup_teardown(guide: Guide, tmp_path: Path) -> None:
    """Wrong: the model is loaded once for each item."""
    loader = stand_ins.Loader(tmp_path)
    ran = guide.run(load_heavy_model=loader)
    assert [ran.process_with_setup(item) for item in range(30)] == list(range(0, 60, 2))
    assert loader.count() == 30


@FORKS
def test_49_parallelizing_setup_teardown(guide: Guide, tmp_path: Path) -> None:
    """The model is loaded once for each process."""
    loader = stand_ins.Loader(tmp_path)
    plan = guide.module.optimize(stand_ins.work_long, range(4_000))
    items = list(range(500))
    ran = guide.run(load_heavy_model=loader, items=items, result=plan, Pool=Pool)
    assert ran.results == [2 * item for item in items]
    assert loader.count() == plan.n_jobs


def test_50_linux_fork_start_method(guide: Guide) -> None:
    """All physical cores are used where processes are forked, which is quick."""
    ran = guide.run(func=stand_ins.work_long, data=range(4_000))
    expect_all_cores(ran.result)
    assert ran.result.diagnostic_profile.start_method == "fork"
    assert ran.result.diagnostic_profile.spawn_cost < 0.02


def test_51_windows_macos_spawn_start_method(guide: Guide) -> None:
    """Where processes are spawned that costs more, and less work is worth it."""
    work = {"func": stand_ins.work_briefly, "data": range(200)}
    guide.run(**work)
    multiprocessing.set_start_method("spawn", force=True)
    guide.run(**work)
    forked, spawned = guide.plans
    costs = [plan.diagnostic_profile.spawn_cost for plan in guide.plans]
    assert costs[0] < costs[1]
    # Some hundredths of a second are worth a fork at most.
    assert spawned.n_jobs == 1 <= forked.n_jobs
    guide.run(func=stand_ins.work_long, data=range(4_000))
    expect_parallel(guide.plans[-1])


def test_52_docker_containers(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    """Limits are told as they are found, and no more workers are used than allowed."""
    ran = guide.run(func=stand_ins.work_long, data=range(4_000))
    assert capsys.readouterr().out.splitlines() == [
        f"Detected memory: {ran.validation.available_memory_gb:.1f}GB",
        f"Physical cores: {measure_machine().n_physical_cores}",
    ]
    assert ran.result.n_jobs <= 4
    assert ran.result.n_workers <= 4
    assert ran.optimize(ran.func, ran.data, max_workers=1).n_jobs == 1


def test_53_high_performance_computing_hpc(
    guide: Guide, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores that others use are left to them, if asked to; here it is all but one."""
    n_cores = measure_machine().n_cores
    load = Load(cores=(CoreUse("cores", n_cores, n_cores - 1.0),))
    monkeypatch.setattr(LoadWatch, "look", lambda watch, pids=(): load)
    ran = guide.run(func=stand_ins.work_long, data=range(4_000))
    assert ran.result.reason in capsys.readouterr().err
    assert ran.result.n_jobs == ran.result.n_workers == 1
    expect_parallel(ran.optimize(ran.func, ran.data))
