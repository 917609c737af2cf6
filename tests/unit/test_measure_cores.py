"""How many cores may be used, on recorded trees of ``/proc`` and ``/sys``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from trees import write_tree

from amorsize_dask.measure.cores import (
    count_by_affinity,
    count_by_quota,
    count_cores,
    count_physical_cores,
)

N_BY_AFFINITY = 16

#: A container under Docker on a host that is all version 1.
V1 = {
    "proc/self/cgroup": "5:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n1:name=x:/\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "350000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000\n",
}

#: A service under systemd, all version 2; the root group has no ``cpu.max``.
V2 = {
    "proc/self/cgroup": "0::/user.slice/user-7.slice/job.service\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/user-7.slice/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/user.slice/user-7.slice/job.service/cpu.max": "max 100000\n",
}

#: Controllers of version 1, and beside them version 2 without any.
HYBRID = {
    "proc/self/cgroup": "2:cpu:/batch/job\n0::/batch/job\n",
    "sys/fs/cgroup/unified/batch/job/cgroup.procs": "",
    "sys/fs/cgroup/cpu/batch/cpu.cfs_quota_us": "200000\n",
    "sys/fs/cgroup/cpu/batch/cpu.cfs_period_us": "50000\n",
    "sys/fs/cgroup/cpu/batch/job/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/batch/job/cpu.cfs_period_us": "50000\n",
}


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: set(range(N_BY_AFFINITY)), raising=False
    )


@pytest.mark.parametrize(
    ("files", "n_cores"),
    [(V1, 4), (V2, 2), (HYBRID, 4), ({}, N_BY_AFFINITY)],
    ids=["v1", "v2", "hybrid", "none"],
)
def test_quotas_of_ancestors_hold(
    tmp_path: Path, files: Mapping[str, str], n_cores: int
) -> None:
    """The least quota on the way up to the root counts, rounded up to whole cores."""
    assert count_cores(write_tree(tmp_path, files)) == n_cores


def test_least_quota_wins_wherever_it_is(tmp_path: Path) -> None:
    """A group may grant more than its parent does, or less."""
    root = write_tree(tmp_path, V2)
    own = root / "sys/fs/cgroup/user.slice/user-7.slice/job.service/cpu.max"
    own.write_text("50000 100000\n")
    assert count_cores(root) == 1
    own.write_text("900000 100000\n")
    assert count_cores(root) == 2


def test_affinity_wins_over_a_larger_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process may only run on one core, a quota of two gives no second."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert count_cores(write_tree(tmp_path, V2)) == 1


@pytest.mark.parametrize(
    "text", ["", "max", "0 100000", "100000 0", "-5 100000", "half a core", "\xff"]
)
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    """A quota that makes no sense is none, and one further up still counts."""
    root = write_tree(tmp_path, V2)
    own = root / "sys/fs/cgroup/user.slice/user-7.slice/job.service/cpu.max"
    own.write_bytes(text.encode("latin-1"))
    assert count_by_quota(root) == 2


def test_path_of_the_host_means_the_mounted_group(tmp_path: Path) -> None:
    """In a container the path may be the host's; its own group is what is mounted."""
    files = {
        "proc/self/cgroup": "3:cpu:/docker/ab\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        # Containers in this container: not above it, though the name is the same.
        "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "100000\n",
    }
    assert count_by_quota(write_tree(tmp_path, files)) == 3


def test_group_out_of_sight_means_the_mounted_group(tmp_path: Path) -> None:
    """A path that leads out of what is visible isn't looked for inside of it."""
    files = {
        "proc/self/cgroup": "0::/../other\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu\n",
        "sys/fs/cgroup/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
        "sys/fs/other/cpu.max": "100000 100000\n",
    }
    assert count_by_quota(write_tree(tmp_path, files)) == 3


def test_process_may_be_moved_to_another_group(tmp_path: Path) -> None:
    """The group is looked up each time, not remembered."""
    root = write_tree(tmp_path, V2)
    assert count_by_quota(root) == 2
    (root / "proc/self/cgroup").write_text("0::/user.slice\n")
    assert count_by_quota(root) is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_affinity_is_that_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The affinity mask is read again each time."""
    monkeypatch.undo()
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert count_by_affinity() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert count_by_affinity() == len(before)


@pytest.mark.parametrize(("n_machine", "n_cores"), [(6, 6), (None, 1)])
def test_without_an_affinity_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, n_machine: int | None, n_cores: int
) -> None:
    """Where the system has no affinity, the machine's cores are counted; at least 1."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: n_machine)
    assert count_by_affinity() == n_cores


@pytest.mark.parametrize(
    ("n_machine", "n_cores", "n_physical"),
    [(4, 8, 4), (4, 2, 2), (None, 3, 3), (0, 3, 3)],
)
def test_physical_cores_are_among_those_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_machine: int | None,
    n_cores: int,
    n_physical: int,
) -> None:
    """No more than the machine has, no more than may be used, all if it isn't known."""
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: n_machine)
    assert count_physical_cores(n_cores, tmp_path) == n_physical
