"""Functions over data that is read bit by bit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import pytest

from amorsize_dask import (
    AmorsizeScheduler,
    ArgumentError,
    estimate_safe_batch_size,
    optimize_streaming,
    process_in_batches,
)
from amorsize_dask.measure.machine import measure_machine

MB = 1_000_000


def square(x: int) -> int:
    return x * x


def nap(x: int) -> int:
    time.sleep(0.001)
    return x


class Source:
    """Yields numbers, and knows how many were taken."""

    def __init__(self, n: int | None = None) -> None:
        self.n_read = 0
        self._numbers = itertools.count() if n is None else iter(range(n))

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        number = next(self._numbers)
        self.n_read += 1
        return number


@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
@pytest.mark.parametrize("n", [0, 1, 100])
def test_data_of_known_length(n: int, batch_size: int | None) -> None:
    """All is done, in order, when it returns."""
    expected = [square(x) for x in range(n)]
    for data in (range(n), list(range(n)), tuple(range(n))):
        assert process_in_batches(square, data, batch_size=batch_size) == expected


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_data_of_unknown_length(batch_size: int | None) -> None:
    """Each item is read once and none is lost."""
    source = Source(50)
    results = process_in_batches(square, source, batch_size=batch_size)
    assert source.n_read == 0
    assert list(results) == [square(x) for x in range(50)]
    assert source.n_read == 50


@pytest.mark.parametrize("lanes", [("inline",), ("threads",), ("processes",)])
def test_endless_data(lanes: tuple[str, ...]) -> None:
    """No more is read than the batch that is being worked on."""
    source = Source()
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        results = process_in_batches(nap, source, batch_size=10, scheduler=scheduler)
        assert isinstance(results, Iterator)
        for expected in range(35):
            assert next(results) == expected
            assert source.n_read == 10 * (expected // 10 + 1)
        results.close()
        assert source.n_read == 40
        assert scheduler.last_run is not None


def test_batches_grow_to_what_takes_a_while() -> None:
    """Of quick items more are read at a time, of slow ones not."""
    quick, slow = Source(), Source()
    results = process_in_batches(square, quick)
    list(itertools.islice(results, 2000))
    assert quick.n_read - 2000 > 100
    results = process_in_batches(lambda x: time.sleep(0.05) or x, slow)
    list(itertools.islice(results, 10))
    assert slow.n_read <= 200


def test_large_items_are_not_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """However quick they are, those that were read fit into their share."""
    from dataclasses import replace

    from amorsize_dask.planning import reading

    small = replace(measure_machine(), memory_bytes=40 * MB)
    monkeypatch.setattr(reading, "measure_machine", lambda: small)
    n_read = 0

    def make() -> Iterator[bytes]:
        nonlocal n_read
        for _ in range(60):
            n_read += 1
            yield bytes(MB)

    with AmorsizeScheduler(lanes=("inline",)) as scheduler:
        results = process_in_batches(
            len, make(), max_memory_percent=1.0, scheduler=scheduler
        )
        most = max(n_read - n_taken for n_taken, _ in enumerate(results))
    assert n_read == 60
    assert most <= 12


def test_a_function_that_raises() -> None:
    """Its exception arrives as itself, after the results before it."""
    results = process_in_batches(lambda x: 1 // x, iter([1, -1, 0, 2]), batch_size=1)
    assert [next(results), next(results)] == [1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(ZeroDivisionError):
        process_in_batches(lambda x: 1 // x, [1, 0])


def test_it_tells_of_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, if asked to."""
    process_in_batches(square, range(6), batch_size=4, verbose=True)
    assert "4 items, the last 4 in" in capsys.readouterr().err


# -- plans -----------------------------------------------------------------------------


def test_results_decide_how_many_fit() -> None:
    """Twice as large ones are half as many; a larger share of the memory is more."""
    small = estimate_safe_batch_size(lambda i: bytes(2 * MB), range(5))
    large = estimate_safe_batch_size(lambda i: bytes(4 * MB), range(5))
    more = estimate_safe_batch_size(lambda i: bytes(4 * MB), range(5), 0.9)
    assert small == pytest.approx(2 * large, rel=0.2)
    assert more == pytest.approx(1.5 * large, rel=0.2)
    assert estimate_safe_batch_size(lambda i: bytes(4 * MB), range(5), 1e-9) == 1


def test_no_more_is_tried_than_needed() -> None:
    """Of many items ten, of slow ones fewer."""
    source = Source()
    assert estimate_safe_batch_size(square, source) >= 1
    assert source.n_read == 10
    source = Source()
    estimate_safe_batch_size(lambda x: time.sleep(0.6), source)
    assert source.n_read <= 3


def compute(n: int) -> int:
    return sum(i * i for i in range(n))


def test_a_plan_for_work_that_pays() -> None:
    """As many processes as help, and chunks that are worth a message."""
    plan = optimize_streaming(compute, [20_000] * 2000)
    assert plan.n_jobs == measure_machine().n_physical_cores or plan.n_jobs == 1
    if plan.n_jobs > 1:
        assert plan.estimated_speedup > 1.1
        assert 0 < plan.chunksize * plan.item_s < 0.5
    assert optimize_streaming(compute, [20_000] * 2000, max_workers=1).n_jobs == 1


def test_a_plan_for_work_that_does_not() -> None:
    """A loop; and so where nothing can be sent."""
    for function, data in (
        (square, range(100)),
        (lambda x: x, range(100)),
        (square, []),
        (lambda x: (y for y in [x]), range(3)),
    ):
        plan = optimize_streaming(function, data)
        assert plan.n_jobs == plan.chunksize == 1
        assert plan.estimated_speedup >= 1
        assert plan.reason


def test_the_plan_has_all_of_the_data() -> None:
    """What was read to measure is in it again, and an endless one isn't read on."""
    source = Source(20)
    plan = optimize_streaming(square, source)
    assert source.n_read == 5
    assert list(plan.data) == list(range(20))
    endless = Source()
    plan = optimize_streaming(square, endless)
    assert endless.n_read == 5
    assert list(itertools.islice(plan.data, 7)) == list(range(7))
    with get_context("fork").Pool(2) as pool:
        numbers = list(itertools.islice(plan.data, 10))
        chunks = pool.imap(square, numbers, chunksize=plan.chunksize)
        assert list(chunks) == [square(x) for x in numbers]


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: process_in_batches(3, [1]), "func"),
        (lambda: process_in_batches(square, 3), "data"),
        (lambda: process_in_batches(square, [1], batch_size=0), "batch_size"),
        (lambda: process_in_batches(square, [1], 2, 1.5), "max_memory_percent"),
        (lambda: estimate_safe_batch_size(square, []), "sample_data"),
        (lambda: estimate_safe_batch_size(square, [1], 0), "max_memory_percent"),
        (lambda: optimize_streaming(square, 3), "data"),
        (lambda: optimize_streaming(square, [1], 0), "max_workers"),
        (lambda: optimize_streaming(square, [1], 1, 0), "target_chunk_duration"),
    ],
)
def test_arguments_that_make_no_sense(call: Any, name: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises(ArgumentError, match=name):
        call()
