"""Tasks that fork until they can't, in a control group that holds them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

#: Processes and threads that the group may have: enough for a caller and its workers.
MAX_PIDS = 80

CGROUPS = Path("/sys/fs/cgroup")


def _find_parents() -> list[Path]:
    """Return the groups for numbers of processes that this one is in."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if "pids" in names.split(","):
                found.append(CGROUPS / names / path.strip("/"))
            elif not names:
                found.append(CGROUPS / path.strip("/"))
    return found


def _make_group() -> Path | None:
    for parent in _find_parents():
        folder = parent / f"amorsize-test-{os.getpid()}"
        with suppress(OSError):
            folder.mkdir()
            try:
                (folder / "pids.max").write_text(str(MAX_PIDS))
            except OSError:
                folder.rmdir()
            else:
                return folder
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """Return a new group that may have few processes."""
    folder = _make_group()
    if folder is None:
        pytest.skip("no group that limits processes can be made: not allowed to here")
    yield folder
    # Who has ended may still be on its way out.
    end = time.monotonic() + 10
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("raises", "BlockingIOError [Errno 11]"),
        ("goes on", "TaskTimeoutError"),
        ("spreads", "TaskTimeoutError"),
    ],
)
def test_a_fork_bomb(group: Path, kind: str, outcome: str, start_method: str) -> None:
    """It fails with what it was told, or by its time; nothing of it is left."""
    paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'echo $$ > "$0" && exec "$@"',
            str(group / "cgroup.procs"),
            sys.executable,
            str(FOLDER / "bomb_runs.py"),
            kind,
            start_method,
            str(group / "cgroup.procs"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    found, after, n_left = done.stdout.splitlines()
    assert found.startswith(outcome)
    assert "bomb-3" in found
    assert after == str(tuple(range(8)))
    assert n_left == "0"
    lines = (group / "pids.events").read_text().split()
    assert int(lines[lines.index("max") + 1]) > 0
