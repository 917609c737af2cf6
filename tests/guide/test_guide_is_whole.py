"""No block of the guide is left out."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from guide_blocks import GUIDE, find_tests, read_blocks

HERE = Path(__file__).parent


def test_every_block_has_a_test_and_every_test_a_block() -> None:
    """They have the same numbers and headings, each once."""
    tests = find_tests(sorted(HERE.glob("test_guide_*.py")))
    names = Counter(name for found in tests.values() for name in found)
    assert names == Counter(block.test_name for block in read_blocks())


def test_blocks_run_in_order() -> None:
    """Within a module tests are in the order of the guide, and sections aren't torn."""
    sections = {block.test_name: block.section for block in read_blocks()}
    homes: dict[str, str] = {}
    for module, names in find_tests(sorted(HERE.glob("test_guide_*.py"))).items():
        assert names == sorted(names)
        for name in names:
            assert homes.setdefault(sections[name], module) == module


def test_all_blocks_are_found() -> None:
    """As many as there are fences of Python, and all of them parse."""
    n_fences = len(re.findall(r"^```python$", GUIDE.read_text("utf-8"), re.M))
    assert len(read_blocks()) == n_fences > 50
    for block in read_blocks():
        ast.parse(block.code)


def test_nothing_is_skipped() -> None:
    """No test of a block is marked to be left out, or to fail."""
    for path in HERE.glob("test_guide_*.py"):
        if path != Path(__file__):
            assert not re.search(r"skip|xfail", path.read_text("utf-8"))
