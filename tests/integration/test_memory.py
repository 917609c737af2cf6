"""A run takes no more memory than it was given, and its results are right."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask.base import tokenize
from lane_sets import LANE_SETS

from amorsize_dask import AmorsizeScheduler, MemoryBudgetError
from amorsize_dask.core.model import Machine
from amorsize_dask.execute import loop, memory_watch, spool
from amorsize_dask.execute.store import Store

MB = 1_000_000

#: Of 10 MB and more each: together more than twice the limit.
LIMIT_BYTES, N_TASKS = 240 * MB, "56"

#: Others: groups of 224 MB together, which is four times as much, a file of 280 MB, and
#: objects of 330 MB whose pickles are 24 MB.
LIMITS_BYTES = {
    "group_tasks": 56 * MB,
    "group_disk": 56 * MB,
    "hold_pairs": 100 * MB,
    "stream_text": 100 * MB,
}


@pytest.fixture
def spilled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the tasks are added whose results go to disk."""
    tasks: list[int] = []
    spill = Store.spill

    def note(self: Store, some: Any) -> list[int]:
        failed = spill(self, some)
        tasks.extend(set(some) - set(failed))
        return failed

    monkeypatch.setattr(Store, "spill", note)
    return tasks


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no shared figures")
@pytest.mark.parametrize(
    ("name", "lanes"),
    [
        ("hold", ("processes",)),
        ("hold", ("inline", "threads", "processes")),
        ("hold_texts", ("inline",)),
        ("hold_texts", ("processes",)),
        ("hold_pairs", ("inline", "threads", "processes")),
        ("hold_objects", ("inline",)),
        ("hold_objects", ("threads",)),
        ("stream", ("processes",)),
        ("stream_unordered", ("inline", "threads", "processes")),
        ("stream_slowly", ("threads",)),
        ("stream_text", ("processes",)),
        ("group_tasks", ("inline", "threads", "processes")),
        ("group_tasks", ("processes",)),
        ("group_disk", ("inline",)),
    ],
)
def test_all_processes_stay_below_the_limit(name: str, lanes: tuple[str, ...]) -> None:
    """Resident and shared memory of all together, with a tenth for what isn't ours."""
    program = Path(__file__).with_name("memory_runs.py")
    limit_bytes = LIMITS_BYTES.get(name, LIMIT_BYTES)
    paths = [
        str(program.parents[1]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    done = subprocess.run(
        [sys.executable, program, name, str(limit_bytes), N_TASKS, *lanes],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    is_right, peak_bytes = done.stdout.split()
    assert is_right == "True"
    assert int(peak_bytes) < 1.1 * limit_bytes


@pytest.mark.parametrize("lanes", LANE_SETS, ids=",".join)
def test_results_that_wait_on_disk(lanes: tuple[str, ...], spilled: list[int]) -> None:
    """Arrays, lists and what no one but the user needs come back as they were."""
    arrays = [delayed(np.full)(500_000, i) for i in range(12)]
    lists = [delayed(list)(range(i, i + 50_000)) for i in range(12)]
    sums = [delayed(np.add)(a, b) for a, b in zip(arrays, arrays[::-1], strict=True)]
    lengths = [delayed(len)(values) for values in lists[::-1]]
    expected = dask.compute(sums, lengths, lists, scheduler="sync")
    with AmorsizeScheduler(memory_limit="20 MB", lanes=lanes) as scheduler:
        found = dask.compute(sums, lengths, lists, scheduler=scheduler)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1:] == expected[1:]
    assert spilled


@pytest.mark.parametrize("lanes", LANE_SETS, ids=",".join)
def test_groupby_of_more_than_the_limit(
    lanes: tuple[str, ...], spilled: list[int]
) -> None:
    """All of it is needed before the first group is complete."""
    bag = db.from_sequence(range(40_000), npartitions=12).map(lambda i: (i, "x" * 50))
    groups = bag.groupby(lambda pair: pair[0] % 7, shuffle="tasks")
    counts = groups.map(lambda group: (group[0], len(group[1])))
    with AmorsizeScheduler(memory_limit="2 MB", lanes=lanes) as scheduler:
        found = counts.compute(scheduler=scheduler)
    assert sorted(found) == sorted(counts.compute(scheduler="sync"))
    assert spilled


@pytest.mark.parametrize("lanes", LANE_SETS, ids=",".join)
def test_groupby_whose_first_parts_are_empty(
    lanes: tuple[str, ...], spilled: list[int]
) -> None:
    """The others are as large as they are: one result doesn't speak for a batch."""
    n = 12
    keys = [i for i in range(50) if int(tokenize(i), 16) % n]
    bag = db.from_sequence(range(40_000), npartitions=n).map(lambda i: (i, "x" * 50))
    groups = bag.groupby(lambda pair: keys[pair[0] % 7], shuffle="tasks")
    counts = groups.map(lambda group: (group[0], len(group[1])))
    with AmorsizeScheduler(memory_limit="2 MB", lanes=lanes) as scheduler:
        found = counts.compute(scheduler=scheduler)
    assert sorted(found) == sorted(counts.compute(scheduler="sync"))
    assert spilled


def test_a_disk_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, spilled: list[int]
) -> None:
    """Then results stay in memory, and are as right."""
    monkeypatch.setattr(spool.SpoolPlace, "on_disk", spool.SpoolPlace())
    arrays = [delayed(np.full)(500_000, i) for i in range(12)]
    sums = [delayed(np.add)(a, b) for a, b in zip(arrays, arrays[::-1], strict=True)]
    with AmorsizeScheduler(memory_limit="20 MB", lanes=("threads",)) as scheduler:
        found = dask.compute(*sums, scheduler=scheduler)
    np.testing.assert_array_equal(found, np.full((12, 500_000), 11))
    assert not spilled


def test_results_that_cannot_be_pickled(spilled: list[int]) -> None:
    """They stay in memory; the others go to disk."""
    made = [delayed(lambda i: (lambda: i, bytes(4 * MB)))(i) for i in range(6)]
    made += [delayed(bytes)(4 * MB) for _ in range(6)]
    total = delayed(lambda *values: len(values))(*made)
    for value in (made[0], total):
        with AmorsizeScheduler(memory_limit="20 MB", lanes=("inline",)) as scheduler:
            value.compute(scheduler=scheduler)
    assert spilled


class Generator:
    """A result that no pickler takes."""

    def __init__(self) -> None:
        self.data = bytes(4 * MB)
        self.items: Iterator[int] = (i for i in range(3))

    def __sizeof__(self) -> int:
        return 4 * MB


def test_results_that_no_pickler_takes() -> None:
    """More of them than the limit are there at once, for there is no other way."""
    made = [delayed(Generator)() for _ in range(8)]
    total = delayed(lambda *values: sum(len(v.data) for v in values))(*made)
    with AmorsizeScheduler(memory_limit="20 MB", lanes=("inline",)) as scheduler:
        assert total.compute(scheduler=scheduler) == 32 * MB


def fill(n: int) -> bytes:
    return b"x" * n


@pytest.mark.parametrize("lanes", LANE_SETS, ids=",".join)
def test_a_task_that_is_too_large_by_itself(lanes: tuple[str, ...]) -> None:
    """The second one isn't started, unless the user says so."""
    large = [delayed(fill)(30 * MB + i) for i in range(3)]
    with AmorsizeScheduler(memory_limit="20 MB", lanes=lanes) as scheduler:
        with pytest.raises(MemoryBudgetError, match=r"took 30 MB.* of 20 MB") as caught:
            dask.compute(*large, scheduler=scheduler)
        assert "allow_oversized" in str(caught.value)
        # The scheduler goes on.
        assert delayed(len)("ab").compute(scheduler=scheduler) == 2
    with AmorsizeScheduler(
        memory_limit="20 MB", lanes=lanes, allow_oversized=True
    ) as scheduler:
        found = dask.compute(*large, scheduler=scheduler)
    assert tuple(map(len, found)) == tuple(30 * MB + i for i in range(3))


def test_a_task_that_is_too_large_while_it_runs() -> None:
    """In a worker process it is seen, however little comes back."""
    lengths = [delayed(len)(delayed(fill)(60 * MB + i)) for i in range(3)]
    with (
        AmorsizeScheduler(memory_limit="40 MB", lanes=("processes",)) as scheduler,
        pytest.raises(MemoryBudgetError, match=r"MB, of 40 MB"),
    ):
        dask.compute(*lengths, scheduler=scheduler)


def test_without_a_limit_of_the_users_nothing_is_refused() -> None:
    """What the machine has is a guess, and one that a task may well disprove."""
    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        lengths = [delayed(len)(delayed(bytes)(3 * MB)) for _ in range(3)]
        assert dask.compute(*lengths, scheduler=scheduler) == (3 * MB,) * 3


def make_slowly(i: int) -> Any:
    time.sleep(0.01)
    return np.full(MB // 8, i, dtype=float)


@pytest.mark.parametrize("lane", ["inline", "threads", "processes"])
@pytest.mark.parametrize("limit", ["auto", "400 MB"])
def test_memory_that_others_take(
    monkeypatch: pytest.MonkeyPatch, spilled: list[int], lane: str, limit: str
) -> None:
    """It lowers the machine's limit, so that results go to disk, but not the user's."""
    monkeypatch.setattr(memory_watch, "LOOK_S", 0.02)
    monkeypatch.setattr(
        loop, "MemoryWatch", partial(memory_watch.MemoryWatch, look=lambda: 0)
    )
    machine = Machine(n_cores=2, n_physical_cores=2, memory_bytes=400 * MB)
    monkeypatch.setattr(
        "amorsize_dask.resources.measure_machine", lambda costs: machine
    )
    tasks = [delayed(make_slowly)(i) for i in range(60)]
    # With a thread for each task all would be over before it is looked at.
    with AmorsizeScheduler(
        lanes=(lane,), memory_limit=limit, max_workers=2
    ) as scheduler:
        values = dask.compute(*tasks, scheduler=scheduler)
        record = scheduler.last_run
    assert [value[0] for value in values] == list(range(60))
    assert record.lanes[lane].n_tasks == 60
    if limit == "auto":
        assert record.memory_limit_bytes < 200 * MB
        assert spilled
    else:
        assert record.memory_limit_bytes == 400 * MB
        assert not spilled
