"""Costs of a machine: measuring them, and keeping them on disk."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import platform
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from amorsize_dask.core.model import Costs
from amorsize_dask.measure import costs as module
from amorsize_dask.measure.costs import (
    ECHO_BYTES,
    VERSION,
    fingerprint,
    load_costs,
    measure_bytes_per_s,
    measure_copy_bytes_per_s,
    measure_echo_s,
    measure_load_bytes_per_s,
    save_costs,
)

COSTS = Costs(
    boot_first_s=0.2,
    import_dask_s=0.3,
    boot_next_s=0.0123456789,
    batch_s=1e-4 / 3,
    echo_s=7e-5,
    thread_start_s=5e-5,
    hand_off_s=1e-5,
    bytes_per_s=1.5e9,
    load_bytes_per_s=9e8,
    task_s=1.2e-5,
    item_s=1e-7,
)


def write(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{fingerprint()}.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def with_costs(**numbers: Any) -> str:
    return json.dumps({"version": VERSION, "costs": {**asdict(COSTS), **numbers}})


# -- on disk ---------------------------------------------------------------------------


def test_costs_come_back_as_they_were(tmp_path: Path) -> None:
    """What is kept is read again, to the last digit."""
    assert load_costs(tmp_path) is None
    save_costs(COSTS, tmp_path)
    assert load_costs(tmp_path) == COSTS
    save_costs(Costs(), tmp_path)
    assert load_costs(tmp_path) == Costs()


def test_folder_is_for_the_user_alone(tmp_path: Path) -> None:
    """The folder is made with mode 0700; in it is one file, named by the machine."""
    folder = tmp_path / "a" / "costs"
    save_costs(COSTS, folder)
    assert [path.name for path in folder.iterdir()] == [f"{fingerprint()}.json"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_costs_are_in_the_users_cache_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder it is the one for caches that the system has."""
    monkeypatch.setattr(
        platformdirs, "user_cache_dir", lambda name: str(tmp_path / name)
    )
    save_costs(COSTS)
    assert load_costs(tmp_path / "amorsize" / "costs") == COSTS
    assert load_costs() == COSTS


def test_user_without_a_home_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no home, no folder named "~" appears in the present one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    save_costs(COSTS)
    assert load_costs() is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        b"\xff\xfe\x00",
        "null",
        "[]",
        "[" * 100_000,
        json.dumps({"version": VERSION}),
        json.dumps({"version": VERSION, "costs": [1.0]}),
        json.dumps({"costs": asdict(COSTS)}),
        json.dumps({"version": VERSION + 1, "costs": asdict(COSTS)}),
        json.dumps({"version": [], "costs": asdict(COSTS)}),
        json.dumps({"version": VERSION, "costs": {"boot_first_s": 1.0}}),
        with_costs(more=1.0),
        with_costs(batch_s=math.nan),
        with_costs(batch_s=math.inf),
        with_costs(batch_s=-1.0),
        with_costs(batch_s=0),
        with_costs(batch_s="1.0"),
        with_costs(batch_s=None),
        with_costs(batch_s=True),
        with_costs(batch_s=10**400),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_broken_file_is_none(tmp_path: Path, text: str | bytes) -> None:
    """A file that isn't as it should be is no costs, and no error."""
    write(tmp_path, text)
    assert load_costs(tmp_path) is None


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    """A cost may be written without a decimal point."""
    write(tmp_path, with_costs(bytes_per_s=400_000_000))
    found = load_costs(tmp_path)
    assert found is not None
    assert found.bytes_per_s == 4e8


def test_folder_in_place_of_the_file_is_none(tmp_path: Path) -> None:
    """What can't be opened as a file is no costs."""
    (tmp_path / f"{fingerprint()}.json").mkdir()
    assert load_costs(tmp_path) is None
    save_costs(COSTS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{fingerprint()}.json"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="not on this system")
def test_file_of_another_user_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs that somebody else has written aren't trusted."""
    save_costs(COSTS, tmp_path)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert load_costs(tmp_path) is None


def test_folder_that_cannot_be_made_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs that can't be kept are no error; the reason is in the log for who asks."""
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.DEBUG, logger=module.__name__):
        save_costs(COSTS, tmp_path / "file" / "costs")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "not kept" in record.getMessage()


def test_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When writing fails half way, the old costs stay and nothing lies beside them."""
    save_costs(COSTS, tmp_path)

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        save_costs(Costs(), tmp_path)
    assert load_costs(tmp_path) == COSTS
    assert len(list(tmp_path.iterdir())) == 1


def test_reader_never_finds_half_a_file(tmp_path: Path) -> None:
    """While costs are written again and again, whoever reads finds them whole."""
    save_costs(COSTS, tmp_path)
    done = threading.Event()
    found = []

    def read() -> None:
        while not done.is_set():
            found.append(load_costs(tmp_path))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        save_costs(COSTS, tmp_path)
    done.set()
    reader.join()
    assert found
    assert set(found) == {COSTS}


# -- the machine -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (platform, "node", lambda: "elsewhere"),
        (platform, "machine", lambda: "pdp11"),
        (module, "find_processor", lambda: ["model name: another"]),
        (os, "cpu_count", lambda: 12_345),
        (module.sys, "version", "4.0"),
        (module.dask, "__version__", "1900.1.0"),
    ],
    ids=["node", "architecture", "processor", "cores", "python", "dask"],
)
def test_other_machine_has_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any
) -> None:
    """Whatever changes costs changes the name of their file."""
    compute: Callable[[], str] = fingerprint.__wrapped__
    before = compute()
    assert compute() == before == fingerprint()
    monkeypatch.setattr(owner, name, value)
    assert compute() != before


def test_fingerprint_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the processor doesn't start one, as `platform.processor` does."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a process was to be started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(platform, "_uname_cache", None)
    assert fingerprint.__wrapped__() == fingerprint()


# -- measuring -------------------------------------------------------------------------


class Pipe:
    """An echo over a pipe on a clock of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, round_trip_s: float, bytes_per_s: float
    ) -> None:
        self.round_trip_s = round_trip_s
        self.bytes_per_s = bytes_per_s
        self.now_s = 0.0
        self.n_echoes = 0
        monkeypatch.setattr(module, "perf_counter", lambda: self.now_s)

    def echo(self, data: bytes) -> bytes:
        self.n_echoes += 1
        # Once in a while something else is in the way.
        disturbed_s = 1.0 if self.n_echoes % 5 == 2 else 0.0
        self.now_s += self.round_trip_s + 2 * len(data) / self.bytes_per_s + disturbed_s
        return data


def test_pipe_is_measured_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round trip and speed are those of the pipe, whatever else happens meanwhile."""
    pipe = Pipe(monkeypatch, round_trip_s=2e-4, bytes_per_s=5e8)
    assert measure_echo_s(pipe.echo) == pytest.approx(2e-4, rel=0.01)
    assert measure_bytes_per_s(pipe.echo) == pytest.approx(5e8, rel=0.01)


def test_speed_is_positive_where_bytes_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many bytes that are as fast as few make no infinite speed."""
    pipe = Pipe(monkeypatch, round_trip_s=2e-4, bytes_per_s=math.inf)
    assert measure_bytes_per_s(pipe.echo) == pytest.approx(2 * ECHO_BYTES / 1e-4)


def test_error_of_the_echo_arrives() -> None:
    """A worker that has died is for the caller to handle."""

    def echo(data: bytes) -> bytes:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        measure_echo_s(echo)
    with pytest.raises(ConnectionError):
        measure_bytes_per_s(echo)


def test_copies_that_fail_have_no_speed() -> None:
    """Where there is no room for files, there is another way."""

    def copy(data: bytes) -> bytes:
        raise OSError(28, "No space left on device")

    assert measure_copy_bytes_per_s(copy) == 0
    assert measure_copy_bytes_per_s(bytes) > 0
    assert measure_load_bytes_per_s(copy, copy) > 0


def test_what_is_loaded_is_kept() -> None:
    """Else the next round would have its memory; the quickest round counts."""
    loaded: list[bytes] = []

    def load(data: bytes) -> bytes:
        assert all(sys.getrefcount(found) > 2 for found in loaded)
        loaded.append(bytes(bytearray(data)))
        return loaded[-1]

    assert measure_load_bytes_per_s(bytes, load) > 0
    assert len(loaded) > 1
