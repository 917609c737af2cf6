"""What holding a limit of memory costs where there is enough of it.

`python benchmarks/limit_cost.py` runs the workloads of the suite, each with a warm
scheduler as it is by default (`"auto"`: what is left on the machine is looked at, all
that is held and running is counted), with one whose limit is more than any machine has,
and with one whose core counts nothing. What workers and results measure of themselves
goes on in all three. Rounds are interleaved, each figure is from a fresh process,
medians count. The ratios are the default's seconds over those of the others: above 1 is
what it costs. With `--check` it ends with 1 if a mean ratio is above 1.03.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean

from catalogue import WORKLOADS
from machine import describe_machine
from turns import Entry, run_in_process, take_turns
from workloads.spinning import steps_of_1_ms

#: The default, and what it is compared with.
DEFAULT, OTHERS = "warm", ("unlimited", "uncounted")

#: Most that the default may take, as a ratio.
AT_MOST = 1.03


def ratios_of(entries: Mapping[str, Entry]) -> list[float | None]:
    """Return the default's seconds over those of each of the others."""
    ours = entries[DEFAULT]
    return [
        None
        if not (ours.seconds and entries[name].seconds)
        else (ours.median_s or 0) / (entries[name].median_s or 1)
        for name in OTHERS
    ]


def format_row(name: str, cells: Sequence[str]) -> str:
    """Return a line of the table."""
    return f"{name:>20}" + "".join(f"{cell:>12}" for cell in cells)


def format_ratio(ratio: float | None) -> str:
    """Return a ratio, or what stands for one that isn't known."""
    return "–" if ratio is None else f"{ratio:.3f}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    counted = [name for name, one in WORKLOADS.items() if one.is_counted]
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=WORKLOADS, default=counted
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--quick", action="store_true", help="small inputs: no figures")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--check", action="store_true", help="end with 1 for the limit")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print the table; return the exit code."""
    arguments = parse_arguments(argv)
    print(*describe_machine(), sep="\n")
    print(format_row("", ["auto", *(f"/ {name}" for name in OTHERS)]))
    rows: list[list[float | None]] = []
    has_failed = False
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = partial(
            run_in_process,
            is_quick=arguments.quick,
            steps_per_ms=steps_of_1_ms(),
            limit_s=arguments.limit,
            folder=Path(folder),
        )
        for name in arguments.only:
            entries = take_turns(
                WORKLOADS[name], [DEFAULT, *OTHERS], arguments.rounds, run, report
            )
            has_failed |= any(entry.error for entry in entries.values())
            rows.append(ratios_of(entries))
            seconds = entries[DEFAULT].median_s
            first = "–" if seconds is None else f"{seconds:.4f} s"
            print(format_row(name, [first, *map(format_ratio, rows[-1])]), flush=True)
    means = [
        geometric_mean(found) if (found := [r for r in column if r]) else None
        for column in zip(*rows, strict=True)
    ]
    print(format_row("geometric mean", ["", *map(format_ratio, means)]))
    is_above = any(mean is not None and mean > AT_MOST for mean in means)
    return int(has_failed or (arguments.check and is_above))


def report(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
