"""Which control groups limit this process, on recorded trees, and reading their files.

What follows from them is told in the tests of cores and memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from trees import write_tree

from amorsize_dask.measure.cgroup import (
    MAX_BYTES,
    find_groups,
    read_lines,
    read_number,
    read_table,
)

#: Version 1; the last mount is named otherwise than its controllers in ``/proc``.
V1 = {
    "proc/self/cgroup": "4:memory:/a/b\n3:cpu,cpuacct:/a\n2:cpuset,pids:/a\n1:name=x:/",
    "sys/fs/cgroup/memory/a/b/tasks": "",
    "sys/fs/cgroup/cpu,cpuacct/a/tasks": "",
    "sys/fs/cgroup/pids/a/tasks": "",
}

V2 = {
    "proc/self/cgroup": "0::/a/b:c/d\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/a/b:c/d/cgroup.procs": "",
}

#: Memory in version 1, and the rest in version 2 beside it.
HYBRID = {
    "proc/self/cgroup": "4:memory:/a\n0::/b\n",
    "sys/fs/cgroup/memory/a/tasks": "",
    "sys/fs/cgroup/unified/b/cgroup.procs": "",
    # That of the hierarchy's root is not looked for where there is a folder of its own.
    "sys/fs/cgroup/cgroup.controllers": "",
    "sys/fs/cgroup/b/cgroup.procs": "",
}


def found(controller: str, root: Path) -> list[tuple[str, bool]]:
    """Return the groups, named relative to where they are mounted."""
    base = root / "sys/fs/cgroup"
    return [
        (str(folder.relative_to(base)), is_v2)
        for folder, is_v2 in find_groups(controller, root)
    ]


@pytest.mark.parametrize(
    ("files", "controller", "groups"),
    [
        (V1, "memory", ["memory/a/b", "memory/a", "memory"]),
        (V1, "cpu", ["cpu,cpuacct/a", "cpu,cpuacct"]),
        (V1, "pids", ["pids/a", "pids"]),
        (V1, "io", []),
    ],
)
def test_groups_of_version_1(
    tmp_path: Path, files: Mapping[str, str], controller: str, groups: list[str]
) -> None:
    """Each controller has a hierarchy of its own, from the own group up to its root."""
    root = write_tree(tmp_path, files)
    assert found(controller, root) == [(name, False) for name in groups]


@pytest.mark.parametrize("controller", ["cpu", "memory"])
def test_groups_of_version_2(tmp_path: Path, controller: str) -> None:
    """All controllers share one hierarchy; a colon in a name is a part of it."""
    groups = [(name, True) for name in ("a/b:c/d", "a/b:c", "a", ".")]
    assert found(controller, write_tree(tmp_path, V2)) == groups


def test_groups_of_both_versions(tmp_path: Path) -> None:
    """With both versions side by side, a controller is looked for in both."""
    root = write_tree(tmp_path, HYBRID)
    of_v2 = [("unified/b", True), ("unified", True)]
    assert found("memory", root) == [("memory/a", False), ("memory", False), *of_v2]
    assert found("cpu", root) == of_v2


@pytest.mark.parametrize(
    "path",
    ["/docker/ab", "/../a", "/a/../../..", "/a/file", "/" + "x" * 300, "/\0", "", "/"],
    ids=["host", "above", "far above", "file", "too long", "no path", "empty", "root"],
)
def test_group_that_cannot_be_seen_is_the_mounted_one(
    tmp_path: Path, path: str
) -> None:
    """A path that is no folder below the mount means what is mounted, and no other."""
    files = {
        "proc/self/cgroup": f"4:memory:{path}\n",
        "sys/fs/cgroup/memory/a/file": "",
        "sys/fs/cgroup/memory/docker/tasks": "",
    }
    assert found("memory", write_tree(tmp_path, files)) == [("memory", False)]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": ""},
        {"proc/self/cgroup": V2["proc/self/cgroup"]},
        {**V1, "proc/self/cgroup": "\n:\n::\nno colons\n4:mem:/a/b\n"},
        {"sys/fs/cgroup/cgroup.controllers": "", "proc/self/cgroup/folder": "0::/"},
    ],
    ids=["nothing", "no groups", "no mount", "garbage", "unreadable"],
)
def test_no_groups(tmp_path: Path, files: Mapping[str, str]) -> None:
    """Where there are none, or nothing can be read, no group is found."""
    assert find_groups("memory", write_tree(tmp_path, files)) == ()


def test_folders_are_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the same groups the folders are remembered, for each root and controller."""
    roots = write_tree(tmp_path / "1", V1), write_tree(tmp_path / "2", V2)
    asked = [(controller, root) for root in roots for controller in ("cpu", "memory")]
    before = [find_groups(*of) for of in asked]
    assert len(set(before)) == 3  # version 2 has the same ones for both controllers

    def refuse(path: Path) -> bool:
        raise AssertionError(f"looked again for {path}")

    monkeypatch.setattr(os.path, "isdir", refuse)
    monkeypatch.setattr(os.path, "exists", refuse)
    assert [find_groups(*of) for of in asked] == before


def test_move_to_another_group_is_seen(tmp_path: Path) -> None:
    """A process that has been moved is in its new group, and may come back."""
    root = write_tree(tmp_path, V2)
    here = found("cpu", root)
    write_tree(root, {"proc/self/cgroup": "0::/a\n"})
    assert found("cpu", root) == [("a", True), (".", True)]
    write_tree(root, V2)
    assert found("cpu", root) == here


# -- files -----------------------------------------------------------------------------


def test_lines_of_what_cannot_be_read(tmp_path: Path) -> None:
    """A folder, a file that isn't there and one that is no text have no lines."""
    (tmp_path / "binary").write_bytes(b"1\n\xff\n")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("", "binary", "empty", "missing", "binary/below"):
        assert read_lines(tmp_path / name) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="not on this system")
def test_reading_leaves_no_file_open(tmp_path: Path) -> None:
    """Files are closed, also where reading them fails."""
    (tmp_path / "number").write_text("7\n")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        read_lines(tmp_path)
        read_number(tmp_path / "number")
    assert len(os.listdir("/proc/self/fd")) == before


def test_long_file_is_read_in_part(tmp_path: Path) -> None:
    """Of a file that never ends, the beginning is read."""
    (tmp_path / "long").write_text("1\n" * MAX_BYTES)
    assert read_lines(tmp_path / "long") == ["1"] * (MAX_BYTES // 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7\n", 7),
        ("-1\n", -1),
        ("9223372036854771712\n", 9223372036854771712),
        (" 12 \n13\n", 12),
        ("max\n", None),
        ("", None),
        ("\n7\n", None),
        ("1.5\n", None),
        ("7 8\n", None),
    ],
)
def test_number_in_a_file(tmp_path: Path, text: str, number: int | None) -> None:
    """The first line is a whole number, or there is none."""
    (tmp_path / "file").write_text(text)
    assert read_number(tmp_path / "file") == number


def test_number_in_no_file(tmp_path: Path) -> None:
    """A file that isn't there has no number."""
    assert read_number(tmp_path / "file") is None


def test_table_leaves_out_what_is_no_count(tmp_path: Path) -> None:
    """Lines of a name and a count are taken; all others are passed over."""
    (tmp_path / "file").write_text(
        "anon 12\ninactive_file 9223372036854771712\n\nword\nsome words\n"
        "negative -3\nfraction 1.5\nsuper ²\nspaces   4 \ntwo 1 2\nanon\n"
    )
    assert read_table(tmp_path / "file") == {
        "anon": 12,
        "inactive_file": 9223372036854771712,
        "spaces": 4,
    }
    assert read_table(tmp_path / "missing") == {}
