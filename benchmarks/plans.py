"""Are plans right? `python benchmarks/plans.py --out docs/plans.md`.

Workloads of `planned_work` are measured, in a process each, and those of
`simulated_work` simulated, on machines with up to 64 cores. What is compared with what
is said in the document that is printed, and written if `--out` says where. With
`--check` it ends with 1 if a limit isn't reached. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from machine import describe_machine
from planned_run import Found, run_part
from planned_table import Row, judge, make_row, write_document
from planned_work import WORKS
from simulated_plans import Found as Simulated
from simulated_plans import measure
from simulated_work import MACHINES
from simulated_work import WORKS as SIMULATED_WORKS


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", choices=WORKS, default=list(WORKS)
    )
    parser.add_argument(
        "--simulate",
        nargs="*",
        metavar="NAME",
        choices=SIMULATED_WORKS,
        default=list(SIMULATED_WORKS),
    )
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="end with 1 for a limit")
    parser.add_argument("--part", help="run only this one, here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = parse_arguments(argv)
    if arguments.part:
        print(json.dumps(run_part(arguments.part, arguments.rounds).as_dict()))
        return 0
    machine = describe_machine()
    start_s = perf_counter()
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name in arguments.only:
        report(f"{name} ...")
        try:
            rows.append(make_row(name, run_in_process(name, arguments.rounds)))
        except subprocess.CalledProcessError as error:
            failures[name] = error.stderr.strip().splitlines()[-1]
            report(error.stderr[-2000:])
    simulated: list[Simulated] = []
    for name in MACHINES if arguments.simulate else ():
        report(f"{name} ...")
        simulated += [measure(name, work) for work in arguments.simulate]
    seconds = perf_counter() - start_s
    text = write_document(rows, simulated, failures, machine, arguments.rounds, seconds)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    has_missed = any("**not" in line for line in judge(rows, simulated))
    return int(bool(failures) or (arguments.check and has_missed))


def run_in_process(name: str, n_rounds: int) -> Found:
    """Run one workload in a process of its own.

    Raises
    ------
    subprocess.CalledProcessError
        If that fails, with its stderr.
    """
    command = [sys.executable, __file__, "--part", name, "--rounds", str(n_rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Found.from_dict(json.loads(done.stdout))


def report(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
