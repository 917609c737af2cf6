"""Recorded trees of ``/proc`` and ``/sys`` for tests that look at a machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml

from amorsize_dask.measure import memory
from amorsize_dask.measure.hints import HINT_VARIABLES

#: Whole machines, one in each file: what is expected of them, and their files.
MACHINES = Path(__file__).parents[1] / "machines"


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write files, named relative to the root, and return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class RecordedMachine(NamedTuple):
    """A machine as its files and its environment tell of it."""

    root: Path
    expected: dict[str, Any]


def stand_on(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedMachine:
    """Let this process be on the machine of ``tests/machines/<name>.yaml``.

    Its files are written below `root`. What isn't read from files (affinity, limits of
    the process, the environment) is what these files say as well.
    """
    recorded = yaml.safe_load((MACHINES / f"{name}.yaml").read_text())
    files = recorded["files"]
    write_tree(root, files)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(root / "proc"))
    cores = _parse_list(_find(files["proc/self/status"], "Cpus_allowed_list:"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    limits = {
        memory.resource.RLIMIT_AS: "Max address space",
        memory.resource.RLIMIT_RSS: "Max resident set",
    }

    def get_limits(kind: int) -> tuple[int, int]:
        text = _find(files["proc/self/limits"], limits[kind])
        unlimited = memory.resource.RLIM_INFINITY
        return unlimited if text == "unlimited" else int(text), unlimited

    monkeypatch.setattr(memory.resource, "getrlimit", get_limits)
    n_virtual, n_resident, *_ = map(int, files["proc/self/statm"].split())
    monkeypatch.setattr(memory, "read_virtual", lambda: 4096 * n_virtual)
    monkeypatch.setattr(memory, "read_rss", lambda: 4096 * n_resident)
    for variable in os.environ:
        if variable.startswith(("SLURM_", "PBS_", "LSB_", "NCPUS", "PYTHON_CPU")):
            monkeypatch.delenv(variable)
    for variable in HINT_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in recorded["environ"].items():
        monkeypatch.setenv(variable, value)
    return RecordedMachine(root, recorded["expected"])


def _find(text: str, name: str) -> str:
    """Return the first word after a name that a line begins with."""
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    return line.removeprefix(name).split()[0]


def _parse_list(text: str) -> set[int]:
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
