"""What earlier runs have shown: kept on disk, read with distrust."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amorsize_dask.core.experience import Experience
from amorsize_dask.measure import history as module
from amorsize_dask.measure.costs import fingerprint
from amorsize_dask.measure.history import MAX_KEPT, VERSION, Entry, History

SEEN = Experience(
    n_items=7,
    mean_s=0.1 / 3,
    std_s=0.01,
    cpu_fraction=0.5,
    gil_fraction=None,
    in_bytes=10.5,
    out_bytes=1e6,
    held_bytes=3e6,
    pack_s=0.001,
    peak_bytes=0.0,
)


def path_in(folder: Path) -> Path:
    return folder / f"{fingerprint()}.json"


def saved(folder: Path, **stages: Experience) -> None:
    history = History(folder)
    for stage, experience in stages.items():
        history.note(stage, f"name of {stage}", experience)
    history.save()


def test_what_is_saved_is_known_to_a_later_process(tmp_path: Path) -> None:
    assert History(tmp_path).recall("a") is None
    saved(tmp_path, a=SEEN, b=replace(SEEN, gil_fraction=1.0))
    later = History(tmp_path)
    assert later.recall("a") == SEEN
    assert later.recall("b") == replace(SEEN, gil_fraction=1.0)
    assert later.recall("c") is None
    assert later.entries()["a"] == Entry("name of a", SEEN)


def test_it_is_the_users_alone(tmp_path: Path) -> None:
    saved(tmp_path / "new", a=SEEN)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(path_in(tmp_path / "new").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "new") == [path_in(tmp_path).name]


def test_processes_keep_what_others_have_saved(tmp_path: Path) -> None:
    one, other = History(tmp_path), History(tmp_path)
    assert one.recall("a") is other.recall("a") is None
    one.note("a", "a", SEEN)
    other.note("b", "b", SEEN)
    one.save()
    other.save()
    assert list(History(tmp_path).entries()) == ["a", "b"]


def test_processes_that_have_read_the_same(tmp_path: Path) -> None:
    """Each finds what another one has written since, again and again."""
    saved(tmp_path, a=SEEN, b=SEEN)
    one, other = History(tmp_path), History(tmp_path)
    assert one.recall("a") == other.recall("b") == SEEN
    slower = replace(SEEN, mean_s=1.0)
    for history, stage in ((one, "a"), (other, "c"), (one, "d"), (other, "b")):
        history.note(stage, stage, slower)
        history.save()
    found = History(tmp_path).entries()
    assert list(found) == ["a", "c", "d", "b"]
    assert all(entry.experience == slower for entry in found.values())


def test_file_that_is_unchanged_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, a=SEEN, b=SEEN, c=SEEN)
    history = History(tmp_path)
    assert history.recall("a") == SEEN
    with monkeypatch.context() as patched:
        patched.delattr(module, "_load")
        history.note("b", "b", replace(SEEN, mean_s=1.0))
        history.save()
    found = History(tmp_path).entries()
    assert list(found) == ["a", "c", "b"]
    assert found["b"].experience.mean_s == 1.0


def test_those_that_ran_last_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, **{f"s{i}": SEEN for i in range(MAX_KEPT)})
    saved(tmp_path, s0=SEEN, new=SEEN)
    kept = list(History(tmp_path).entries())
    assert len(kept) == MAX_KEPT
    assert kept[-2:] == ["s0", "new"]
    assert "s1" not in kept


def test_names_in_any_script_fit(tmp_path: Path) -> None:
    """Those that take the most of the file, with numbers that do."""
    numbers = {name: 1e15 / 3 for name in ("mean_s", "std_s", "pack_s", "in_bytes")}
    seen = replace(SEEN, cpu_fraction=1 / 3, gil_fraction=1 / 3, **numbers)
    history = History(tmp_path)
    for i in range(MAX_KEPT):
        history.note(f"{i:016x}", "\N{MEMO}" * 100, seen)
    history.save()
    assert len(History(tmp_path).entries()) == MAX_KEPT


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    saved(tmp_path, a=SEEN)
    path_in(tmp_path).unlink()
    history = History(tmp_path)
    history.recall("a")
    history.save()
    assert not path_in(tmp_path).exists()


def test_cleared(tmp_path: Path) -> None:
    saved(tmp_path, a=SEEN)
    history = History(tmp_path)
    history.clear()
    assert history.recall("a") is None
    assert not path_in(tmp_path).exists()
    history.clear()


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(module, "write_json", refuse)
    history = History(tmp_path)
    history.note("a", "a", SEEN)
    history.save()
    assert history.recall("a") == SEEN


def entry(**numbers: Any) -> dict[str, Any]:
    whole = {
        "name": "f",
        "n_items": 1,
        "mean_s": 1.0,
        "std_s": 0.0,
        "cpu_fraction": 1.0,
        "gil_fraction": None,
        "in_bytes": 0.0,
        "out_bytes": 0.0,
        "held_bytes": 0.0,
        "pack_s": 0.0,
        "peak_bytes": 0.0,
    }
    return {**whole, **numbers}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"version": VERSION + 1, "stages": {"a": entry()}},
        {"version": VERSION},
        {"version": VERSION, "stages": [entry()]},
        {"version": VERSION, "stages": {"a": [1]}},
        *(
            {"version": VERSION, "stages": {"a": entry(**wrong)}}
            for wrong in (
                {"name": 1},
                {"more": 1.0},
                {"mean_s": -1.0},
                {"mean_s": float("nan")},
                {"mean_s": float("inf")},
                {"mean_s": 10**400},
                {"std_s": 1e300},
                {"mean_s": "1"},
                {"mean_s": True},
                {"mean_s": None},
                {"cpu_fraction": 1.5},
                {"gil_fraction": -0.5},
                {"n_items": 0},
                {"n_items": 1.5},
            )
        ),
    ],
)
def test_what_is_broken_is_unknown(tmp_path: Path, content: object) -> None:
    path_in(tmp_path).write_text(json.dumps(content))
    assert History(tmp_path).entries() == {}
    saved(tmp_path, a=SEEN)
    assert History(tmp_path).recall("a") == SEEN


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_what_is_no_json_is_unknown(tmp_path: Path, text: str) -> None:
    path_in(tmp_path).write_text(text)
    assert History(tmp_path).entries() == {}


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away"
)
def test_another_users_file_is_not_read(tmp_path: Path) -> None:
    saved(tmp_path, a=SEEN)
    os.chown(path_in(tmp_path), 12345, -1)
    assert History(tmp_path).entries() == {}
