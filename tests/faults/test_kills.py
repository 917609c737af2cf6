"""Workers that are killed all the time: every result comes, once, and is right.

With ``AMORSIZE_N_KILL_SEEDS=20`` in the environment it is tried that often, each time
until there were 200 kills. That is for a machine that does nothing else: three kills in
a row that happen to hit the same task end a run.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter, time

import dask.bag as db
import psutil
import pytest
from troubles import copy, fail_on_thirteen, square_slowly

from amorsize_dask import AmorsizeScheduler, Pipeline, Stage

N_SEEDS = int(os.environ.get("AMORSIZE_N_KILL_SEEDS", "2"))
N_TASKS = 2_000
#: Tasks are computed again until there were so many.
N_KILLS = 200 if "AMORSIZE_N_KILL_SEEDS" in os.environ else 5

#: Seconds between two kills, at least.
PAUSE_S = 0.05


@pytest.fixture(scope="module")
def pause_s() -> float:
    """Return the seconds between two kills.

    More where the machine is so busy that workers would be killed while they boot,
    again and again: what is tried is that work goes on, and there would be none.
    """
    took_s = []
    one = db.from_sequence([1], npartitions=1).map(square_slowly)
    with AmorsizeScheduler(lanes=("processes",), max_workers=1) as scheduler:
        one.compute(scheduler=scheduler)
        for _ in range(5):
            for worker in find_workers():
                worker.kill()
                worker.wait()
            start = perf_counter()
            one.compute(scheduler=scheduler)
            took_s.append(perf_counter() - start)
    return max(PAUSE_S, 2 * max(took_s))


def find_workers() -> list[psutil.Process]:
    """Return the workers of this process: children of its fork servers."""
    servers = psutil.Process().children()
    return [worker for server in servers for worker in server.children()]


@contextmanager
def killing(seed: int, pause_s: float) -> Iterator[list[int]]:
    """Kill one of this process's workers every now and then.

    Not one that was born since the last time: a busy machine wouldn't have let it run
    a task, and the one that it is given first would lose worker after worker.
    """
    chosen = random.Random(seed)
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(pause_s):
            with suppress(psutil.NoSuchProcess):
                latest = time() - pause_s
                workers = [w for w in find_workers() if w.create_time() < latest]
                if workers:
                    victim = chosen.choice(workers)
                    victim.kill()
                    killed.append(victim.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_all_results_come_once(seed: int, pause_s: float) -> None:
    """In order, as from a run in which nothing happens."""
    bag = db.from_sequence(range(N_TASKS), npartitions=N_TASKS).map(square_slowly)
    with (
        AmorsizeScheduler(lanes=("processes",)) as scheduler,
        killing(seed, pause_s) as killed,
    ):
        # Once, or twice where the machine is quick.
        while len(killed) < N_KILLS:
            found = bag.compute(scheduler=scheduler)
            assert found == [i * i for i in range(N_TASKS)]


@pytest.mark.slow
def test_a_stream_goes_on(pause_s: float) -> None:
    """What was handed over stays; what was lost is made again."""
    bag = db.from_sequence(range(N_TASKS), npartitions=N_TASKS).map(square_slowly)
    with (
        AmorsizeScheduler(lanes=("processes",)) as scheduler,
        killing(7, pause_s) as killed,
    ):
        found = list(scheduler.stream(bag, ordered=False))
    assert sorted(found) == [i * i for i in range(N_TASKS)]
    assert len(killed) >= 5


@pytest.mark.parametrize("ordered", [True, False])
def test_a_pipeline_goes_on(ordered: bool) -> None:
    """Items that fail are listed, all others come out once, however slowly taken.

    The consumer stops again and again, and kills the workers meanwhile: so no task
    loses more of them than one that is tried three times may, however busy the machine.
    """
    stages = [
        Stage(fail_on_thirteen, on_error="skip"),
        square_slowly,
        Stage(copy, batch=7),
    ]
    numbers = range(300)
    found, n_killed, n_stopped = [], 0, 0
    with AmorsizeScheduler(lanes=("processes",)) as scheduler:
        pipeline = Pipeline(stages, ordered=ordered, max_items=50, scheduler=scheduler)
        for result in pipeline.run(iter(numbers)):
            found.append(result)
            if len(found) % 60 == 0:
                workers = find_workers()
                for worker in workers:
                    worker.kill()
                _, alive = psutil.wait_procs(workers, timeout=60)
                assert not alive
                n_killed += len(workers)
                n_stopped += 1
        assert scheduler.last_run is not None
        assert set(scheduler.last_run.lanes) == {"processes"}
    assert n_killed >= n_stopped == 4
    assert (found if ordered else sorted(found)) == [
        i * i for i in numbers if i % 100 != 13
    ]
    report = pipeline.report()
    failed = [(i,) for i in numbers if i % 100 == 13]
    assert sorted(item.path for item in report.skipped) == failed
    assert (report.n_in, report.n_out) == (len(numbers), len(found))
