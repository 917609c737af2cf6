"""What workers are told of the caller."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask import config

from amorsize_dask.execute.caller_state import dump_caller_state
from amorsize_dask.execute.wire import load
from amorsize_dask.execute.worker import WorkerState


def look() -> WorkerState:
    """Return the state as a worker gets it."""
    parts = dump_caller_state()
    assert len(parts) == 1
    kind, state = load(parts)
    assert kind == "state"
    assert isinstance(state, WorkerState)
    return state


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("never")


def test_path_folder_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of the moment, with what workers need besides."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMORSIZE_TEST", "set")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    state = look()
    assert state.sys_path == sys.path
    assert state.folder is not None
    assert Path(state.folder) == tmp_path
    assert state.environ["AMORSIZE_TEST"] == "set"
    assert state.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.delenv("AMORSIZE_TEST")
    assert "AMORSIZE_TEST" not in look().environ


def test_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller whose folder is gone has none to tell of."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert look().folder is None


def test_settings_of_dask() -> None:
    """All settings travel, large and nested ones included."""
    array = np.arange(10_000)
    with config.set({"amorsize-test": {"a": 3}, "large": array}):
        settings = {name: load(parts) for name, parts in look().dask_config.items()}
        assert settings["amorsize-test"] == {"a": 3}
        np.testing.assert_array_equal(settings["large"], array)
        for name in config.config.keys() - {"scheduler", "pool", "large"}:
            assert settings[name] == config.config[name]


def test_settings_that_mean_nothing_elsewhere() -> None:
    """Schedulers and pools that are objects, and what can't be pickled, stay here."""
    with config.set(
        scheduler=sum, pool=object(), lock=threading.Lock(), odd=Unpicklable()
    ):
        names = look().dask_config.keys()
    assert not names & {"scheduler", "pool", "lock", "odd"}


def test_scheduler_by_name() -> None:
    """The name of a scheduler means the same in a worker."""
    with config.set(scheduler="threads"):
        assert load(look().dask_config["scheduler"]) == "threads"


def test_equal_states_are_equal_bytes() -> None:
    """Only what has changed is sent again, so what is equal must look so."""
    before = dump_caller_state()
    assert dump_caller_state() == before
    with config.set({"amorsize-test": 3}):
        assert dump_caller_state() != before
