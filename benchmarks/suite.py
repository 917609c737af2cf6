"""The benchmark suite: every workload with every runner, in fresh processes.

`python benchmarks/suite.py` takes all of it, on an idle machine, prints the tables and
writes docs/benchmarks.md. Of a part of it (`--only`, `--runners`, `--quick`) a document
is written only if `--out` says where. Progress goes to stderr. It ends with 1 if a
runner failed or results differed, and with `--check` also if a limit isn't reached.
What it needs beyond the package is in its extra `bench`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from catalogue import WORKLOADS
from document import write_document
from limits import TITLES
from machine import describe_machine
from measured import Measured
from runners import expand
from turns import run_in_process, take_turns
from workload import Workload
from workloads.spinning import steps_of_1_ms

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=WORKLOADS,
        default=[],
        help=f"workloads: {', '.join(WORKLOADS)}",
    )
    parser.add_argument(
        "--runners",
        nargs="+",
        metavar="NAME",
        choices=TITLES,
        default=[],
        help=f"runners: {', '.join(TITLES)}",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="small inputs: no figures")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="end with 1 for a limit")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = parse_arguments(argv)
    workloads = [WORKLOADS[name] for name in arguments.only or WORKLOADS]
    runners = arguments.runners or list(TITLES)
    is_whole = not (arguments.only or arguments.runners or arguments.quick)
    out = arguments.out or (DOCUMENT if is_whole else None)
    machine = describe_machine()
    start_s = perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = partial(
            run_in_process,
            is_quick=arguments.quick,
            steps_per_ms=steps_of_1_ms(),
            limit_s=arguments.limit,
            folder=Path(folder),
        )
        rows = {
            workload.name: take_turns(
                workload, expand(runners, workload), arguments.rounds, run, report
            )
            for workload in workloads
        }
    measured = Measured(rows)
    seconds = perf_counter() - start_s
    text = write_document(measured, workloads, machine, arguments.rounds, seconds)
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    errors = measured.errors()
    for error in errors:
        report(f"FAILED {error}")
    return int(bool(errors) or (arguments.check and has_missed(measured, workloads)))


def has_missed(measured: Measured, workloads: Sequence[Workload]) -> bool:
    """Return whether a limit was measured and isn't reached."""
    return any(verdict.is_reached is False for verdict in measured.judge(workloads))


def report(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
