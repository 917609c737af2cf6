"""The main job on real input: the standard library of Python, parsed as a bag.

Every machine that runs Python has these files. They are many, of uneven size, and
parsing them computes while it holds the GIL, which is the case that threads can't help
with. `count_nodes` is a function like a user's: it knows nothing of Dask.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Workers import this module for `count_nodes`; they have no use for a scheduler.
    from amorsize_dask.execute.record import RunRecord
    from amorsize_dask.scheduler import AmorsizeScheduler

#: One of how many modules `amorsize-dask demo --quick` takes.
QUICK_STEP = 25

#: Folders below the standard library's that hold other people's modules.
FOREIGN_FOLDERS = {"site-packages", "dist-packages"}

#: What the parser is told that the source is called, so that its warnings about other
#: people's code can be told from all others.
SOURCE_NAME = "<amorsize-dask demo>"


#: Called with the name of a scheduler before its run; returns the context, such as a
#: Dask callback, in which the run is made.
Watch = Callable[[str], AbstractContextManager[Any]]

#: How often a module is parsed at most. Python 3.11 counts the depth of a tree in one
#: counter for all threads, and raises SystemError if two of them get it out of step.
#: Smaller: the demo fails there now and then; larger: an error of another cause, which
#: comes every time, is raised later.
N_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRun:
    """The job under one scheduler."""

    #: The scheduler's name, for people.
    name: str
    #: Seconds from `compute` to its result.
    seconds: float
    #: AST nodes of each module, in order.
    counts: list[int]
    #: What amorsize_dask says about its own run; ``None`` for Dask's schedulers.
    record: RunRecord | None = None


def find_modules() -> list[Path]:
    """Return all modules of the running Python's standard library, sorted.

    Returns
    -------
    list of Path
        Files named ``*.py``, its own tests among them; nothing that was installed
        beside it.
    """
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(
        path
        for path in root.rglob("*.py")
        if not FOREIGN_FOLDERS.intersection(path.parts) and path.is_file()
    )


def count_nodes(path: Path) -> int:
    """Read a module and count the nodes of its abstract syntax tree.

    Parameters
    ----------
    path : Path
        A file with Python source.

    Returns
    -------
    int
        How many nodes; 0 if it isn't valid Python, as some files of Python's own
        tests are not.

    Raises
    ------
    OSError
        If the file can't be read.
    """
    silence_parser()
    source = path.read_bytes()
    try:
        tree = _parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    return sum(1 for _ in ast.walk(tree))


def _parse(source: bytes) -> ast.Module:
    """Parse, again if another thread that parses got in the way."""
    for _ in range(N_TRIES - 1):
        try:
            return ast.parse(source, SOURCE_NAME)
        except SystemError:
            continue
    return ast.parse(source, SOURCE_NAME)


def silence_parser() -> None:
    """Ignore what the parser warns of in `SOURCE_NAME`, in this process, for good.

    `warnings.catch_warnings` would do it for the call, but isn't safe in threads.
    """
    pattern = re.escape(SOURCE_NAME)
    modules = (module for _, _, _, module, _ in warnings.filters)
    if not any(getattr(module, "pattern", None) == pattern for module in modules):
        warnings.filterwarnings("ignore", module=pattern)


def run_demo(paths: Sequence[Path], watch: Watch) -> Iterator[DemoRun]:
    """Do the job under each of Dask's schedulers for one machine, and under this one.

    Parameters
    ----------
    paths : sequence of Path
        The modules to parse, at least one.
    watch : callable
        Returns the context of a run, given the scheduler's name.

    Yields
    ------
    DemoRun
        After each run. This scheduler runs twice: the first time it boots whatever
        workers it wants, the second time they are there.
    """
    import dask.bag

    from amorsize_dask.scheduler import AmorsizeScheduler

    silence_parser()
    # The first run shouldn't be the only one that waits for the disk and for imports.
    for path in paths:
        path.read_bytes()
    dask.bag.from_sequence(paths[:1]).map(count_nodes).compute(scheduler="sync")
    bag = dask.bag.from_sequence(paths).map(count_nodes)
    for name in ("sync", "threads", "processes"):
        yield _run(name, bag, name, watch)
    with AmorsizeScheduler() as scheduler:
        for name in ("amorsize, cold", "amorsize, warm"):
            yield _run(name, bag, scheduler, watch)


def _run(
    name: str,
    bag: Any,
    scheduler: str | AmorsizeScheduler,
    watch: Watch,
) -> DemoRun:
    with watch(name):
        start_s = perf_counter()
        counts = bag.compute(scheduler=scheduler)
        seconds = perf_counter() - start_s
    record = None if isinstance(scheduler, str) else scheduler.last_run
    return DemoRun(name=name, seconds=seconds, counts=counts, record=record)
