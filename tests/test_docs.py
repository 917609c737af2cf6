"""What the documents show runs, and what they name is there."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import amorsize_dask
from amorsize_dask.__main__ import main
from amorsize_dask.core import cost

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(amorsize_dask.__path__, "amorsize_dask.")
    if not module.name.endswith("__main__")
)


def blocks(document: Path) -> str:
    """Return all Python blocks of a document as one script."""
    found = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)
    return "\n".join(found)


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if blocks(document)],
    ids=lambda path: path.name,
)
def test_python_blocks_run(document: Path, tmp_path: Path) -> None:
    """The Python blocks of a document run, all of them in order as one script."""
    script = tmp_path / "script.py"
    script.write_text(blocks(document))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    paths = [target for target in targets if "://" not in target]
    missing = [path for path in paths if not (document.parent / path).exists()]
    assert not missing


def test_commands_are_there() -> None:
    """Every command that a document names is one of the command line's."""
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    named = set(re.findall(r"(?:^|`|&& )amorsize-dask (\w+)", text, re.M))
    assert named == set(main.commands)


def test_readme_has_python() -> None:
    """The README shows Python, so that the tests above test something."""
    assert "compute(" in blocks(ROOT / "README.md")


def test_formulas_are_those_of_the_code() -> None:
    """The cost model's formulas are the same in its docstring and in its document."""
    assert cost.__doc__ is not None
    blocks = re.findall(r"::\n\n((?:(?: {4}.*)?\n)+)", cost.__doc__)
    formulas = [textwrap.dedent(block).strip() for block in blocks]
    document = (ROOT / "docs" / "explanation" / "cost-model.md").read_text()
    shown = re.findall(r"^```\n(.*?)\n```$", document, re.M | re.S)
    assert formulas == shown != []


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    """The examples in a module's docstrings print what they say."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
