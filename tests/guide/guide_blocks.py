"""The Python blocks of amorsize's guide, and running one as a script does."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from dask.bag import from_sequence

import amorsize_dask
from amorsize_dask import AmorsizeScheduler
from amorsize_dask.measure.machine import measure_machine

DATA = Path(__file__).parents[1] / "data"
GUIDE = DATA / "amorsize_guide.md"
MODULES = DATA / "guide_modules"

#: For tests that use a pool as the guide does: it forks, with threads of ours about.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

#: A heading, or a block of Python.
_PART = re.compile(r"^(#{2,4}) ([^\n]*)$|^```python\n(.*?)^```", re.M | re.S)


class Block(NamedTuple):
    """A block of Python in the guide."""

    #: From 1, in the order of the guide.
    number: int
    #: The heading of the second level that it is under, and the nearest one.
    section: str
    heading: str
    code: str

    @property
    def test_name(self) -> str:
        """What the test of this block is called."""
        kinds = "Pattern|Strategy|Technique|Pitfall"
        words = re.sub(rf"^\W*({kinds})? ?\d*[.:]?", "", self.heading)
        slug = "_".join(re.findall(r"[a-z0-9]+", words.lower()))
        return f"test_{self.number:02d}_{slug}"


@functools.cache
def read_blocks() -> tuple[Block, ...]:
    """Return all Python blocks of the guide, in order."""
    blocks: list[Block] = []
    section = heading = ""
    for level, title, code in _PART.findall(GUIDE.read_text(encoding="utf-8")):
        if code:
            blocks.append(Block(len(blocks) + 1, section, heading, code))
        else:
            heading = title
            section = title if level == "##" else section
    return tuple(blocks)


class Guide:
    """Runs one block of the guide in the namespace of its section.

    The namespace is the module `__main__` meanwhile, as it is for a script: functions
    are found by the processes of a forked pool, and guards let the code below them run.
    Names stay from one block of a section to the next.
    """

    def __init__(self, block: Block, module: ModuleType, folder: Path) -> None:
        self.block = block
        self.module = module
        #: What the guide's `optimize` has returned, in order.
        self.plans: list[Any] = []
        self.n_runs = 0
        self._folder = folder

    def run(self, code: str | None = None, /, **stand_ins: Any) -> Any:
        """Run the block, or a part of it, and return the module of its names.

        Parameters
        ----------
        code : str, optional
            The part, by default all of it.
        **stand_ins
            What the guide leaves undefined.
        """
        self.module.__dict__.update(stand_ins)
        if code is None:
            code = self.block.code
            self.n_runs += 1
        assert code in self.block.code
        path = self._folder / f"block_{self.block.number:02d}.py"
        path.write_text(code, encoding="utf-8")
        self.module.__file__ = str(path)
        exec(compile(code, path, "exec"), self.module.__dict__)
        return self.module

    def split(self, mark: str) -> tuple[str, str]:
        """Return the parts of the block before and after a text in it."""
        before, found, after = self.block.code.partition(mark)
        assert found
        return before, found + after

    def make_amorsize(self) -> ModuleType:
        """Return what the guide imports as `amorsize`: this package."""
        module = ModuleType("amorsize")
        for name in amorsize_dask.__all__:
            setattr(module, name, getattr(amorsize_dask, name))

        @functools.wraps(amorsize_dask.optimize)
        def optimize(*args: Any, **kwargs: Any) -> Any:
            plan = amorsize_dask.optimize(*args, **kwargs)
            self.plans.append(plan)
            return plan

        module.__dict__["optimize"] = optimize
        return module


def make_section(name: str) -> ModuleType:
    """Return a namespace for the blocks of a section."""
    module = ModuleType("__main__")
    module.__doc__ = name
    return module


def find_tests(modules: list[Path]) -> dict[str, list[str]]:
    """Return the names of the tests in modules, by module."""
    pattern = re.compile(r"^def (test_\d\d_\w+)\(", re.M)
    return {path.stem: pattern.findall(path.read_text("utf-8")) for path in modules}


def run_in(lane: str, func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call a function with items in one lane, and outside of this process if it is."""
    with AmorsizeScheduler(lanes=(lane,), isolate=lane == "processes") as scheduler:
        bag = from_sequence(items, npartitions=4).map(func)
        values: list[Any] = bag.compute(scheduler=scheduler)
        assert scheduler.last_run is not None
        assert lane in scheduler.last_run.lanes
    return values


def expect_parallel(plan: Any) -> None:
    """Assert that a plan spreads work over the cores, if there are several."""
    if measure_machine().n_physical_cores > 1:
        assert plan.n_jobs > 1, plan.explain()
        assert plan.lane != "inline", plan.explain()
        assert plan.speedup > 1, plan.explain()


def expect_serial(plan: Any) -> None:
    """Assert that a plan says a loop is best."""
    assert plan.n_jobs == 1, plan.explain()
    assert plan.lane == "inline", plan.explain()


def expect_all_cores(plan: Any) -> None:
    """Assert that a plan uses all physical cores, or at least four of many."""
    n_cores = measure_machine().n_physical_cores
    assert min(4, n_cores) <= plan.n_jobs <= n_cores, plan.explain()
