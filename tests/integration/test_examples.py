"""Every example runs by itself, as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def run(example: Path, folder: Path) -> str:
    """Run a script away from the checkout and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_proves_its_claim(example: Path, tmp_path: Path) -> None:
    """An example ends well: it asserts itself what it claims."""
    assert run(example, tmp_path)


def test_examples_were_found() -> None:
    """The folder that is looked into is the right one."""
    assert [path.name for path in EXAMPLES][:1] == ["01_first_bag.py"]


def test_script_without_guard_runs_once(tmp_path: Path) -> None:
    """The body of a script without a main guard runs once."""
    assert "__main__" not in (FOLDER / "01_first_bag.py").read_text().split('"""')[2]
    assert run(FOLDER / "01_first_bag.py", tmp_path).count("the body runs") == 1
