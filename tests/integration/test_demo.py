"""The demo, on a part of its input."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from amorsize_dask import demo
from amorsize_dask.__main__ import main


def test_modules_are_those_of_the_standard_library() -> None:
    """The demo finds modules of the running Python, and none that was installed."""
    names = {path.name for path in demo.find_modules()}
    assert {"ast.py", "sysconfig.py"} <= names or {"ast.py", "pathlib.py"} <= names
    assert "scheduling.py" not in names
    assert len(names) > 300


@pytest.mark.parametrize(
    ("source", "n_nodes"),
    [
        (b"", 1),
        (b"x = 1", 5),
        (b"x = ", 0),
        (b"\0", 0),
        (b"# coding: latin-1\nx = '\xe9'", 5),
        (b"x = '\xe9'", 0),
        (b"x = '\\d'", 5),
    ],
)
def test_nodes_are_counted(source: bytes, n_nodes: int, tmp_path: Path) -> None:
    """Nodes are counted, those of an invalid file as 0, and its warnings are kept."""
    path = tmp_path / "module.py"
    path.write_bytes(source)
    assert demo.count_nodes(path) == n_nodes


def test_only_warnings_of_the_parser_are_ignored() -> None:
    """A warning from elsewhere is still shown after a module has been parsed."""
    demo.silence_parser()
    with pytest.warns(SyntaxWarning):
        warnings.warn("from elsewhere", SyntaxWarning, stacklevel=1)


def test_all_schedulers_agree() -> None:
    """The demo's runs give the same counts, and only amorsize's have a record."""
    runs = list(demo.run_demo(demo.find_modules()[::100], lambda name: nullcontext()))
    assert [run.name for run in runs] == [
        "sync",
        "threads",
        "processes",
        "amorsize, cold",
        "amorsize, warm",
    ]
    assert all(run.counts == runs[0].counts for run in runs)
    assert sum(runs[0].counts) > 0
    assert [run.record is not None for run in runs] == [False, False, False, True, True]


def test_command_prints_table_and_record() -> None:
    """`amorsize-dask demo` shows all rows, the plan, and that results agree."""
    done = subprocess.run(
        [sys.executable, "-m", "amorsize_dask", "demo", "--quick"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for text in ("sync", "threads", "processes", "cold", "warm", "predicted", "equal"):
        assert text in done.stdout
    assert done.stderr == ""


def test_command_fails_if_results_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with 1 and names the schedulers that gave other results."""

    def run_demo(paths: list[Path], watch: demo.Watch) -> Iterator[demo.DemoRun]:
        for name, counts in [("sync", [1, 2]), ("threads", [1, 2]), ("odd", [2, 1])]:
            yield demo.DemoRun(name=name, seconds=1.0, counts=counts)

    monkeypatch.setattr("amorsize_dask.__main__.run_demo", run_demo)
    result = CliRunner().invoke(main, ["demo", "--quick"])
    assert result.exit_code == 1
    assert "other results than under sync: odd" in result.output


def test_every_run_is_watched() -> None:
    """Each run is made inside of the context that it was given, one after the other."""
    seen: list[str] = []

    @contextmanager
    def watch(name: str) -> Iterator[None]:
        seen.append(f"{name} starts")
        yield
        seen.append(f"{name} ends")

    names = [run.name for run in demo.run_demo(demo.find_modules()[:2], watch)]
    assert seen == [f"{name} {what}" for name in names for what in ("starts", "ends")]
