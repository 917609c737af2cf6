"""Runs under a real limit of a control group, which kills what goes beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

MB = 1_000_000
LIMIT_BYTES = 600 * MB

FOLDER = Path(__file__).parent


def _find_parent() -> Path | None:
    """Return a version 1 memory group that this process may make groups in."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names == "memory":
                folder = Path("/sys/fs/cgroup/memory") / path.strip("/")
                return folder if os.access(folder, os.W_OK) else None
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """Return a new memory group with a limit."""
    parent = _find_parent()
    if parent is None:
        pytest.skip("no memory group of version 1 that could have groups below it")
    folder = parent / f"amorsize-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError as error:
        pytest.skip(f"a memory group can't be made: {error}")
    yield folder
    folder.rmdir()


def run_in(group: Path, program: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a Python program in a group."""
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [
            "/bin/sh",
            "-c",
            'echo $$ > "$0/cgroup.procs" && exec "$@"',
            str(group),
            sys.executable,
            *((program,) if program.endswith(".py") else ("-c", program)),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def count_kills(group: Path) -> int:
    lines = (group / "memory.oom_control").read_text().split()
    return int(lines[lines.index("oom_kill") + 1]) if "oom_kill" in lines else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lanes", "n_tasks"),
    [
        ("hold", ("inline", "threads", "processes"), 110),
        ("hold_texts", ("processes",), 110),
        ("hold_beside_others", ("processes",), 110),
        ("stream", ("processes",), 110),
        ("stream_unordered", ("inline", "threads", "processes"), 110),
        # Each of these is two partitions of 2 MB.
        ("group_tasks", ("inline", "threads", "processes"), 275),
    ],
)
def test_nothing_is_killed(
    group: Path, name: str, lanes: tuple[str, ...], n_tasks: int
) -> None:
    """1.1 GB go through 600 MB, with no limit but that of the group."""
    program = str(FOLDER / "memory_runs.py")
    done = run_in(group, program, name, "auto", str(n_tasks), *lanes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "True"
    assert count_kills(group) == 0


TOO_LARGE = """
from dask import delayed
from amorsize_dask import AmorsizeScheduler, WorkerLostError

def fill(n):
    return len(b"x" * n)

with AmorsizeScheduler(lanes=("processes",)) as scheduler:
    try:
        delayed(fill)(900_000_000, dask_key_name="much").compute(scheduler=scheduler)
    except WorkerLostError as error:
        print(error.key, error.ending, error.n_attempts, *error.story)
    print(delayed(fill)(1000).compute(scheduler=scheduler))
"""


@pytest.mark.slow
def test_a_task_that_is_killed_for_its_memory(group: Path) -> None:
    """The error says which it was and what its workers had; the next one runs."""
    done = run_in(group, TOO_LARGE)
    assert done.returncode == 0, done.stderr
    story, after = done.stdout.splitlines()
    assert story.startswith("much SIGKILL 3 process ")
    assert story.count("MB when it was last heard of") == 3
    assert story.count("memory probably was the cause") == 3
    assert after == "1000"
    assert count_kills(group) >= 3


TOO_MANY = """
import tempfile
import time
from pathlib import Path
import dask
from dask import delayed
from amorsize_dask import AmorsizeScheduler

def fill(i, folder):
    # The first two begin at the same time, however late one of their workers is up.
    Path(folder, str(i)).touch()
    end = time.monotonic() + 10
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    data = b"x" * 350_000_000
    time.sleep(0.2)
    return i + len(data)

with (
    tempfile.TemporaryDirectory() as folder,
    AmorsizeScheduler(lanes=("processes",), max_workers=2) as scheduler,
):
    made = [delayed(fill)(i, folder) for i in range(6)]
    found = dask.compute(*made, scheduler=scheduler)
    print(found == tuple(350_000_000 + i for i in range(6)))
    print([d.reason for d in scheduler.last_run.decisions])
"""


@pytest.mark.slow
def test_two_at_once_are_too_many(group: Path) -> None:
    """Nothing is known of them, so one is killed; then they run one at a time."""
    done = run_in(group, TOO_MANY)
    assert done.returncode == 0, done.stderr
    is_right, reasons = done.stdout.splitlines()
    assert is_right == "True"
    assert "no more than 1 at once: a worker was killed" in reasons
    assert 1 <= count_kills(group) <= 2
