"""Plans kept on disk."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from amorsize_dask import (
    AmorsizeError,
    ArgumentError,
    ConfigChangedWarning,
    ConfigError,
    ConfigNotFoundError,
    Plan,
    load_config,
    optimize,
    optimize_streaming,
    plan_file,
    save_config,
)
from amorsize_dask.measure.machine import measure_machine


def double(x: int) -> int:
    return 2 * x


def double_differently(x: int) -> int:
    return x + x


PLAN = Plan(
    n_jobs=4,
    chunksize=25,
    partition_size=7,
    npartitions=3,
    lane="processes",
    n_workers=4,
    speedup=3.7,
    pool_speedup=1 / 3,
    predicted_s=1e-9,
    serial_s=12.5,
    reason="because “it” pays",
    warnings=("one", "two"),
    max_workers=None,
    func=double,
    data=[1, 2, 3],
    results={0: 2},
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where plans are kept by name."""
    monkeypatch.setattr(
        platformdirs, "user_config_dir", lambda name: str(tmp_path / name)
    )
    return tmp_path / "amorsize" / "plans"


def spoil(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what is in a file; a text that is returned takes its place."""
    content = json.loads(path.read_text())
    text = change(content)
    path.write_text(text if isinstance(text, str) else json.dumps(content))


# -- there and back --------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was() -> None:
    """All but its data, and the function only if it is given."""
    save_config("my_workload", PLAN)
    kept = replace(PLAN, data=None, results={})
    assert load_config("my_workload") == replace(kept, func=None)
    assert load_config("my_workload", double) == kept


def test_a_plan_for_streams_can_be_kept() -> None:
    """Its numbers are found under a plan's names."""
    plan = optimize_streaming(double, [1, 2, 3])
    save_config("stream", plan, double)
    found = load_config("stream", double)
    assert (found.n_jobs, found.chunksize) == (plan.n_jobs, plan.chunksize)
    assert found.pool_speedup == plan.estimated_speedup
    assert found.reason == plan.reason


def test_where_it_is(folder: Path, tmp_path: Path) -> None:
    """By its name in the configuration folder, or where a path says."""
    assert save_config("a.b-c_d", PLAN) == folder / "a.b-c_d.json"
    path = tmp_path / "elsewhere" / "plan"
    assert save_config(path, PLAN) == path
    assert load_config(path).n_jobs == 4
    assert [file.name for file in folder.iterdir()] == ["a.b-c_d.json"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are relative to the present folder."""
    monkeypatch.chdir(tmp_path)
    assert save_config(Path("plan.json"), PLAN) == tmp_path / "plan.json"
    assert load_config(Path("plan.json")).n_jobs == 4


def test_it_replaces_an_older_one() -> None:
    """Saving again is no error: a program may do it each time."""
    save_config("again", PLAN)
    save_config("again", replace(PLAN, n_jobs=1))
    assert load_config("again").n_jobs == 1


@pytest.mark.skipif(os.name != "posix", reason="the system has other permissions")
def test_it_is_private(folder: Path) -> None:
    """Others can't read it or look into its folder."""
    path = save_config("private", PLAN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_whoever_reads_finds_a_whole_one() -> None:
    """While it is written again and again it can be read."""
    save_config("busy", PLAN)
    done = threading.Event()
    found = []

    def read() -> None:
        while not done.is_set():
            found.append(load_config("busy").n_jobs)

    reader = threading.Thread(target=read)
    reader.start()
    for n_jobs in range(1, 21):
        save_config("busy", replace(PLAN, n_jobs=n_jobs))
    done.set()
    reader.join()
    assert found
    assert set(found) <= set(range(1, 21))


# -- changes ---------------------------------------------------------------------------


def test_a_function_that_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has its name now is looked at, unless one is given."""
    save_config("changed", PLAN)
    load_config("changed")
    with pytest.warns(ConfigChangedWarning, match="test_plan_file.double is now"):
        load_config("changed", double_differently)
    monkeypatch.setitem(globals(), "double", double_differently)
    with pytest.warns(ConfigChangedWarning, match="another function"):
        plan = load_config("changed")
    assert plan.n_jobs == 4


def test_a_function_whose_module_is_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It can't be compared, and isn't imported for that."""
    module = types.ModuleType("workload")
    exec("def work(x):\n    return x", module.__dict__)
    monkeypatch.setitem(sys.modules, "workload", module)
    save_config("unknown", replace(PLAN, func=module.work))
    monkeypatch.delitem(sys.modules, "workload")
    (tmp_path / "workload.py").write_text("raise SystemExit('this was run')")
    monkeypatch.syspath_prepend(tmp_path)
    load_config("unknown")
    assert "workload" not in sys.modules


@pytest.mark.parametrize(
    "func",
    [lambda x: 3 * x, partial(pow, 2), "text".join, len],
    ids=["lambda", "partial", "method", "builtin"],
)
def test_functions_of_all_kinds(func: Any) -> None:
    """Each is the same as itself and another than others."""
    save_config("kind", replace(PLAN, func=func))
    load_config("kind")
    load_config("kind", func)
    with pytest.warns(ConfigChangedWarning):
        load_config("kind", double)


def test_a_collection_has_no_function() -> None:
    """So nothing can have changed but the machine."""
    save_config("collection", replace(PLAN, func=None))
    assert load_config("collection", double).func is double


def test_a_loaded_plan_takes_new_data() -> None:
    """Without data it says so, and doesn't return that there are no results."""
    save_config("again", optimize(double, [1, 2, 3]))
    plan = load_config("again", double)
    with pytest.raises(ArgumentError, match="data"):
        plan.compute()
    for run in (load_config("again").compute, load_config("again").stream):
        with pytest.raises(ArgumentError, match="add what is to be run"):
            run()
    assert replace(plan, data=[4, 5]).compute() == [8, 10]


def test_a_machine_that_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor or Python, fewer cores, or several of these."""
    save_config("moved", PLAN)
    machine = measure_machine()
    with monkeypatch.context() as patch:
        patch.setattr(plan_file, "find_processor", lambda: ["model name: another"])
        with pytest.warns(ConfigChangedWarning, match=r"now 'model name: another'"):
            load_config("moved")
    with monkeypatch.context() as patch:
        patch.setattr(plan_file.platform, "python_version", lambda: "4.0.0")
        with pytest.warns(ConfigChangedWarning, match=r"Python '3.* \(now '4.0.0'\)"):
            load_config("moved")
    with monkeypatch.context() as patch:
        patch.setattr(plan_file.platform, "node", lambda: "elsewhere")
        load_config("moved")
    more = replace(machine, n_cores=machine.n_cores + 7)
    monkeypatch.setattr(plan_file, "measure_machine", lambda: more)
    text = rf"for cores {machine.n_cores} \(now {more.n_cores}\)"
    with pytest.warns(ConfigChangedWarning, match=text):
        load_config("moved")
    with pytest.warns(ConfigChangedWarning, match=f"another function .* and {text}"):
        load_config("moved", double_differently)


def test_the_warning_names_the_callers_line() -> None:
    """Not one in this package."""
    save_config("line", PLAN)
    with pytest.warns(ConfigChangedWarning) as caught:
        load_config("line", double_differently)
    assert caught[0].filename == __file__


# -- what is refused -------------------------------------------------------------------


def in_plan(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["plan"].update(changed)


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def remove(content: dict[str, Any]) -> None:
        for name in names[:-1]:
            content = content[name]
        del content[names[-1]]

    return remove


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: "", "broken"),
        (lambda content: "{", "broken"),
        (lambda content: "[]", "not a table"),
        (lambda content: "[" * 50_000, "broken"),
        (lambda content: " " * plan_file.MAX_CHARACTERS + "{}", "broken"),
        (lambda content: json.dumps(content)[:-1], "broken"),
        (lambda content: content.update(version=2), "version 2 instead of 1"),
        (lambda content: content.update(version=None), "version None"),
        (without("version"), "version None"),
        (without("plan"), "plan"),
        (without("machine"), "machine"),
        (without("function"), "function"),
        (without("machine", "cores"), "machine"),
        (without("function", "name"), "function"),
        (without("plan", "chunksize"), "fields"),
        (lambda content: content.update(plan=[]), "not a table"),
        (lambda content: content.update(machine=3), "machine"),
        (lambda content: content["function"].update(name="os.system"), "name"),
        (lambda content: content["function"].update(name=["os", 3]), "name"),
        (in_plan(n_jobs=0), "n_jobs is 0"),
        (in_plan(n_jobs=True), "n_jobs is True"),
        (in_plan(n_jobs=2.0), "n_jobs is 2.0"),
        (in_plan(n_jobs="4"), "n_jobs is '4'"),
        (in_plan(chunksize=-1), "chunksize is -1"),
        (in_plan(chunksize=None), "chunksize is None"),
        (in_plan(speedup=-1.0), "speedup is -1.0"),
        (in_plan(speedup=float("nan")), "speedup is nan"),
        (in_plan(speedup=float("inf")), "speedup is inf"),
        (in_plan(speedup=10**400), "broken"),
        (in_plan(lane="cluster"), "lane is 'cluster'"),
        (in_plan(lane=3), "lane is 3"),
        (in_plan(reason=None), "reason is None"),
        (in_plan(warnings="one"), "warnings is 'one'"),
        (in_plan(warnings=[1]), "warnings is"),
        (in_plan(max_workers=0), "max_workers is 0"),
        (in_plan(func="os.system"), "fields"),
        (in_plan(more=1), "fields"),
    ],
)
def test_a_broken_file(change: Any, why: str) -> None:
    """It is an error that names the file and what is wrong with it."""
    path = save_config("broken", PLAN)
    spoil(path, change)
    with pytest.raises(ConfigError, match="broken or not a plan") as caught:
        load_config("broken")
    assert why in str(caught.value)
    assert caught.value.path == str(path)


def test_loading_runs_nothing(tmp_path: Path) -> None:
    """Pickles and Python in a file aren't run."""
    path = save_config("evil", PLAN)
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ConfigError):
        load_config("evil")
    path.write_text(f"__import__('pathlib').Path({str(witness)!r}).touch()")
    with pytest.raises(ConfigError):
        load_config("evil")
    assert not witness.exists()


def test_finding_a_function_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may lead to what acts when it is asked for something: it isn't asked."""

    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

    class Acting(metaclass=Meta):
        @property
        def work(self) -> Any:
            raise AssertionError("the property was asked for")

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    module = types.ModuleType("acting")
    module.__dict__.update(Acting=Acting, one=Acting(), __getattr__=refuse)
    monkeypatch.setitem(sys.modules, "acting", module)
    path = save_config("asked", PLAN)
    for name in ("Acting.work", "Acting.more", "one.work", "more", "", "."):

        def rename(content: dict[str, Any], name: str = name) -> None:
            content["function"]["name"] = ["acting", name]

        spoil(path, rename)
        load_config("asked")


def test_there_is_none(folder: Path) -> None:
    """Which can be told from all other errors, and those that are there are named."""
    with pytest.raises(FileNotFoundError, match="doesn't exist") as caught:
        load_config("missing")
    assert isinstance(caught.value, ConfigNotFoundError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.path == str(folder / "missing.json")
    save_config("one", PLAN)
    save_config("two", PLAN)
    with pytest.raises(ConfigNotFoundError, match="there are: one, two"):
        load_config("missing")


@pytest.mark.skipif(os.name != "posix", reason="the system has other permissions")
def test_what_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, other users' files and those that others could write are refused."""
    path = save_config("mine", PLAN)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="link"):
        load_config(link)
    with pytest.raises(ConfigError, match="link"):
        save_config(link, PLAN)
    assert link.is_symlink()
    path.chmod(0o622)
    with pytest.raises(ConfigError, match="others may write"):
        load_config("mine")
    path.chmod(0o600)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(ConfigError, match="another user"):
        load_config("mine")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """It is an error that says why, and nothing is left behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written"):
        save_config(tmp_path / "file" / "plan.json", PLAN)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="can't be written"):
        save_config(tmp_path / "folder", PLAN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder named "~" appears."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: f"~/{name}")
    for call in (partial(save_config, result=PLAN), load_config):
        with pytest.raises(ConfigError, match="no configuration folder"):
            call("name")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "x" * 101, "a\0", "ä", 3, None],
)
def test_names_that_make_no_sense(name: Any, tmp_path: Path) -> None:
    """They are refused, and no file is made."""
    for call in (partial(save_config, result=PLAN), load_config):
        with pytest.raises(ArgumentError, match="name="):
            call(name)
        for path in (Path("/"), tmp_path / "a\0"):
            with pytest.raises(ArgumentError, match="name="):
                call(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"n_jobs": 1, "chunksize": 1},
        double,
        Plan,
        replace(PLAN, n_jobs=0),
        replace(PLAN, chunksize=1.5),
        replace(PLAN, speedup=float("nan")),
        replace(PLAN, lane="nowhere"),
        replace(PLAN, reason=None),
    ],
)
def test_results_that_are_no_plans(result: Any, tmp_path: Path) -> None:
    """They are refused before anything is written."""
    with pytest.raises(ArgumentError, match="result="):
        save_config("name", result)
    for call in (partial(save_config, "name", PLAN), partial(load_config, "name")):
        with pytest.raises(ArgumentError, match="func="):
            call(func=3)
    assert not list(tmp_path.iterdir())


def test_errors_are_of_the_tree() -> None:
    """One handler catches them all, and a missing file can be told apart."""
    assert issubclass(ConfigError, AmorsizeError)
    assert issubclass(ConfigNotFoundError, ConfigError | FileNotFoundError)


def test_in_another_process(tmp_path: Path) -> None:
    """A later run of a script finds its plan; a changed script is warned."""
    script = tmp_path / "script.py"
    text = (
        "from pathlib import Path\n"
        "from amorsize_dask import Plan, load_config, save_config\n"
        "def work(x):\n    return x + 1\n"
        "path = Path(__file__).with_name('plan.json')\n"
        "try:\n    print(load_config(path).n_jobs)\n"
        "except FileNotFoundError:\n"
        "    save_config(path, Plan(n_jobs=3, func=work))\n"
    )
    outputs = []
    for body in (text, text, text.replace("x + 1", "x + 2")):
        script.write_text(body)
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        outputs.append((done.stdout, "ConfigChangedWarning" in done.stderr))
    assert outputs == [("", False), ("3\n", False), ("3\n", True)]
