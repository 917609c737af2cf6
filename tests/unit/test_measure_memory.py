"""How much memory may be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from trees import write_tree

from amorsize_dask.measure import memory
from amorsize_dask.measure.memory import (
    available_memory,
    find_binding_limit,
    find_memory_limits,
)

MB = 1_000_000
SYSTEM_BYTES = 8_000 * MB

#: Version 1 says "no limit" with this number.
UNLIMITED = "9223372036854771712\n"

V1 = {
    "proc/self/cgroup": "4:memory:/slurm/job_3\n2:cpu:/slurm/job_3\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{6_000 * MB}\n",
    "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": f"{2_000 * MB}\n",
    "sys/fs/cgroup/memory/slurm/memory.usage_in_bytes": f"{1_500 * MB}\n",
    "sys/fs/cgroup/memory/slurm/memory.stat": (
        f"inactive_file {5 * MB}\ntotal_inactive_file {100 * MB}\n"
    ),
    "sys/fs/cgroup/memory/slurm/job_3/memory.limit_in_bytes": f"{1_000 * MB}\n",
    "sys/fs/cgroup/memory/slurm/job_3/memory.usage_in_bytes": f"{200 * MB}\n",
}

V2 = {
    "proc/self/cgroup": "0::/user.slice/job.service\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/user.slice/memory.max": f"{3_000 * MB}\n",
    "sys/fs/cgroup/user.slice/memory.current": f"{2_900 * MB}\n",
    "sys/fs/cgroup/user.slice/memory.stat": (
        f"anon {2_000 * MB}\nfile {900 * MB}\ninactive_file {700 * MB}\n"
    ),
    "sys/fs/cgroup/user.slice/job.service/memory.max": "max\n",
    "sys/fs/cgroup/user.slice/job.service/memory.current": f"{1_000 * MB}\n",
}

#: Memory is version 1's, and the process is elsewhere in version 2.
HYBRID = {
    **V1,
    "proc/self/cgroup": "4:memory:/slurm/job_3\n0::/init.scope\n",
    "sys/fs/cgroup/unified/init.scope/cgroup.procs": "",
}

#: The other way round; more of the page cache can go than is counted as used.
HYBRID_V2 = {
    "proc/self/cgroup": "2:cpu:/\n0::/init.scope\n",
    "sys/fs/cgroup/unified/init.scope/memory.max": f"{300 * MB}\n",
    "sys/fs/cgroup/unified/init.scope/memory.current": f"{10 * MB}\n",
    "sys/fs/cgroup/unified/init.scope/memory.stat": f"inactive_file {20 * MB}\n",
}


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=SYSTEM_BYTES)
    )


@pytest.mark.parametrize(
    ("files", "n_bytes"),
    [
        (V1, 600 * MB),
        (V2, 800 * MB),
        (HYBRID, 600 * MB),
        (HYBRID_V2, 300 * MB),
        ({}, SYSTEM_BYTES),
    ],
    ids=["v1", "v2", "hybrid", "hybrid_v2", "none"],
)
def test_what_is_left_in_ancestors_counts(
    tmp_path: Path, files: Mapping[str, str], n_bytes: int
) -> None:
    """The least that is left on the way up, page cache that can go counted as left."""
    assert available_memory(write_tree(tmp_path, files)) == n_bytes


def test_limits_are_named(tmp_path: Path) -> None:
    """Each limit says where it is from; groups without one don't appear."""
    root = write_tree(tmp_path, V1)
    group = root / "sys/fs/cgroup/memory/slurm"
    assert find_memory_limits(root) == [
        ("system", SYSTEM_BYTES),
        (f"cgroup {group / 'job_3'}", 800 * MB),
        (f"cgroup {group}", 600 * MB),
    ]


def test_systems_memory_bounds_a_larger_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group may allow more than the machine has to give."""
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=50 * MB)
    )
    assert available_memory(write_tree(tmp_path, V1)) == 50 * MB


def test_this_system_can_be_asked() -> None:
    """Here, too, something is left, and never more than the system has to give."""
    assert 1 <= available_memory() <= SYSTEM_BYTES


def test_resource_limits_and_batch_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what they grant this process has taken a part already."""
    limits = {
        memory.resource.RLIMIT_AS: 3_000 * MB,
        memory.resource.RLIMIT_RSS: memory.resource.RLIM_INFINITY,
    }
    monkeypatch.setattr(memory.resource, "getrlimit", lambda n: (limits[n], -1))
    monkeypatch.setattr(memory, "read_virtual", lambda: 900 * MB)
    monkeypatch.setattr(memory, "read_rss", lambda: 100 * MB)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    assert find_memory_limits(tmp_path) == [
        ("system", SYSTEM_BYTES),
        ("RLIMIT_AS", 2_100 * MB),
        ("SLURM_MEM_PER_NODE", 2000 * 2**20 - 100 * MB),
    ]
    assert find_binding_limit(tmp_path).name == "SLURM_MEM_PER_NODE"
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "9000")
    assert find_binding_limit(tmp_path).name == "RLIMIT_AS"


def test_full_group_leaves_one_byte(tmp_path: Path) -> None:
    """A group beyond its limit leaves nothing, which is told as 1 byte."""
    root = write_tree(tmp_path, V1)
    own = root / "sys/fs/cgroup/memory/slurm/job_3"
    (own / "memory.usage_in_bytes").write_text(f"{1_200 * MB}\n")
    assert available_memory(root) == 1


def test_plain_cache_counts_where_there_is_no_total(tmp_path: Path) -> None:
    """Version 1 without hierarchical counts has the group's own page cache only."""
    root = write_tree(tmp_path, V1)
    stat = root / "sys/fs/cgroup/memory/slurm/memory.stat"
    stat.write_text(f"cache {50 * MB}\ninactive_file {20 * MB}\n")
    assert available_memory(root) == 520 * MB


@pytest.mark.parametrize("text", ["", "lots", "max", UNLIMITED])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    """A limit that makes no sense is none, and one further up still counts."""
    root = write_tree(tmp_path, V1)
    own = root / "sys/fs/cgroup/memory/slurm/job_3"
    (own / "memory.limit_in_bytes").write_text(text)
    assert available_memory(root) == 600 * MB
