"""The benchmark suite, on small inputs: results are compared, figures shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a module of the benchmarks, as their scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module


def run_script(name: str, *arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run a script of the benchmarks, and return its code, output and errors."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def read_rows(document: str) -> dict[str, list[str]]:
    """Return the cells of a document's table of times, by workload."""
    table = document.partition("## Times")[2].partition("## Limits")[0]
    lines = [line.strip("| ").split("|") for line in table.strip().splitlines()]
    rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0]: row[1:] for row in rows}


def figures(seconds: float, digest: str = "right") -> dict[str, Any]:
    """Return what a process prints."""
    return {
        "seconds": seconds,
        "digests": [digest],
        "preview": f"the {digest} result",
        "peak_bytes": 1,
        "n_processes": 0,
        "n_tasks": None,
    }


def replace_runs(
    suite: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    found: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Have the suite find these figures by runner; return who runs, as it goes."""
    order: list[str] = []

    def run(workload: str, runner: str, **_: Any) -> Mapping[str, Any]:
        order.append(runner)
        return found[runner]

    monkeypatch.setattr(suite, "run_in_process", run)
    return order


def test_command_prints_and_writes_the_table(tmp_path: Path) -> None:
    """One command runs, compares, prints the table and writes the document."""
    out = tmp_path / "figures.md"
    arguments = ["--quick", "--rounds", "1", "--only", "join", "tree"]
    arguments += ["--runners", "sync", "hand", "warm", "--out", str(out)]
    code, printed, progress = run_script("suite.py", *arguments, folder=tmp_path)
    assert code == 0, progress
    assert out.read_text() in printed
    assert "cores" in printed
    assert "geometric mean of 2 ratios" in printed
    rows = read_rows(printed)
    assert list(rows)[2:] == ["`join`", "`tree`"]
    for name in ("`join`", "`tree`"):
        cells = dict(zip(rows["workload"], rows[name], strict=True))
        assert [head for head, cell in cells.items() if cell == "–"] == [
            "`threads`",
            "`processes`",
            "`processes`, warm pool",
            "LocalCluster",
            "joblib",
            "amorsize, cold",
            "cold / best stock",
        ]
    assert len(re.findall(r"^round 1", progress, re.M)) == 6


def test_cost_of_the_limit(tmp_path: Path) -> None:
    """Three schedulers in turn, of which two hold none, and their ratios."""
    arguments = ["--quick", "--rounds", "1", "--only", "join", "tree"]
    code, printed, progress = run_script("limit_cost.py", *arguments, folder=tmp_path)
    assert code == 0, progress
    *_, join, tree, mean = printed.splitlines()
    for row, name in ((join, "join"), (tree, "tree")):
        cells = row.split()
        assert cells[0] == name
        assert all(float(ratio) > 0 for ratio in cells[-2:])
    ratios = [float(ratio) for ratio in mean.split()[-2:]]
    assert len(ratios) == 2
    assert len(re.findall(r"^round 1", progress, re.M)) == 6


@pytest.mark.parametrize("name", ["threads", "warm"])
def test_wrong_result_is_reported(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str
) -> None:
    """A runner with another result has no time, is named, and fails the command."""
    suite = load("suite")
    found = dict.fromkeys(("sync", "threads", "warm"), figures(1.0))
    replace_runs(suite, monkeypatch, {**found, name: figures(0.1, "wrong")})
    arguments = ["--only", "waits", "--runners", "sync", "threads", "warm"]
    assert suite.main(arguments) == 1
    printed = capsys.readouterr()
    message = "another result than sync: the wrong result instead of the right result"
    assert f"FAILED waits, {name}: {message}" in printed.err
    assert message in printed.out
    assert read_rows(printed.out)["`waits`"].count("**failed**") == 1


def test_failure_of_ours_misses_the_limit(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A run of ours that fails or takes too long counts as infinitely slow."""
    suite = load("suite")
    found = {"threads": figures(1.0), "warm": {"over_s": 60.0}}
    replace_runs(suite, monkeypatch, found)
    arguments = ["--only", "waits", "--runners", "threads", "warm", "--check"]
    assert suite.main(arguments) == 1
    printed = capsys.readouterr().out
    assert read_rows(printed)["`waits`"].count("> 60 s") == 1
    assert "geometric mean of 1 ratios to the best stock scheduler: inf" in printed


def test_hopeless_runner_sits_out(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Runners take turns, and one that can't be the best of its kind runs once."""
    suite = load("suite")
    found = {"sync": figures(1.0), "threads": figures(1.5), "processes": figures(9.0)}
    order = replace_runs(suite, monkeypatch, found)
    arguments = ["--only", "parse", "--runners", *found, "--rounds", "3"]
    assert suite.main(arguments) == 0
    assert order == [
        *("sync", "threads", "processes"),
        *("threads", "sync"),
        *("sync", "threads"),
    ]
    cells = read_rows(capsys.readouterr().out)["`parse`"]
    assert cells[:3] == ["1 s", "1.5 s", "9 s*"]


def test_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """A process ends itself when a compute takes longer than it may."""
    arguments = ["waits", "sync", "--limit-s", "0.1", "--folder", str(tmp_path)]
    code, printed, _ = run_script("run_one.py", *arguments, folder=tmp_path)
    assert (code, json.loads(printed)) == (0, {"over_s": 0.1})


def test_plain_and_dask_forms_of_all_workloads_agree(load: Any, tmp_path: Path) -> None:
    """Each workload's collection under `sync` and its loop have equal results."""
    digest = load("digest").digest
    compute = load("runners").compute
    workloads = load("catalogue").WORKLOADS
    assert len(workloads) > 25
    with ExitStack() as stack:
        setting = load("workload").Setting(
            is_quick=True, steps_per_ms=10, folder=tmp_path, stack=stack
        )
        for name, workload in workloads.items():
            data = workload.make(setting, 1)
            found = compute(workload.collection(data), scheduler="sync")
            job = workload.job(data)
            expected = job.finish(map(job.function, job.items))
            found, expected = map(workload.normalise, (found, expected))
            assert digest(found) == digest(expected), name


def test_digest_tells_results_apart(load: Any) -> None:
    """Results that are equal have one digest, whatever holds them; others don't."""
    digest = load("digest").digest
    assert digest([1, 2.0]) == digest((np.int64(1), 2.0 + 1e-12))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    values = [[1, 2], [2, 1], [[1], 2], ["1", 2], {1, 2}, b"12", np.array([1, 2]), None]
    assert len({digest(value) for value in values}) == len(values)
    with pytest.raises(TypeError, match="type object can't be compared"):
        digest(object())


def test_clusters_are_compared(tmp_path: Path) -> None:
    """The script of the clusters starts both, and its table has their ratio."""
    arguments = "--only", "wait", "--rounds", "1", "--items", "30"
    code, output, errors = run_script("cluster.py", *arguments, folder=tmp_path)
    assert code == 0, errors
    row = next(line for line in output.splitlines() if line.startswith("| waits"))
    assert row.count(" x |") == 3
    assert "no trouble" in row
    assert "geometric mean, warm" in output


def test_plans_are_measured_simulated_and_written(tmp_path: Path) -> None:
    """One command prints the table of plans and writes it."""
    out = tmp_path / "plans.md"
    arguments = ["--rounds", "1", "--only", "too_few", "--simulate", "too_few"]
    code, printed, progress = run_script(
        "plans.py", *arguments, "--out", str(out), folder=tmp_path
    )
    assert code == 0, progress
    assert out.read_text() in printed
    rows = re.findall(r"^\|.*`too_few`.*$", printed, re.M)
    assert len(rows) == 1 + 3
    assert "simulated pool: must be <= 1.1, is at most 1: reached by all" in printed


def test_limits_of_plans_are_judged(load: Any) -> None:
    """What is above its limit is named, and predictions count by their errors."""
    table, run = load("planned_table"), load("planned_run")

    def make(
        name: str, planned_s: float, predicted_s: float, item_s: float = 0.01
    ) -> Any:
        seconds = {"pool 1 1": 1.0, "pool 2 1": planned_s, "pool 2 4": 0.5}
        seconds |= {"bag 1": 0.5, "bag 10": 0.55, "compute": 0.5, "execute": 1.0}
        each = run.Round(
            pool="pool 2 1",
            bag="bag 10",
            lane="processes",
            cpu_fraction=1.0,
            item_s=item_s,
            optimize_s=0.06,
            kept_s=0.02,
            pool_predicted_s=predicted_s,
            compute_predicted_s=0.5,
            early_predicted=1.0,
            seconds=seconds,
        )
        return table.make_row(name, run.Found(rounds=[each] * 3))

    rows = [make("good", 0.5, 0.5), make("slow", 0.6, 0.9)]
    lines = table.judge(rows, [])
    assert lines[0].endswith("is at most 1.2: **not reached** by `slow` 1.2")
    assert "reached by all" in lines[1]
    assert "`good` 1.2" in lines[3]
    assert lines[4].endswith("is at most 0.8: reached by all")
    assert "pool predicted: off by 25%" in lines[5]
    assert "**not reached**" in lines[5]
    assert "**" not in lines[6] + lines[7]
    lines = table.judge([*rows, make("long", 0.5, 0.5, item_s=0.055)], [])
    assert lines[5].startswith("optimize waits for one call of `long`")


def test_the_best_call_is_told_by_other_rounds(load: Any) -> None:
    """One that was fastest once by chance isn't what others are held against."""
    table, run = load("planned_table"), load("planned_run")

    def make(seconds: dict[str, float]) -> Any:
        return run.Round(
            pool="pool 2 1",
            bag="bag 1",
            lane="processes",
            cpu_fraction=1.0,
            item_s=0.01,
            optimize_s=0.01,
            kept_s=0.005,
            pool_predicted_s=0.5,
            compute_predicted_s=0.5,
            seconds={"pool 1 1": 1.0, "bag 1": 0.5, "compute": 0.5, "execute": 0.5}
            | seconds,
        )

    lucky = [
        make({"pool 2 1": 0.5, "pool 2 2": 0.5 + 0.05 * (i != 0), "pool 2 4": 0.55})
        for i in range(4)
    ]
    lucky[1].seconds["pool 2 4"] = 0.4
    row = table.make_row("lucky", run.Found(rounds=lucky))
    assert row.pool == 1.0
    worse = [make({"pool 2 1": 0.6, "pool 2 2": 0.5}) for _ in range(3)]
    assert table.make_row("worse", run.Found(rounds=worse)).pool == pytest.approx(1.2)


def test_clients_are_compared(tmp_path: Path) -> None:
    """The script of the lane cluster compares results, and has a row for each kind."""
    arguments = "cheap", "large", "--rounds", "1", "--share", "0.02"
    code, output, errors = run_script("client.py", *arguments, folder=tmp_path)
    assert code == 0, errors
    rows = [line for line in output.splitlines() if line.endswith(" x |")]
    assert len(rows) == 2
    assert all(row.count(" x |") >= 2 for row in rows)
