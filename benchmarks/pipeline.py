"""A pipeline against its bottleneck and against bags: `python benchmarks/pipeline.py`.

Pages of a loopback server that waits 20 ms are parsed, with 2 ms of computing for each,
and written to files. The bottleneck is the parsing; its ideal time is what it takes by
itself, one after the other in this process, divided by the cores. The server and the
other stages need the same cores: what all of them compute by themselves, divided by the
cores, is the floor that nothing can be below. Beside it the same as a bag under each of
Dask's schedulers, and by hand: executors of threads and of processes, with batches that
were tuned for this work. Their processes are forked from the caller, which takes next
to no time and isn't safe beside threads, or from a fork server. Rounds are interleaved,
each run in a fresh process, medians count, results are compared.

The pipeline is run in two ways: as if it had never run before, and `again`, with what
an earlier run has shown. One run before the first round shows it; it measures the
machine's costs, too. What is kept goes into a folder of the benchmark's own.

Files are written into shared memory where there is some, or into `--folder`. On a disk
with ext4 creating a file took up to 650 µs, for some minutes after thousands of others
had been deleted, as each round does and as tests do: it looks at each inode that was
freed lately and takes none of them. It is told what writing a file took.

With items of 5 MB under a limit of 200 MB the highest memory of all processes together
is looked at, shared memory included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import psutil
from pipeline_work import (
    Writer,
    fetch,
    fetch_all,
    make_large,
    parse,
    parse_all,
    shrink,
    turn_large,
)

# What the tests measure memory with.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from memory_meter import MemoryMeter

HERE = Path(__file__).parent
SERVER = HERE / "page_server.py"
DELAY_S = 0.02
N_ITEMS = 1000
N_AT_ONCE = 50
N_LARGE = 200
LIMIT_BYTES = 200_000_000
SHARED_MEMORY = Path("/dev/shm")

#: The ways in which the pipeline is run, and whether it goes by earlier runs.
KNOWN = {"pipeline": False, "again": True}

#: How processes are started by hand, and what suits this work then: threads, and items
#: of a batch that is fetched and of one that is parsed.
BY_HAND = ("fork", "forkserver")
N_THREADS, N_FETCHED, N_PARSED = 26, 2, 20


@contextmanager
def serve() -> Iterator[int]:
    """Run the server; give its port."""
    command = [sys.executable, str(SERVER), str(DELAY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def run_pipeline(port: int, folder: Path) -> list[int]:
    """Run the pipeline; return the numbers of the files."""
    from amorsize_dask import Pipeline

    pipeline = Pipeline([fetch, parse, Writer(folder)])
    numbers = list(pipeline.run((number, port) for number in range(N_ITEMS)))
    print(pipeline.report(), file=sys.stderr)
    return numbers


def run_by_hand(method: str, port: int, folder: Path) -> list[int]:
    """Run the same with executors, as one would write it."""
    write = Writer(folder)
    addresses = [(number, port) for number in range(N_ITEMS)]
    batches = [addresses[i : i + N_FETCHED] for i in range(0, N_ITEMS, N_FETCHED)]
    futures: list[Future[list[tuple[int, int]]]] = []
    n_cores = len(os.sched_getaffinity(0))
    with (
        ProcessPoolExecutor(n_cores, mp_context=get_context(method)) as processes,
        ThreadPoolExecutor(N_THREADS) as threads,
    ):
        # Before there are threads, which a fork would leave behind.
        processes.submit(os.getpid)
        pages: list[tuple[int, bytes]] = []
        for fetched in threads.map(fetch_all, batches):
            pages += fetched
            if len(pages) >= N_PARSED:
                futures.append(processes.submit(parse_all, pages))
                pages = []
        futures.append(processes.submit(parse_all, pages))
        return [write(result) for future in futures for result in future.result()]


def run_bag(scheduler: str, port: int, folder: Path) -> list[int]:
    """Run the same as a bag under one of Dask's schedulers."""
    import dask.bag as db

    addresses = [(number, port) for number in range(N_ITEMS)]
    bag = db.from_sequence(addresses, partition_size=1)
    bag = bag.map(fetch).map(parse).map(Writer(folder))
    return list(bag.compute(scheduler=scheduler))


def measure_alone(port: int, folder: Path) -> dict[str, float]:
    """Return the seconds of parsing all pages, and of all stages, by the cores."""
    write = Writer(folder)
    page = fetch((0, port))
    write(parse(page))
    (server,) = psutil.Process().children()
    # By the CPU's time, so that it holds on a machine that others use.
    start = time.process_time()
    results = [parse((number, page[1])) for number in range(N_ITEMS)]
    parse_s, start = time.process_time() - start, time.process_time()
    for result in results:
        write(result)
    others_s = write_s = time.process_time() - start
    # Many at a time, as in a pipeline: one by one the server would wake for each.
    threads = [
        Thread(target=fetch_all, args=([(0, port)] * (N_ITEMS // N_AT_ONCE),))
        for _ in range(N_AT_ONCE)
    ]
    start, server_start = time.process_time(), sum(server.cpu_times()[:2])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others_s += time.process_time() - start
    others_s += sum(server.cpu_times()[:2]) - server_start
    n_cores = len(os.sched_getaffinity(0))
    return {
        "seconds": parse_s / n_cores,
        "floor": (parse_s + others_s) / n_cores,
        "write": write_s / N_ITEMS,
    }


def run_large() -> dict[str, Any]:
    """Run large items through a pipeline; return the highest memory above idle."""
    from amorsize_dask import AmorsizeScheduler, Pipeline

    with (
        AmorsizeScheduler(memory_limit=LIMIT_BYTES) as scheduler,
        MemoryMeter() as meter,
    ):
        start = time.perf_counter()
        pipeline = Pipeline([make_large, turn_large, shrink], scheduler=scheduler)
        numbers = list(pipeline.run(iter(range(N_LARGE))))
        seconds = time.perf_counter() - start
    assert numbers == list(range(N_LARGE))
    return {"seconds": seconds, "peak": meter.peak_bytes}


def run_part(name: str, files: Path | None) -> None:
    """Run one thing in this process and print what was measured."""
    if name == "large":
        print(json.dumps(run_large()))
        return
    # Imports are the same for all, and no one's work.
    for module in ("dask.bag", "amorsize_dask.pipeline.pipeline"):
        import_module(module)
    with serve() as port, tempfile.TemporaryDirectory(dir=files) as folder:
        if name == "bottleneck":
            print(json.dumps(measure_alone(port, Path(folder))))
            return
        start = time.perf_counter()
        path = Path(folder)
        if name in KNOWN:
            numbers = run_pipeline(port, path)
        elif name in BY_HAND:
            numbers = run_by_hand(name, port, path)
        else:
            numbers = run_bag(name, port, path)
        seconds = time.perf_counter() - start
        assert numbers == list(range(N_ITEMS))
        totals = {file.read_text() for file in path.iterdir()}
        print(json.dumps({"seconds": seconds, "totals": sorted(totals)}))


def run_apart(name: str, files: Path | None, cache: str) -> dict[str, Any]:
    """Run one thing in a fresh process; return what it has printed."""
    command = [sys.executable, __file__, "--part", name]
    command += ["--folder", str(files)] if files is not None else []
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": cache,
        "DASK_AMORSIZE__HISTORY": str(KNOWN.get(name, False)),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run all things in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", help="run only this, here")
    parser.add_argument("--folder", type=Path, help="where files are written")
    arguments = parser.parse_args()
    files = arguments.folder
    if files is None and os.access(SHARED_MEMORY, os.W_OK):
        files = SHARED_MEMORY
    if arguments.part:
        run_part(arguments.part, files)
        return
    with tempfile.TemporaryDirectory() as cache:
        compare(arguments.rounds, files, cache)


def compare(n_rounds: int, files: Path | None, cache: str) -> None:
    """Run all things in turn, so many rounds, and print the table."""
    names = ["bottleneck", *KNOWN, *BY_HAND, "threads", "processes", "sync", "large"]
    seconds: dict[str, list[float]] = defaultdict(list)
    large: list[dict[str, Any]] = []
    floors: list[float] = []
    writes: list[float] = []
    totals: set[str] = set()
    run_apart("again", files, cache)
    for _ in range(n_rounds):
        for name in names:
            found = run_apart(name, files, cache)
            seconds[name].append(found["seconds"])
            totals.update(found.get("totals", ()))
            if name == "large":
                large.append(found)
            elif name == "bottleneck":
                floors.append(found["floor"])
                writes.append(found["write"])
    assert len(totals) == 1, f"different results: {totals}"
    medians = {name: median(found) for name, found in seconds.items()}
    for name, value in medians.items():
        print(f"{name:>10}  {value:8.3f} s")
    floor_s = median(floors)
    print(f"{'floor':>10}  {floor_s:8.3f} s")
    print(f"writing a file: {median(writes) * 1e6:.0f} µs")
    best = min(medians[name] for name in ("threads", "processes", "sync"))
    print(f"floor / bottleneck: {floor_s / medians['bottleneck']:.2f}")
    for name in KNOWN:
        print(f"{name} / bottleneck: {medians[name] / medians['bottleneck']:.2f}")
        print(f"{name} / floor: {medians[name] / floor_s:.2f}")
        print(f"best of Dask's / {name}: {best / medians[name]:.1f}")
    for name in BY_HAND:
        print(
            f"by hand, {name} / bottleneck: {medians[name] / medians['bottleneck']:.2f}"
        )
    peak = median(found["peak"] for found in large)
    print(f"memory above idle / limit: {peak / LIMIT_BYTES:.2f}")


if __name__ == "__main__":
    main()
