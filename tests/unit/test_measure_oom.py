"""How many processes the system has ended because memory ran out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from trees import write_tree

from amorsize_dask.measure.oom import OomKills, count_oom_kills

V1 = {
    "proc/self/cgroup": "4:memory:/job\n",
    "sys/fs/cgroup/memory/job/memory.oom_control": (
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    ),
    "proc/vmstat": "nr_free_pages 5\noom_kill 9\n",
}

V2 = {
    "proc/self/cgroup": "0::/job\n",
    "sys/fs/cgroup/cgroup.controllers": "memory\n",
    "sys/fs/cgroup/job/memory.events": "low 0\nmax 7\noom 2\noom_kill 4\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (V1, 3),
        (V2, 4),
        # Before Linux 4.13 groups didn't count, nor did the system.
        ({**V1, "sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0\n"}, 9),
        ({"proc/vmstat": "oom_kill 9\n"}, 9),
        ({"proc/vmstat": "nr_free_pages 5\n"}, None),
        ({}, None),
    ],
)
def test_who_counts(
    tmp_path: Path, files: Mapping[str, str], expected: int | None
) -> None:
    """The process's own group, else the whole system, else no one."""
    assert count_oom_kills(write_tree(tmp_path, files)) == expected


def test_each_is_taken_once(tmp_path: Path) -> None:
    """Those before don't count, and those at once are counted one after the other."""
    kills = OomKills(write_tree(tmp_path, V2))
    kills.begin()
    assert not kills.take()
    events = tmp_path / "sys/fs/cgroup/job/memory.events"
    events.write_text("oom_kill 6\n")
    assert [kills.take() for _ in range(3)] == [True, True, False]


def test_where_no_one_counts(tmp_path: Path) -> None:
    """There is nothing to take, also if someone begins to count."""
    kills = OomKills(tmp_path)
    kills.begin()
    assert not kills.take()
    write_tree(tmp_path, V2)
    assert not kills.take()


def test_the_beginning_is_the_first_one(tmp_path: Path) -> None:
    """Before it nothing is counted, and a second one forgets nothing."""
    kills = OomKills(write_tree(tmp_path, V2))
    assert not kills.take()
    kills.begin()
    events = tmp_path / "sys/fs/cgroup/job/memory.events"
    events.write_text("oom_kill 5\n")
    kills.begin()
    assert kills.take()
