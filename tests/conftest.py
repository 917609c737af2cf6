"""What all tests share: forced lanes, and a look at what each test leaves behind."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    # Imported where a test wants a scheduler; most tests of the core don't.
    from amorsize_dask import AmorsizeScheduler

#: Seconds that threads and processes which have been told to end may take to do so.
#: Only a test that leaves something behind takes so long.
GRACE_S = 2.0

# What one test has measured must not decide what happens in another. Dask reads it when
# it is imported, which other files like this one may do before any test.
os.environ["DASK_AMORSIZE__HISTORY"] = "False"

# The same examples in every run, and no deadline: a worker's boot is no failure.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, print_blob=True
)
hypothesis.settings.load_profile("deterministic")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what all tests share, also those that start Python anew."""
    # Costs measured while tests run are no one else's, and those of others not ours.
    folder = tempfile.TemporaryDirectory(prefix="cache-of-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CACHE_HOME"] = folder.name
    # What multiprocessing would start with the first `scheduler="processes"`, and keep.
    resource_tracker.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured during the tests out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_report_header() -> list[str]:
    """Name what results depend on."""
    names = ("dask", "distributed", "cloudpickle", "numpy", "pandas", "hypothesis")
    return [
        ", ".join(f"{name} {_version(name)}" for name in names),
        f"{platform.platform()}, {os.cpu_count()} cores",
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def live_processes() -> set[int]:
    """Return the processes of all open schedulers, if there can be any yet."""
    pool = sys.modules.get("amorsize_dask.execute.pool")
    return set() if pool is None else pool.live_processes()


def _threads_of_dask() -> frozenset[threading.Thread]:
    """Return the threads of Dask that stay on purpose.

    They are those of `scheduler="threads"`, and the one to which all clusters of a
    process give what would hold up their loops.
    """
    pools = (
        getattr(sys.modules.get("dask.threaded"), "default_pool", None),
        getattr(sys.modules.get("distributed.utils"), "_offload_executor", None),
    )
    return frozenset(t for pool in pools if pool is not None for t in pool._threads)


@dataclass(frozen=True)
class Leftovers:
    """What a test could leave behind, as it is at one moment."""

    processes: frozenset[str]
    threads: frozenset[threading.Thread]
    n_descriptors: int
    files: frozenset[str]

    def since(self, before: Leftovers, *, with_descriptors: bool) -> list[str]:
        """Say what is there now and wasn't before."""
        found = [f"process {name}" for name in self.processes - before.processes]
        found += [f"thread {thread!r}" for thread in self.threads - before.threads]
        found += [f"file {name}" for name in self.files - before.files]
        if with_descriptors and self.n_descriptors > before.n_descriptors:
            n = self.n_descriptors - before.n_descriptors
            found.append(f"{n} file descriptors, among {_describe_descriptors()}")
        return found


def look() -> Leftovers:
    """Look at this process, leaving out the workers of schedulers that are open."""
    me = psutil.Process()
    open_pids = live_processes()
    return Leftovers(
        processes=frozenset(
            name
            for child in me.children(recursive=True)
            if child.pid not in open_pids and (name := _describe_process(child))
        ),
        threads=frozenset(threading.enumerate()) - _threads_of_dask(),
        n_descriptors=me.num_fds() if hasattr(me, "num_fds") else 0,
        files=frozenset(
            str(path)
            for folder in {tempfile.gettempdir(), "/dev/shm"}
            for path in Path(folder).glob("amorsize*")
        ),
    )


def _describe_process(process: psutil.Process) -> str:
    """Name a process; nothing if it has gone, or is one that Python keeps."""
    try:
        command = " ".join(process.cmdline()) or process.status()
    except psutil.ZombieProcess:
        command = "zombie"
    except psutil.NoSuchProcess:
        return ""
    # A worker whose task has used multiprocessing has one; it ends with the worker.
    return "" if "resource_tracker" in command else f"{process.pid}: {command[:200]}"


def _describe_descriptors() -> str:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return "an unknown number"
    names = []
    for path in folder.iterdir():
        try:
            names.append(f"{path.name}: {path.readlink()}")
        except FileNotFoundError:
            continue  # that of this very listing
    return ", ".join(sorted(names))


def _expect_nothing_new(
    before: Leftovers, with_descriptors: Callable[[], bool] = lambda: True
) -> None:
    end = time.monotonic() + GRACE_S
    while found := look().since(before, with_descriptors=with_descriptors()):
        if time.monotonic() > end:
            pytest.fail(f"left behind: {'; '.join(found)}")
        time.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def _module_leaves_nothing() -> Iterator[None]:
    """Fail the last test of a module that leaves something behind.

    Its schedulers are closed by then, so descriptors of workers count as well.
    """
    before = look()
    yield
    if "amorsize_dask.scheduler" in sys.modules:
        from amorsize_dask import amorsize_scheduler

        amorsize_scheduler.close()
    _expect_nothing_new(before)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(_module_leaves_nothing: None) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor or spool file behind.

    Workers of open schedulers stay, that is what they are for. Each holds descriptors,
    so these are only compared if no worker came or went; one that is booting is known
    once it is up.
    """
    workers, before = live_processes(), look()
    yield
    _expect_nothing_new(before, lambda: live_processes() == workers)


@pytest.fixture(scope="module")
def forced(
    _module_leaves_nothing: None,
) -> Iterator[Callable[[str], AmorsizeScheduler]]:
    """Return a scheduler that may use one lane only, by the name of the lane.

    With ``"auto"`` it may use all of them. There is one for each name, shared by the
    tests of a module, so that workers boot once.
    """
    from amorsize_dask import AmorsizeScheduler

    schedulers: dict[str, AmorsizeScheduler] = {}

    def force(lane: str) -> AmorsizeScheduler:
        if lane not in schedulers:
            schedulers[lane] = (
                AmorsizeScheduler()
                if lane == "auto"
                else AmorsizeScheduler(lanes=(lane,), isolate=lane != "inline")
            )
        return schedulers[lane]

    yield force
    for scheduler in schedulers.values():
        scheduler.close()
