"""Cores and memory on whole machines, from the files that such machines have."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import MACHINES, RecordedMachine, stand_on

from amorsize_dask.measure.cores import (
    count_cores,
    count_physical_cores,
    find_core_limits,
)
from amorsize_dask.measure.hints import find_python_cores, find_thread_hints
from amorsize_dask.measure.memory import (
    available_memory,
    find_binding_limit,
    find_memory_limits,
)
from amorsize_dask.measure.numa import find_bound_nodes, find_nodes

NAMES = sorted(path.stem for path in MACHINES.glob("*.yaml"))

Stand = Callable[[str], RecordedMachine]

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="there are no resource limits"
)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Return what puts this process onto a machine."""
    return lambda name: stand_on(name, tmp_path, monkeypatch)


def relative(name: str, root: Path) -> str:
    return name.replace(f"{root}/", "")


@pytest.mark.parametrize("name", NAMES)
def test_cores(stand: Stand, name: str) -> None:
    """Each limit of the cores is found, the least of them binds; threads count once."""
    root, expected = stand(name)
    assert find_core_limits(root) == expected["cores"]
    n_cores = count_cores(root)
    assert n_cores == min(expected["cores"].values())
    assert count_physical_cores(n_cores, root) == expected["n_physical_cores"]


@pytest.mark.parametrize("name", NAMES)
def test_memory(stand: Stand, name: str) -> None:
    """Each limit of the memory is found, and the one that leaves the least binds."""
    root, expected = stand(name)
    found = {relative(name, root): left for name, left in find_memory_limits(root)}
    assert found == expected["memory"]
    binding = find_binding_limit(root)
    assert relative(binding.name, root) == expected["memory_binding"]
    assert available_memory(root) == binding.left_bytes == min(found.values())


@pytest.mark.parametrize(
    ("cores", "n_physical"), [({0, 4}, 1), ({0, 1}, 2), ({0, 4, 5, 6}, 3)]
)
def test_threads_of_one_core_are_one(
    stand: Stand,
    monkeypatch: pytest.MonkeyPatch,
    cores: set[int],
    n_physical: int,
) -> None:
    """With affinity for some logical cores, those that share a core count once."""
    root, _ = stand("laptop")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert count_physical_cores(len(cores), root) == n_physical


def test_nodes(stand: Stand) -> None:
    """Each NUMA node has its cores and its memory; this process may be bound to one."""
    root, _ = stand("numa")
    first, second = find_nodes(root)
    assert first.cores == frozenset(range(16)) | frozenset(range(32, 48))
    assert first.total_bytes == 131_700_000 * 1024
    assert not first.is_allowed
    assert second.available_bytes == 59_000_000 * 1024
    assert find_bound_nodes(root) == [second]


def test_without_a_bond_nodes_limit_nothing(stand: Stand) -> None:
    """A process that may use all nodes is only limited by the whole machine."""
    root, _ = stand("slurm_v1")
    assert [node.number for node in find_nodes(root)] == [0, 1]
    assert find_bound_nodes(root) == []
    # A node of cores alone is none that memory could be missing from.
    (root / "proc/self/status").write_text("Mems_allowed_list:\t0\n")
    (root / "sys/devices/system/node/has_memory").write_text("0\n")
    assert find_bound_nodes(root) == []


def test_garbage_tells_of_no_nodes(stand: Stand) -> None:
    """What can't be read is no node, and no bond."""
    root, _ = stand("numa")
    (root / "proc/self/status").write_text("Mems_allowed_list:\tmany\n")
    assert find_bound_nodes(root) == []
    (root / "sys/devices/system/node/online").write_text("a-b,,7-\n")
    assert [node.number for node in find_nodes(root)] == [7]


def test_hints_do_not_bind(stand: Stand) -> None:
    """One thread in each process is no limit on how many processes there are."""
    root, _ = stand("slurm_v1")
    assert find_thread_hints() == {"OMP_NUM_THREADS": 1}
    assert count_cores(root) == 4


@pytest.mark.parametrize(
    ("text", "n"), [("3", 3), ("4,2", 4), (" 2 ", 2), ("0", None), ("", None)]
)
def test_hints_are_counts(text: str, n: int | None) -> None:
    """OpenMP's lists begin with what counts; what is no count says nothing."""
    environ = {"MKL_NUM_THREADS": text, "OMP_DYNAMIC": "true"}
    assert find_thread_hints(environ) == ({"MKL_NUM_THREADS": n} if n else {})


def test_pythons_own_count_binds(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python programs may assume is a limit like others, and may be the least."""
    root, _ = stand("laptop")
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    assert count_cores(root) == 3
    monkeypatch.setenv("PYTHON_CPU_COUNT", "default")
    assert find_python_cores() == {}
    assert count_cores(root) == 8
