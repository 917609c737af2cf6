"""One workload with one runner, in a process of its own: `run_one.py WORKLOAD RUNNER`.

Prints one line of JSON. The suite starts one such process for each figure, so that
no runner finds what another has left behind.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil
from catalogue import WORKLOADS
from digest import digest
from runners import Rehearsal, Runner, compute, find_runner
from workload import Setting, Workload

from amorsize_dask.measure.rss import read_peak_rss

#: Characters of a result that are shown if it differs from another.
PREVIEW_LENGTH = 200


def main() -> None:
    """Read the command line, run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("runner")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps-per-ms", type=int, default=10_000)
    parser.add_argument("--limit-s", type=float, default=60.0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    # Such as Dask's about large graphs, which is what some workloads are for.
    warnings.simplefilter("ignore")
    with ExitStack() as stack:
        folder = arguments.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory())
        )
        setting = Setting(
            is_quick=arguments.quick,
            steps_per_ms=arguments.steps_per_ms,
            folder=folder,
            stack=stack,
        )
        workload = WORKLOADS[arguments.workload]
        runner = find_runner(arguments.runner, workload)
        print(json.dumps(run(workload, runner, setting, arguments.limit_s)))


def run(
    workload: Workload, runner: Runner, setting: Setting, limit_s: float
) -> dict[str, Any]:
    """Rehearse, time, and return the figures."""
    # Before the runner is opened: what an input needs is not the runner's.
    rehearse = plan_rehearsal(workload, runner, setting)
    is_cold = runner.rehearsal is Rehearsal.OTHERS
    n_repeats = 1 if is_cold or setting.is_quick else workload.n_repeats
    inputs = [workload.make(setting, 1 + i) for i in range(n_repeats)]
    n_tasks = workload.n_tasks(inputs[0]) if workload.n_tasks else None
    me = psutil.Process()
    before = set(me.children(recursive=True))
    seconds: list[float] = []
    digests: list[str] = []
    preview, peak_bytes = "", 0
    with runner.open(workload) as do:
        start_timer(limit_s)
        rehearse(do)
        # Once, not between repeats: it walks all that was imported, and what it throws
        # out of the processor's caches takes a millisecond to come back.
        gc.collect()
        while inputs:
            prepared = runner.prepare(workload, inputs.pop(0))
            start_timer(limit_s)
            start_s = perf_counter()
            result = do(prepared)
            seconds.append(perf_counter() - start_s)
            stop_timer()
            if not digests:
                peak_bytes = read_peak_rss()
            result = workload.normalise(result)
            digests.append(digest(result))
            preview = preview or repr(result)[:PREVIEW_LENGTH]
            del prepared, result
        n_processes = len(set(me.children(recursive=True)) - before)
    return {
        "seconds": median(seconds),
        "digests": digests,
        "preview": preview,
        "peak_bytes": peak_bytes,
        "n_processes": n_processes,
        "n_tasks": n_tasks,
    }


def plan_rehearsal(
    workload: Workload, runner: Runner, setting: Setting
) -> Callable[[Callable[[Any], Any]], None]:
    """Make what is run before the clock, and return how."""
    is_whole = runner.rehearsal is Rehearsal.WHOLE and not workload.is_long
    part = replace(setting, is_quick=setting.is_quick or not is_whole)
    data = [workload.make(part, 0)]

    def rehearse(do: Callable[[Any], Any]) -> None:
        if runner.rehearsal is Rehearsal.OTHERS:
            compute(workload.collection(data.pop()), scheduler="sync")
        else:
            do(runner.prepare(workload, data.pop()))

    return rehearse


def start_timer(limit_s: float) -> None:
    """End this process when the seconds are over, saying so."""

    def end(*_: object) -> None:
        print(json.dumps({"over_s": limit_s}), flush=True)
        # What runs can't be asked to stop; the suite ends its processes.
        os._exit(0)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)


def stop_timer() -> None:
    """Let this process take its time again."""
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
