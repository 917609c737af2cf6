"""What import-linter can't say about imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import amorsize_dask

PACKAGE = Path(amorsize_dask.__path__[0])


def imports(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            yield node.module


@pytest.mark.parametrize("folder", ["core", "simulate"])
def test_deciding_needs_the_standard_library_alone(folder: str) -> None:
    """The core and the simulated machine import the standard library and the core."""
    own = ("amorsize_dask.core", "amorsize_dask.simulate", "amorsize_dask.errors")
    paths = sorted((PACKAGE / folder).glob("*.py"))
    assert paths
    foreign = {
        name
        for path in paths
        for name in imports(path)
        if not name.startswith(own)
        and name.split(".")[0] not in sys.stdlib_module_names
    }
    assert not foreign


def test_private_names_of_dask_are_read_in_lowering_alone() -> None:
    """Only `lowering` imports private modules of Dask."""
    private = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name.startswith(("dask._", "distributed._")) for name in imports(path))
    }
    assert all(path.startswith("lowering/") for path in private)
