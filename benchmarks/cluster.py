"""Clusters that suit the work against Dask's default: `python benchmarks/cluster.py`.

For each of four kinds of work `local_cluster(work)` and `LocalCluster()` are started in
turn, round by round, and compute it twice: new, with all that is loaded for the first
time, and warm. One more cluster before counts for nothing, since the first of a process
loads what later ones find there. Results are compared. Starting is shown apart,
measuring the work included.

The work that takes much memory runs on a machine that says it has 1.4 GB (a resource
limit that both look at and that nothing enforces). In halves of it, which Dask's two
workers get, a task has no room: they spill, pause or are killed and started again,
until Dask gives up. Then the time until that stands for one that there is not.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import sha256
from math import prod
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import psutil
from cluster_work import MB, compute, fetch, peak, sort

#: What the machine says it has where work takes much of it.
MEMORY_BYTES = 1_400 * MB


class Kind(NamedTuple):
    """A kind of work."""

    title: str
    function: Callable[[Any], Any]
    items: list[Any]
    is_heavy: bool = False


KINDS = {
    "gil": Kind("computes holding the GIL", compute, [1_000_000] * 40),
    "free": Kind("computes without the GIL", sort, list(range(30))),
    "wait": Kind("waits", fetch, list(range(400))),
    "heavy": Kind("takes much memory", peak, [300 * MB] * 8, is_heavy=True),
}

#: What is measured of a cluster, in seconds, and how its workers fared.
SECONDS = ("start", "new", "warm", "cpu")
COUNTS = ("lost", "paused", "spilled")


def make_bag(kind: Kind) -> Any:
    """Return a bag with a partition for each item."""
    import dask.bag as db

    items = kind.items
    return db.from_sequence(items, npartitions=len(items)).map(kind.function)


def run(kind: Kind, start: Callable[[], AbstractContextManager[Any]]) -> dict[str, Any]:
    """Start a cluster, compute twice, and return seconds, counts and the result."""
    from distributed import Client

    bag = make_bag(kind)
    begin = perf_counter()
    found: dict[str, Any] = {}
    with start() as cluster, Client(cluster) as client:
        found["start"] = perf_counter() - begin
        for turn in ("new", "warm"):
            begin, begin_cpu_s = perf_counter(), read_cpu_s()
            try:
                result = bag.compute()
            except Exception as error:
                found["failure"] = type(error).__name__
                found[turn] = perf_counter() - begin
                found.setdefault("warm", found[turn])
                break
            finally:
                # Of both.
                found["cpu"] = found.get("cpu", 0.0) + read_cpu_s() - begin_cpu_s
            found[turn] = perf_counter() - begin
            found["result"] = sha256(
                pickle.dumps(list(map(to_plain, result)))
            ).hexdigest()
        found |= count_troubles(client)
    return found


def read_cpu_s() -> float:
    """Return the CPU seconds of this process and its workers, as far as they live.

    They say what work costs on a machine that others keep busy as well.
    """
    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def to_plain(value: Any) -> Any:
    """Return what is the same of two equal results, wherever they have been."""
    return value if isinstance(value, int | str) else value.tobytes()


def count_troubles(client: Any) -> dict[str, int]:
    """Count workers that were lost or paused, and results that are on disk."""
    changes = [event for _, event in client.get_events("all")]
    # A worker that is being killed doesn't answer.
    spilled = client.run(count_spilled, on_error="ignore")
    return {
        "lost": len(client.get_events("worker-restart-memory")),
        "paused": sum(event.get("status") == "paused" for event in changes),
        "spilled": sum(spilled.values()),
    }


def count_spilled(dask_worker: Any) -> int:
    """Return how many results a worker has written to disk."""
    data = dask_worker.memory_manager.data
    return len(data.slow) if getattr(data, "slow", None) is not None else 0


def warm_up() -> None:
    """Load in this process what the first cluster of all would have to load."""
    import dask.bag as db
    from distributed import Client, LocalCluster

    with LocalCluster(dashboard_address=":0") as cluster, Client(cluster):
        db.from_sequence(range(4), npartitions=4).map(str).compute()


def measure(name: str, n_rounds: int, n_items: int | None) -> None:
    """Measure a kind of work in this process, and print what was found as JSON."""
    kind = KINDS[name]
    kind = kind._replace(items=kind.items[:n_items])
    if kind.is_heavy:
        # Before Dask looks, which it does when it is imported.
        resource.setrlimit(resource.RLIMIT_RSS, (MEMORY_BYTES, MEMORY_BYTES))
    from distributed import LocalCluster

    from amorsize_dask import local_cluster

    logging.disable(logging.ERROR)
    warm_up()
    starts: dict[str, Callable[[], Any]] = {
        "default": lambda: LocalCluster(dashboard_address=":0"),
        "amorsize": lambda: local_cluster(make_bag(kind), dashboard_address=":0"),
    }
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(n_rounds):
        names = list(starts)[:: 1 if number % 2 else -1]
        for runner in names:
            found[runner].append(run(kind, starts[runner]))
    results = {
        one["result"] for runs in found.values() for one in runs if "result" in one
    }
    if len(results) != 1:
        raise SystemExit(f"{name}: results differ")
    print(json.dumps(found))


def report(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return the table, and the means of its ratios."""
    lines = [
        "| work | default: start | new | warm | CPU "
        "| amorsize: start | new | warm | CPU "
        "| new / default | warm / default | CPU / default | default | amorsize |",
        "| --- | " + "--: | " * 11 + "--- | --- |",
    ]
    ratios: dict[str, list[float]] = {"new": [], "warm": [], "cpu": []}
    for name, by_runner in found.items():
        seconds = {
            runner: {what: median(one[what] for one in runs) for what in SECONDS}
            for runner, runs in by_runner.items()
        }
        cells = [
            f"{seconds[runner][what]:.2f} s"
            for runner in ("default", "amorsize")
            for what in SECONDS
        ]
        # What workers that are gone have computed isn't known.
        is_cpu_known = not any(
            one["lost"] for runs in by_runner.values() for one in runs
        )
        for turn, known in ratios.items():
            if turn == "cpu" and not is_cpu_known:
                cells.append("–")
                continue
            ratio = seconds["amorsize"][turn] / max(1e-9, seconds["default"][turn])
            known.append(ratio)
            cells.append(f"{ratio:.2f} x")
        cells += [describe(by_runner[runner]) for runner in ("default", "amorsize")]
        lines.append(f"| {KINDS[name].title} | " + " | ".join(cells) + " |")
    for turn, known in ratios.items():
        if not known:
            continue
        mean = prod(known) ** (1 / len(known))
        bound = "" if turn == "cpu" else " (at most 0.6)"
        lines.append(f"\ngeometric mean, {turn}: {mean:.2f} x{bound}")
    return "\n".join(lines)


def describe(runs: list[dict[str, Any]]) -> str:
    """Return how the workers of some runs fared."""
    counted = {what: sum(one[what] for one in runs) for what in COUNTS}
    failures = [one["failure"] for one in runs if "failure" in one]
    texts = [f"{n} {what}" for what, n in counted.items() if n]
    if failures:
        texts.append(f"{len(failures)} of {len(runs)} ended by {failures[0]}")
    return ", ".join(texts) or "no trouble"


def main() -> None:
    """Measure all kinds of work, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, help="take only so many of the items")
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.rounds, arguments.items)
        return
    found = {}
    for name in arguments.only or KINDS:
        command = [sys.executable, __file__, "--measure", name]
        command += ["--rounds", str(arguments.rounds)]
        if arguments.items:
            command += ["--items", str(arguments.items)]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(report({name: found[name]}), file=sys.stderr, flush=True)
    print(report(found))


if __name__ == "__main__":
    main()
