"""The lane cluster against the stock client: `python benchmarks/client.py`.

With one client on one `LocalCluster` of two workers, the same collections are computed
by the client itself and by `AmorsizeScheduler`, which may use that cluster and any lane
of this machine; and by one that may use the cluster alone. In turns, round by round,
each round beginning with another; medians count, and results are compared.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import dask.bag as db
from cluster_work import compute

from amorsize_dask import AmorsizeScheduler


def double(x: int) -> int:
    """Return twice a number."""
    return 2 * x


def make(n_bytes: int) -> bytes:
    """Return so many bytes."""
    return bytes(n_bytes)


class Kind(NamedTuple):
    """A kind of work, and what share of the stock client's time it should take."""

    title: str
    make_bag: Callable[[int], Any]
    n: int
    most: float


KINDS = {
    "cheap": Kind(
        "a million cheap items in default partitions",
        lambda n: db.from_sequence(range(n)).map(double).sum(),
        1_000_000,
        0.05,
    ),
    "cpu": Kind(
        "computes holding the GIL",
        lambda n: db.from_sequence([300_000] * n, npartitions=n).map(compute).sum(),
        200,
        1.0,
    ),
    "large": Kind(
        "300 results of 1 MB",
        lambda n: db.from_sequence([1_000_000] * n, npartitions=n).map(make),
        300,
        0.5,
    ),
}


def measure(
    kinds: list[str], n_rounds: int, share: float
) -> dict[str, dict[str, list[float]]]:
    """Return seconds by kind and runner.

    Raises
    ------
    AssertionError
        If results differ.
    """
    from distributed import Client, LocalCluster

    logging.disable(logging.ERROR)
    seconds: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in kinds
    }
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster),
        AmorsizeScheduler() as free,
        AmorsizeScheduler(lanes=("cluster",)) as forced,
    ):
        runners: dict[str, dict[str, Any]] = {
            "client": {},
            "amorsize": {"scheduler": free},
            "cluster alone": {"scheduler": forced},
        }
        for name in kinds:
            kind = KINDS[name]
            n = max(1, int(share * kind.n))
            expected = kind.make_bag(n).compute(scheduler="sync")
            for number in range(n_rounds):
                names = list(runners)
                for runner in names[number % 3 :] + names[: number % 3]:
                    bag = kind.make_bag(n)
                    begin = perf_counter()
                    found = bag.compute(**runners[runner])
                    seconds[name][runner].append(perf_counter() - begin)
                    assert found == expected, f"{runner} has another result: {name}"
    return seconds


def show(seconds: dict[str, dict[str, list[float]]]) -> None:
    """Print a table of medians and of shares of the stock client's time."""
    print("| the work | client | amorsize | cluster alone | aim |")
    print("| --- | --: | --: | --: | --: |")
    for name, found in seconds.items():
        medians = {runner: statistics.median(s) for runner, s in found.items()}
        stock_s = medians["client"]
        cells = [f"{stock_s:.3f} s"] + [
            f"{medians[runner]:.3f} s, {medians[runner] / stock_s:.2f} x"
            for runner in ("amorsize", "cluster alone")
        ]
        kind = KINDS[name]
        print(f"| {kind.title} | {' | '.join(cells)} | {kind.most} x |")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the items")
    arguments = parser.parse_args()
    show(measure(arguments.kinds, arguments.rounds, arguments.share))


if __name__ == "__main__":
    main()
