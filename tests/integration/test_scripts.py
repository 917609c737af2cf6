"""Scripts and notebooks as people write them: no guard, lambdas, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

NO_GUARD = """
import sys
import dask.bag as db
from amorsize_dask import AmorsizeScheduler

print("body runs")
OFFSET = 10

class Point:
    def __init__(self, x):
        self.x = x

def shift(x):
    return Point(x + OFFSET)

with AmorsizeScheduler(lanes=sys.argv[1].split(",")) as scheduler:
    bag = db.from_sequence(range(100), npartitions=10)
    points = bag.map(shift).map(lambda p: Point(p.x * 2)).compute(scheduler=scheduler)
    assert [p.x for p in points] == [(x + 10) * 2 for x in range(100)]
    assert all(isinstance(p, Point) for p in points)
    print(*scheduler.last_run.lanes)
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_script_without_a_guard(tmp_path: Path, start_method: str) -> None:
    """Its functions, classes and lambdas work in processes, and its body runs once."""
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD)
    done = subprocess.run(
        [sys.executable, script, "processes"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DASK_AMORSIZE__START_METHOD": start_method},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "body runs"
    assert "processes" in lines[1]
    assert len(lines) == 2


OPTIMIZED = """
import dask.bag as db
from amorsize_dask import AmorsizeScheduler, Pipeline, execute

assert False, "asserts are on"

def double(x):
    return 2 * x

bag = db.from_sequence(range(40), npartitions=8).map(double)
for lane in ("inline", "threads", "processes"):
    with AmorsizeScheduler(lanes=(lane,)) as scheduler:
        print(bag.compute(scheduler=scheduler) == [2 * x for x in range(40)])
        print(sorted(scheduler.stream(bag)) == [2 * x for x in range(40)])
print(execute(double, range(1000)) == [2 * x for x in range(1000)])
print(list(Pipeline([double, double]).run(range(100))) == [4 * x for x in range(100)])
"""


def test_without_asserts(tmp_path: Path) -> None:
    """Nothing is done inside of an assert, which `python -O` leaves out."""
    script = tmp_path / "script.py"
    script.write_text(OPTIMIZED)
    done = subprocess.run(
        [sys.executable, "-O", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 8


FOREVER = """
import signal, sys, time
import dask.bag as db
from amorsize_dask import AmorsizeScheduler

# Who runs the tests in the background may have told it to be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = sys.argv[2]

def spin(x):
    open(f"{folder}/{x}", "w").close()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass

scheduler = AmorsizeScheduler(lanes=sys.argv[1].split(","))
bag = db.from_sequence(range(8), npartitions=8).map(spin)
try:
    bag.compute(scheduler=scheduler)
except KeyboardInterrupt:
    import psutil
    children = psutil.Process().children(recursive=True)
    print(*[child.cmdline() for child in children] or ["no process is left"])
"""


@pytest.mark.parametrize(
    "lanes", ["inline", "threads", "processes", "inline,threads,processes"]
)
def test_ctrl_c(tmp_path: Path, lanes: str) -> None:
    """Ctrl-C ends a compute, and no process is left when it has been raised."""
    script = tmp_path / "script.py"
    script.write_text(FOREVER)
    with subprocess.Popen(
        [sys.executable, script, lanes, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not any(path.name.isdigit() for path in tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        if "processes" in lanes.split(","):
            # Also those that boot while the caller works.
            while not psutil.Process(process.pid).children(recursive=True):
                time.sleep(0.01)
        # As a terminal does: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == "no process is left\n"


TWICE = """
import os, signal, sys, tempfile, threading, time
import dask.bag as db
from amorsize_dask import AmorsizeScheduler
from amorsize_dask.execute.pool import WorkerPool

# As above.
signal.signal(signal.SIGINT, signal.default_int_handler)
close = WorkerPool.close

def close_and_interrupt(pool):
    # Where the caller waits for workers to end.
    WorkerPool.close = close
    close(pool)
    raise KeyboardInterrupt("again")

WorkerPool.close = close_and_interrupt
scheduler = AmorsizeScheduler(lanes=("processes",))
bag = db.from_sequence(range(100), npartitions=100).map(lambda x: time.sleep(0.2))
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    bag.compute(scheduler=scheduler)
except KeyboardInterrupt as error:
    print(error, os.listdir(sys.argv[1]))
"""


def test_ctrl_c_twice(tmp_path: Path) -> None:
    """A second Ctrl-C while the first is followed leaves no spool folder."""
    script = tmp_path / "script.py"
    script.write_text(TWICE)
    folder = tmp_path / "spool"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, script, folder],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)},
    )
    assert done.stdout == "again []\n", done.stderr


SPAWNED = """
import multiprocessing
import dask.bag as db
from amorsize_dask import AmorsizeScheduler

class Point:
    def __init__(self, x):
        self.x = x

def compute(n):
    with AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler:
        bag = db.from_sequence(range(n), npartitions=5).map(Point)
        points = bag.compute(scheduler=scheduler)
        assert all(isinstance(point, Point) for point in points)
        return [point.x for point in points], [*map(str, scheduler.last_run.lanes)]

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        values, lanes = pool.apply(compute, (20,))
    assert values == list(range(20))
    print(*lanes)
"""


def test_process_that_multiprocessing_spawned(tmp_path: Path) -> None:
    """There too, functions and classes of the script are sent to workers."""
    script = tmp_path / "script.py"
    script.write_text(SPAWNED)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "processes" in done.stdout


KILLED = """
import sys, time
import dask.bag as db
from amorsize_dask import AmorsizeScheduler

folder = sys.argv[1]

def sleep(x):
    open(f"{folder}/{x}", "w").close()
    time.sleep(60)

bag = db.from_sequence(range(8), npartitions=8).map(sleep)
bag.compute(scheduler=AmorsizeScheduler(lanes=("processes",)))
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_caller_that_is_killed(tmp_path: Path, start_method: str) -> None:
    """Workers of a caller that was killed end too, busy as they are.

    Its spool folders are removed by the next process of the user's that makes its own.
    """
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "DASK_AMORSIZE__START_METHOD": start_method},
    ) as process:
        while not any(path.name.isdigit() for path in tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    program = (
        "from amorsize_dask.execute.spool_folder import SpoolFolder as F; F().close()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


NOTEBOOK = """
from jupyter_client.manager import start_new_kernel

cell = '''
import logging
import dask.bag as db
from amorsize_dask import AmorsizeScheduler
def double(x):
    print(f"item {x}\\\\n", end="")  # one write also where nothing is buffered
    logging.warning("logged %d", x)
    return 2 * x
with AmorsizeScheduler(lanes=("processes",)) as scheduler:
    result = db.range(10, npartitions=5).map(double).compute(scheduler=scheduler)
    print(sum(result), *scheduler.last_run.lanes)
'''
manager, client = start_new_kernel(kernel_name="python3")
client.execute_interactive(cell, timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


def test_notebook(tmp_path: Path) -> None:
    """In a notebook's kernel functions of its cells work in processes.

    What they print and log is shown below the cell.
    """
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
    )
    shown = done.stdout.splitlines()
    assert shown.count("90 inline processes") == 1, done.stderr
    for i in range(10):
        assert shown.count(f"item {i}") == 1
        assert done.stderr.count(f"logged {i}") == 1


def test_import_is_lean() -> None:
    """Importing the package imports nothing heavy beyond Dask itself."""
    code = (
        "import sys, dask; before = set(sys.modules); import amorsize_dask; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - {'amorsize_dask'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split() == []


def test_worker_imports_little() -> None:
    """A worker has neither NumPy nor the bag nor distributed, unless a task asks."""
    code = """
import sys
import dask
from amorsize_dask import AmorsizeScheduler
def loaded():
    import sys
    return sorted(sys.modules)
with AmorsizeScheduler(lanes=("processes",)) as scheduler:
    modules = scheduler({"x": (loaded,)}, "x")
print(*({"numpy", "pandas", "dask.bag", "distributed", "rich"} & set(modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
