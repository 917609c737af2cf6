"""A LocalCluster of Dask's own, sized by a bag that was measured.

These tasks wait, so there are far more threads than Dask would take: one for each core.
Workers of a cluster may be processes that import this script, hence the last two lines.
"""

from time import perf_counter, sleep

import dask.bag as db
from dask.system import CPU_COUNT

from amorsize_dask import local_cluster

WAIT_S = 0.05
N_PAGES = 100


def fetch(page):
    sleep(WAIT_S)
    return page * page


def main():
    pages = db.from_sequence(range(N_PAGES), npartitions=N_PAGES).map(fetch)
    with local_cluster(pages, client=True) as cluster:
        start_s = perf_counter()
        answers = pages.compute()
        seconds = perf_counter() - start_s
        print(cluster.arguments)

    assert answers == [page * page for page in range(N_PAGES)]
    n_threads = cluster.arguments["threads_per_worker"]
    assert n_threads > CPU_COUNT or CPU_COUNT > N_PAGES
    print(f"{N_PAGES} waits of {WAIT_S} s took {seconds:.2f} s in {n_threads} threads.")
    assert seconds < N_PAGES * WAIT_S / 2


if __name__ == "__main__":
    main()
