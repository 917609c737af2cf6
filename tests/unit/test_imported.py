"""Acting when a module is imported, and what the package does so."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from amorsize_dask.imported import when_imported

NAME = "amorsize_test_module"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file of a module that can be imported."""
    before = list(sys.meta_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"{NAME}.py"
    path.write_text("x = 1\n")
    importlib.invalidate_caches()
    yield path
    sys.modules.pop(NAME, None)
    sys.meta_path[:] = before


def test_a_module_that_is_there() -> None:
    """Then it is now."""
    acted: list[str] = []
    when_imported("json", lambda: acted.append("json"))
    assert acted == ["json"]


def test_a_module_that_comes_later(source: Path) -> None:
    """Once, whenever and however often it is imported, in the order of asking."""
    acted: list[int] = []
    for number in range(3):
        when_imported(NAME, lambda number=number: acted.append(number))
    assert not acted
    module = importlib.import_module(NAME)
    assert module.x == 1
    assert acted == [0, 1, 2]
    importlib.reload(module)
    assert acted == [0, 1, 2]


def test_its_loader_is_its_own(source: Path) -> None:
    """So that its source and its files are found as ever."""
    when_imported(NAME, lambda: None)
    module = importlib.import_module(NAME)
    assert module.__loader__.get_source(NAME) == "x = 1\n"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__


def test_who_only_looks_for_it_changes_nothing(source: Path) -> None:
    """It still acts when the module is imported at last."""
    acted: list[str] = []
    when_imported(NAME, lambda: acted.append("now"))
    assert find_spec(NAME) is not None
    assert find_spec("amorsize_no_such_module") is None
    assert not acted
    importlib.import_module(NAME)
    assert acted == ["now"]


def test_an_import_that_fails(source: Path) -> None:
    """It fails as ever; one that succeeds later acts."""
    acted: list[str] = []
    when_imported(NAME, lambda: acted.append("now"))
    source.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(NAME)
    assert not acted
    source.write_text("x = 22\n")
    importlib.invalidate_caches()
    assert importlib.import_module(NAME).x == 22
    assert acted == ["now"]


def test_a_module_that_does_not_exist(source: Path) -> None:
    """Its absence is the usual error."""
    when_imported("amorsize_no_such_module", lambda: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("amorsize_no_such_module")


@pytest.mark.parametrize(
    "first", ["import amorsize_dask, sys; assert 'dask' not in sys.modules", "pass"]
)
def test_dask_knows_the_name_and_the_defaults(first: str) -> None:
    """Whichever of the two packages is imported first."""
    program = f"""
{first}
import dask
dask.config.set({{"amorsize.start-method": "spawn"}})
import amorsize_dask
assert dask.config.get("amorsize.start-method") == "spawn"
assert dask.config.get("amorsize.idle-timeout")
import dask.bag as db
assert db.range(4, npartitions=2).sum().compute(scheduler="amorsize") == 6
"""
    subprocess.run([sys.executable, "-c", program], check=True)
