"""Tasks that wait get far more threads than there are cores.

Dask's `threads` has one thread for each core, which is right for tasks that compute
without the GIL. Here the tasks wait, as for a server, and that is measured.
"""

from time import perf_counter, sleep

import dask.bag as db

from amorsize_dask import AmorsizeScheduler

WAIT_S = 0.1
N_PAGES = 200


def fetch(page):
    sleep(WAIT_S)
    return page * page


def main():
    pages = db.from_sequence(range(N_PAGES), npartitions=N_PAGES).map(fetch)
    with AmorsizeScheduler() as scheduler:
        start_s = perf_counter()
        answers = pages.compute(scheduler=scheduler)
        seconds = perf_counter() - start_s
        lanes = scheduler.last_run.lanes

    assert answers == [page * page for page in range(N_PAGES)]
    assert "processes" not in lanes
    speedup = N_PAGES * WAIT_S / seconds
    print(f"{N_PAGES} waits of {WAIT_S} s took {seconds:.2f} s:")
    print(f"{speedup:.0f} at a time, in {lanes['threads'].n_workers} threads.")
    assert speedup > 8


if __name__ == "__main__":
    main()
