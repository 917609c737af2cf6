"""Large values: through spool files, not through pipes and the caller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import numpy as np
import pytest
from dask import delayed

from amorsize_dask import AmorsizeScheduler
from amorsize_dask.execute import channel, spool, spool_folder, store
from amorsize_dask.execute.wire import count_bytes


@pytest.fixture(scope="module")
def scheduler() -> Iterator[AmorsizeScheduler]:
    with AmorsizeScheduler(lanes=("processes",)) as made:
        db.range(4, npartitions=4).compute(scheduler=made)
        yield made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the bytes of each message are added, in and out."""
    n_bytes: list[int] = []
    send, receive = channel.CallerChannel.send, channel.CallerChannel.receive

    def count_sent(self: Any, parts: Any) -> None:
        n_bytes.append(count_bytes(parts))
        send(self, parts)

    def count_received(self: Any) -> Any:
        messages = receive(self)
        n_bytes.extend(count_bytes(parts) for parts in messages)
        return messages

    monkeypatch.setattr(channel.CallerChannel, "send", count_sent)
    monkeypatch.setattr(channel.CallerChannel, "receive", count_received)
    return n_bytes


def make(x: int) -> np.ndarray:
    return np.full(100_000, x, float)


def double(array: np.ndarray) -> np.ndarray:
    array *= 2  # it is writable, and this task's alone
    return array


def total(array: np.ndarray, *others: np.ndarray) -> float:
    return float(array.sum() + sum(other.sum() for other in others))


def test_large_results(scheduler: AmorsizeScheduler, sent: list[int]) -> None:
    """They are read from files, and can be changed."""
    results = db.range(20, npartitions=20).map(make).compute(scheduler=scheduler)
    assert sum(sent) < 1_000_000
    for x, result in enumerate(results):
        np.testing.assert_array_equal(result, make(x))
        result[:] = 3


def test_the_caller_reads_only_what_it_is_asked_for(
    scheduler: AmorsizeScheduler, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only tasks of other processes need goes from one to the other."""
    read = []

    def read_parts(spooled: spool.Spooled) -> Any:
        read.append(spooled)
        return spool.read(spooled)

    monkeypatch.setattr(store, "read_parts", read_parts)
    made = [delayed(make)(x) for x in range(6)]
    # Each is needed by two tasks, so that none is a link of a chain.
    sums = [delayed(total)(one, other) for one in made for other in made[:2]]
    found = dask.compute(*sums, scheduler=scheduler)
    assert found == dask.compute(*sums, scheduler="sync")
    assert not read
    assert sum(sent) < 1_000_000
    (array,) = dask.compute(delayed(double)(made[1]), scheduler=scheduler)
    assert array[0] == 2
    assert len(read) == 1


def test_a_large_argument_is_written_once(
    scheduler: AmorsizeScheduler, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tasks and batches need it."""
    written = []

    def write(self: spool.SpoolPlace, parts: Any) -> Any:
        written.append(count_bytes(parts))
        return _write(self, parts)

    _write = spool.SpoolPlace.write
    monkeypatch.setattr(spool.SpoolPlace, "write", write)
    shared = delayed(make(1))
    sums = [delayed(lambda a, k: a[0] + k)(shared, k) for k in range(200)]
    assert dask.compute(*sums, scheduler=scheduler) == tuple(range(1, 201))
    assert len(written) == 1
    assert sum(sent) < 1_000_000


def test_without_any_place_the_pipe_does(
    scheduler: AmorsizeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither shared memory nor disk: slower, and as right."""
    monkeypatch.setattr(spool_folder, "_find_roots", lambda: iter(()))
    results = db.range(6, npartitions=6).map(make).map(double)
    for x, result in enumerate(results.compute(scheduler=scheduler)):
        np.testing.assert_array_equal(result, 2 * make(x))


def end_or_make(x: int) -> np.ndarray:
    marker = Path(os.environ["END_ONCE"])
    if x == 3 and not marker.exists():
        marker.touch()
        os._exit(1)
    return make(x)


def test_a_worker_that_dies_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had written is used or removed; the leak check of all tests looks."""
    monkeypatch.setenv("END_ONCE", str(tmp_path / "ended"))
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        made = [delayed(end_or_make)(x) for x in range(6)]
        sums = [delayed(total)(one, made[0]) for one in made]
        assert dask.compute(*sums, scheduler=scheduler) == tuple(
            100_000.0 * x for x in range(6)
        )


def test_a_failing_run_leaves_no_file(scheduler: AmorsizeScheduler) -> None:
    """Large results that no one will take are removed with the run."""
    made = [delayed(make)(x) for x in range(6)]
    bad = delayed(lambda *arrays: 1 / 0)(*made)
    with pytest.raises(ZeroDivisionError):
        dask.compute(bad, scheduler=scheduler)
