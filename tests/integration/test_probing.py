"""What batches cost, measured in short runs."""

from __future__ import annotations

from math import inf

from amorsize_dask.execute.pool import WorkerPool
from amorsize_dask.execute.probing import measure_batch_s, measure_thread_costs


def test_threads_cost_something() -> None:
    """Batches in threads take time, and no process is started to find out."""
    pool = WorkerPool("forkserver", 10.0)
    thread_start_s, hand_off_s = measure_thread_costs(pool)
    assert thread_start_s < inf
    assert 0 < hand_off_s < inf
    assert not pool.pids()


def test_batches_in_a_process_cost_something() -> None:
    """They are sent to a worker that is there afterwards as before."""
    pool = WorkerPool("forkserver", 10.0)
    try:
        (worker,) = pool.boot(1)
        pool.give_back(worker)
        assert 0 < measure_batch_s(pool) < inf
        assert pool.n_idle == 1
        assert worker.channel.is_open
    finally:
        pool.close()
