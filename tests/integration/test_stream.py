"""Results one after the other, with the rest of the work held back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask.callbacks import Callback
from lane_sets import LANE_SETS

from amorsize_dask import AmorsizeScheduler, ArgumentError, WorkerLostError

MB = 1_000_000


@pytest.fixture(params=LANE_SETS, ids=",".join)
def scheduler(request: pytest.FixtureRequest) -> Iterator[AmorsizeScheduler]:
    with AmorsizeScheduler(lanes=request.param, memory_limit="20 MB") as made:
        yield made


def wait_longer_for_the_first(i: int) -> int:
    time.sleep(0.05 if i == 0 else 0.001)
    return i


def test_items_of_a_bag(scheduler: AmorsizeScheduler) -> None:
    """In their order; as they come they are the same ones."""
    bag = db.range(100, npartitions=7).map(lambda x: x * 2).filter(lambda x: x % 3)
    expected = bag.compute(scheduler="sync")
    assert list(scheduler.stream(bag)) == expected
    assert sorted(scheduler.stream(bag, ordered=False)) == expected


def test_one_partition(scheduler: AmorsizeScheduler) -> None:
    """It may be cut into parts, and comes as one."""
    bag = db.from_sequence(range(1000), npartitions=1).map(lambda x: x + 1)
    assert list(scheduler.stream(bag)) == list(range(1, 1001))


def test_values_of_delayed(scheduler: AmorsizeScheduler) -> None:
    """Each as soon as it is there, or in order."""
    values = [delayed(wait_longer_for_the_first)(i) for i in range(20)]
    assert list(scheduler.stream(values)) == list(range(20))
    found = list(scheduler.stream(values, ordered=False))
    assert sorted(found) == list(range(20))


def test_the_first_to_finish_comes_first() -> None:
    """An unordered stream doesn't wait for a slow one."""
    values = [delayed(wait_longer_for_the_first)(i) for i in range(8)]
    with AmorsizeScheduler(lanes=("threads",)) as scheduler:
        assert next(scheduler.stream(values, ordered=False)) != 0


def test_other_collections(scheduler: AmorsizeScheduler) -> None:
    """An item is one value, an array its blocks, several are one after the other."""
    total = db.range(10, npartitions=3).sum()
    assert list(scheduler.stream(total)) == [45]
    blocks = list(scheduler.stream(da.arange(6, chunks=2) + 1))
    assert [block.tolist() for block in blocks] == [[1, 2], [3, 4], [5, 6]]
    mixed = [total, db.from_sequence([1, 2], npartitions=2), delayed(str)(3)]
    assert list(scheduler.stream(mixed)) == [45, [1], [2], "3"]


def test_values_that_are_there_or_the_same(scheduler: AmorsizeScheduler) -> None:
    """A value that takes no work is as good; one asked for twice comes twice."""
    one, given = delayed(str)(1), delayed(5)
    assert list(scheduler.stream([one, given, one])) == ["1", 5, "1"]
    found = list(scheduler.stream([one, given, one], ordered=False))
    assert sorted(map(str, found)) == ["1", "1", "5"]


def test_values_that_others_need(scheduler: AmorsizeScheduler) -> None:
    """One that was taken is still there for the task that needs it."""
    arrays = [delayed(np.full)(300_000, i) for i in range(8)]
    sums = [delayed(np.sum)(array) for array in arrays]
    found = list(scheduler.stream([*arrays, *sums[::-1]]))
    assert [int(array[0]) for array in found[:8]] == list(range(8))
    assert found[8:] == [300_000 * i for i in range(8)][::-1]


@pytest.mark.parametrize("wrong", [3, "bag", None, [], [1, 2]])
def test_what_is_no_collection(wrong: Any) -> None:
    """It is refused at once, not with the first value."""
    with (
        AmorsizeScheduler() as scheduler,
        pytest.raises(ArgumentError, match="collection"),
    ):
        scheduler.stream(wrong)


def test_nothing_runs_before_the_first_value_is_asked_for(tmp_path: Path) -> None:
    """A stream that no one reads costs nothing."""
    touch = delayed(Path.touch)(tmp_path / "ran")
    with AmorsizeScheduler() as scheduler:
        values = scheduler.stream(touch)
        assert not any(tmp_path.iterdir())
        assert list(values) == [None]
        assert any(tmp_path.iterdir())


def test_a_slow_consumer_holds_the_work_back(
    scheduler: AmorsizeScheduler, tmp_path: Path
) -> None:
    """No more is made than fits: with 20 MB, some few results of 3 MB."""

    def make(i: int) -> bytes:
        (tmp_path / str(i)).touch()
        return bytes([i]) * (3 * MB)

    values = [delayed(make)(i) for i in range(30)]
    most_ahead = 0
    for n_taken, value in enumerate(scheduler.stream(values)):
        assert value[0] == n_taken
        if n_taken % 5 == 0:
            time.sleep(0.02)
        most_ahead = max(most_ahead, len(list(tmp_path.iterdir())) - n_taken)
    assert 1 <= most_ahead <= 7


def test_a_stream_that_is_abandoned(
    scheduler: AmorsizeScheduler, tmp_path: Path
) -> None:
    """The work stops, nothing is left, and the scheduler computes again."""

    def make(i: int) -> int:
        time.sleep(0.002)
        (tmp_path / str(i)).touch()
        return i

    values = scheduler.stream([delayed(make)(i) for i in range(500)])
    assert next(values) == 0
    values.close()
    time.sleep(0.05)
    n_made = len(list(tmp_path.iterdir()))
    assert n_made < 400
    time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) <= n_made + 1
    assert list(scheduler.stream(delayed(str)(1))) == ["1"]


def test_a_stream_that_is_forgotten(scheduler: AmorsizeScheduler) -> None:
    """Its end is that of a generator that is collected."""
    values = scheduler.stream(db.range(100, npartitions=50).map(str))
    assert next(values) == "0"
    del values
    assert list(scheduler.stream(delayed(str)(1))) == ["1"]


def test_a_task_that_raises(scheduler: AmorsizeScheduler) -> None:
    """Its exception comes in the place of its value, after those before it."""
    divided = [delayed(divmod)(12, i) for i in (4, 3, 0, 2)]
    values = scheduler.stream(divided)
    found = []
    with pytest.raises(ZeroDivisionError):
        found += [next(values) for _ in range(4)]
    assert list(values) == []
    assert scheduler.last_run is not None
    assert isinstance(scheduler.last_run.error, ZeroDivisionError)


def test_computing_while_streaming(scheduler: AmorsizeScheduler) -> None:
    """The same scheduler may compute for the consumer, and stream something else."""
    bag = db.range(6, npartitions=3).map(lambda x: x + 1)
    sums = []
    for value in scheduler.stream(bag):
        inner = list(scheduler.stream(db.range(value, npartitions=1)))
        outer = db.range(value, npartitions=1).sum().compute(scheduler=scheduler)
        assert sum(inner) == outer
        sums.append(outer)
    assert sums == [0, 1, 3, 6, 10, 15]


def test_another_thread_goes_on_with_it(scheduler: AmorsizeScheduler) -> None:
    """A stream isn't its first thread's."""
    values = scheduler.stream(db.range(20, npartitions=10).map(lambda x: x + 1))
    found = [next(values)]
    thread = threading.Thread(target=lambda: found.extend(values))
    thread.start()
    thread.join()
    assert found == list(range(1, 21))


def test_callbacks_see_it() -> None:
    """As they see a compute; they are told of the end of one that is abandoned, too."""
    seen: list[Any] = []

    class Watch(Callback):
        def _posttask(self, key: Any, *_: Any) -> None:
            seen.append(key)

        def _finish(self, dsk: Any, state: Any, failed: bool) -> None:
            seen.append(failed)

    values = [delayed(str)(i, dask_key_name=f"text-{i}") for i in range(3)]
    with AmorsizeScheduler(lanes=("inline",)) as scheduler, Watch():
        assert list(scheduler.stream(values)) == ["0", "1", "2"]
        assert {f"text-{i}" for i in range(3)} <= set(seen)
        assert seen[-1] is False
        stream = scheduler.stream(values)
        next(stream)
        stream.close()
        assert seen[-1] is True


def test_record(scheduler: AmorsizeScheduler) -> None:
    """A stream is a run as any other."""
    list(scheduler.stream([delayed(str)(i) for i in range(3)]))
    assert scheduler.last_run is not None
    assert scheduler.last_run.n_tasks == 3
    assert dask.config.get("scheduler", None) is None


def _die(*values: int) -> None:
    os._exit(3)


def _raise(*values: int) -> None:
    raise OSError(3, "three")


@pytest.mark.parametrize(("end", "kind"), [(_die, WorkerLostError), (_raise, OSError)])
@pytest.mark.parametrize("ordered", [True, False])
def test_results_that_were_there_before(
    end: Any, kind: type[Exception], ordered: bool
) -> None:
    """The error comes after them, however slowly they are taken."""
    made = [delayed(abs)(-i) for i in range(8)]
    found = []
    with AmorsizeScheduler(lanes=("processes",), max_workers=2) as scheduler:
        values = scheduler.stream([*made, delayed(end)(*made)], ordered=ordered)
        for _ in made:
            found.append(next(values))
            time.sleep(0.2)
        with pytest.raises(kind):
            next(values)
        assert sorted(found) == list(range(8))
        assert dask.compute(*made, scheduler=scheduler) == tuple(range(8))
