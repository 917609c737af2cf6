"""Callers that end in one way or another, or have little of what the system gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

PRELUDE = """
import os, resource, signal, sys, threading, time
import dask
from dask import delayed
from amorsize_dask import AmorsizeScheduler

# Who runs the tests in the background may have told them to be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

folder = sys.argv[1]

def make(i):
    time.sleep(0.01)
    return bytes([i]) * 300_000

def wait(i):
    open(f"{folder}/{i}", "w").close()
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return make(i)

tasks = [delayed(make)(i) for i in range(40)]
expected = tuple(make(i) for i in range(40))
waiting = [delayed(wait)(i) for i in range(40)]
"""


def run(script: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(folder), *words],
        capture_output=True,
        text=True,
        timeout=100,
    )


def find_spool() -> set[Path]:
    """Return the folders of runs that there are."""
    roots = {Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/var/tmp")}
    return {path for root in roots for path in root.glob("amorsize-*")}


# -- ends ------------------------------------------------------------------------------

BUSY = """
scheduler = AmorsizeScheduler(lanes=("processes",), max_workers=2)
assert dask.compute(*tasks, scheduler=scheduler) == expected
for value in scheduler.stream(tasks[:1] + waiting):
    print("ready", flush=True)
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGHUP", "SIGINT", "SIGQUIT"])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_signal_to_the_caller(how: str, start_method: str, tmp_path: Path) -> None:
    """Its workers end, and its spool folders are gone, though no one else runs."""
    before = find_spool()
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + BUSY, tmp_path],
        env={**os.environ, "DASK_AMORSIZE__START_METHOD": start_method},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while not any(path.name.isdigit() for path in tmp_path.iterdir()):
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        assert find_spool() > before
        process.send_signal(getattr(signal, how))
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    end = time.monotonic() + 10
    while find_spool() != before and time.monotonic() < end:
        time.sleep(0.01)
    assert find_spool() == before


EXITS = {
    "sys.exit": "sys.exit(3)",
    "os._exit": "os._exit(3)",
    "an exception": "raise SystemExit(3)",
    "in a thread": "threading.Timer(0, os._exit, (3,)).start(); time.sleep(9)",
    "an exception of the consumer": "1 / 0",
}


@pytest.mark.parametrize("how", EXITS)
def test_a_caller_that_exits(how: str, tmp_path: Path) -> None:
    """In the middle of a stream; what has been started ends, nothing stays."""
    before = find_spool()
    script = f"""
scheduler = AmorsizeScheduler(lanes=("processes",))
for value in scheduler.stream(tasks + waiting):
    print(*[child.pid for child in __import__("psutil").Process().children(True)])
    sys.stdout.flush()
    {EXITS[how]}
"""
    done = run(script, tmp_path)
    assert done.returncode == (1 if "consumer" in how else 3), done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert pids
    wait_until_gone(pids, before)


LEFT = {
    "a stream": "scheduler.stream(tasks + waiting)",
    "a bag": "scheduler.stream(db.range(100, npartitions=50).map(make))",
    "a plan": "optimize(make, [1] * 100).stream(scheduler)",
    "a pipeline": "Pipeline([make, make_longer], scheduler=scheduler).run(endless)",
}


@pytest.mark.parametrize("what", LEFT)
def test_a_caller_that_leaves_an_iterator(what: str, tmp_path: Path) -> None:
    """It may end before it has taken all; nothing is printed, nothing stays."""
    before = find_spool()
    script = f"""
import itertools
import dask.bag as db
from amorsize_dask import Pipeline, optimize

endless = map(lambda i: i % 200, itertools.count())

def make_longer(data):
    return 2 * data

scheduler = AmorsizeScheduler(lanes=("processes",))
values = {LEFT[what]}
print(len(next(values)))
print(*[child.pid for child in __import__("psutil").Process().children(True)])
"""
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    n_bytes, *pids = map(int, done.stdout.split())
    assert n_bytes in (300_000, 600_000)
    assert pids
    wait_until_gone(pids, before)


def wait_until_gone(pids: list[int], folders: set[Path]) -> None:
    """Wait until processes have ended, and there are the folders of before."""
    end = time.monotonic() + 10
    while any(map(_is_alive, pids)) or find_spool() != folders:
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_thread_that_computes_while_the_main_one_ends(tmp_path: Path) -> None:
    """The program ends when the compute has, as with any thread that is no daemon."""
    script = """
def compute():
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        time.sleep(0.2)  # so that the main thread is done by then
        found = dask.compute(*tasks, scheduler=scheduler)
        print(found == expected, *scheduler.last_run.lanes)

threading.Thread(target=compute).start()
"""
    done = run(script, tmp_path)
    assert done.stdout.startswith("True"), done.stderr


# -- little to go by -------------------------------------------------------------------

FEW = """
lanes, is_warm = sys.argv[2].split(","), sys.argv[3] == "warm"
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
# What is imported when it is needed would need descriptors as well.
with AmorsizeScheduler(lanes=lanes) as scheduler:
    assert dask.compute(*tasks, scheduler=scheduler) == expected
for n in range(1, 14):
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        if is_warm:
            assert dask.compute(*tasks, scheduler=scheduler) == expected
        n_open = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + n, hard))
        assert dask.compute(*tasks, scheduler=scheduler) == expected
        print(*sorted(scheduler.last_run.lanes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""


@pytest.mark.parametrize("state", ["cold", "warm"])
@pytest.mark.parametrize("lanes", ["threads", "processes", "inline,threads,processes"])
def test_few_descriptors(lanes: str, state: str, tmp_path: Path) -> None:
    """However few the caller may open, all results come; in the caller if need be.

    Those of workers come through files, of which none stays open, or through pipes.
    """
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors can't be counted here")
    done = run(FEW, tmp_path, lanes, state)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert {"inline", lanes.split(",")[-1]} & set(done.stdout.split())


FEW_PROCESSES = """
n, lanes = int(sys.argv[2]), sys.argv[3].split(",")
os.environ["HOME"] = folder
os.setgid(65534)
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (n, n))
with AmorsizeScheduler(lanes=lanes) as scheduler:
    for _ in range(2):
        assert dask.compute(*tasks, scheduler=scheduler) == expected
    print(*sorted(scheduler.last_run.lanes))
"""


@pytest.mark.parametrize("lanes", ["threads", "processes", "inline,threads,processes"])
def test_few_processes(lanes: str, tmp_path: Path) -> None:
    """Where the system starts no more, threads among them, the caller does the work."""
    if os.name != "posix" or os.getuid():
        pytest.skip("the limit doesn't hold for one who may change users")
    used = set()
    tmp_path.chmod(0o777)
    for n in (1, 3, 30):
        done = run(FEW_PROCESSES, tmp_path, str(n), lanes)
        assert done.returncode == 0, (n, done.stderr)
        used.update(done.stdout.split())
    assert "inline" in used


@pytest.mark.parametrize("what", ["disk", "shared memory"])
def test_little_room_for_files(what: str, tmp_path: Path) -> None:
    """What has no room in shared memory goes to disk, and else through the pipe."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.getuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    disk = small if what == "disk" else tmp_path / "disk"
    disk.mkdir(exist_ok=True)
    script = f"""
from pathlib import Path
from amorsize_dask.execute import spool_folder
spool_folder.SHARED_MEMORY = Path({"/nonexistent" if what == "disk" else str(small)!r})
dask.config.set({{"temporary-directory": {str(disk)!r}}})
with AmorsizeScheduler(lanes=("processes",)) as scheduler:
    for _ in range(2):
        assert dask.compute(*tasks, scheduler=scheduler) == expected
    print(*scheduler.last_run.lanes)
assert not os.listdir({str(small)!r})
assert {what == "disk"} or not os.listdir({str(disk)!r})
"""
    try:
        done = run(script, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "processes\n"
    finally:
        subprocess.run(["umount", str(small)], check=True)
