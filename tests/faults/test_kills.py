"""Workers that are killed all the time: every result comes, once, and is right."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dask.bag as db
import psutil
import pytest
from troubles import square_slowly

from amorsize_dask import AmorsizeScheduler

N_TASKS = 800

#: Seconds between two kills.
PAUSE_S = 0.05


@contextmanager
def killing(seed: int) -> Iterator[list[int]]:
    """Kill one of this process's workers every now and then."""
    chosen = random.Random(seed)
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        me = psutil.Process()
        while not is_over.wait(PAUSE_S):
            # Children are fork servers, their children are workers.
            workers = [
                worker for server in me.children() for worker in server.children()
            ]
            if workers:
                victim = chosen.choice(workers).pid
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_results_come_once(seed: int) -> None:
    """In order, as from a run in which nothing happens."""
    bag = db.from_sequence(range(N_TASKS), npartitions=N_TASKS).map(square_slowly)
    with AmorsizeScheduler(lanes=("processes",)) as scheduler, killing(seed) as killed:
        found = bag.compute(scheduler=scheduler)
    assert found == [i * i for i in range(N_TASKS)]
    assert len(killed) >= 5


@pytest.mark.slow
def test_a_stream_goes_on() -> None:
    """What was handed over stays; what was lost is made again."""
    bag = db.from_sequence(range(N_TASKS), npartitions=N_TASKS).map(square_slowly)
    with AmorsizeScheduler(lanes=("processes",)) as scheduler, killing(7) as killed:
        found = list(scheduler.stream(bag))
    assert found == [i * i for i in range(N_TASKS)]
    assert len(killed) >= 5
