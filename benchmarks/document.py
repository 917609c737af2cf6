"""What a suite has found, as a document."""

from __future__ import annotations

from collections.abc import Sequence

from limits import TITLES
from measured import NOTHING_STARTED, Measured
from table import (
    LOSS,
    describe_workload,
    format_limits,
    format_ratio,
    format_times,
)
from turns import SIT_OUT_RATIO
from workload import Workload

from amorsize_dask.core.units import format_seconds

#: What the geometric means must not be above.
MEANS = {"warm": 0.4, "cold": 0.6}

HOW = f"""\
Written by `python benchmarks/suite.py`, which takes {{n_rounds}} rounds. In a round the
runners take turns, each in a process of its own that ends before the next begins, and
their results are compared. Times are medians.

- What is timed is `compute` alone. The collection is built before the clock, and so is
  the input. Plain Python and joblib get the plain input.
- Before the clock each runner does the same workload once with other data, so that
  imports, caches and page faults are behind it and pools are up. No task of the timed
  run has the key of an earlier one. `processes` starts new workers for each compute:
  it rehearses with a small input, and so does joblib.
- "cold" is a new scheduler in a process in which only `sync` has run, on a small input.
  "warm" is the second compute of a scheduler.
- The best stock scheduler is the quickest of `sync`, `threads`, `processes`,
  `processes` with a warm pool and `chunksize=1`, and a LocalCluster that is up. "cold"
  is compared with these warm ones too.
- "by hand" is the quickest of the ways that are listed at the end.
- A star marks a runner that took over {SIT_OUT_RATIO:g} times as long as the quickest
  of its kind in the first round, and sat out the others.
- A run is ended when it takes too long: "> 60 s". A ratio to it is too large.
- Bold ratios are above {LOSS}: there this scheduler loses.
- Functions of tasks are imported from modules, so that all can send them by name.
- The geometric means leave out the workloads that force a lane: they would flatter.
  These are compared with stock schedulers of the same kind only.
"""


def write_document(
    measured: Measured,
    workloads: Sequence[Workload],
    machine: Sequence[str],
    n_rounds: int,
    seconds: float,
) -> str:
    """Return the whole document.

    Parameters
    ----------
    measured : Measured
        The figures.
    workloads : sequence of Workload
        The rows, in order.
    machine : sequence of str
        Lines about what the figures depend on.
    n_rounds : int
        Rounds that were run.
    seconds : float
        How long all took.
    """
    parts = [
        "# Benchmarks",
        HOW.format(n_rounds=n_rounds).rstrip(),
        "\n".join(f"- {line}" for line in machine)
        + f"\n- the suite took {format_seconds(seconds)}",
        "## In short",
        "\n".join(f"- {line}" for line in summarise(measured, workloads)),
        "## Times",
        format_times(measured, workloads),
        "## Limits",
        format_limits(measured, workloads),
        "## Workloads",
        "\n".join(f"- {describe_workload(measured, item)}" for item in workloads),
    ]
    errors = measured.errors()
    if errors:
        parts += ["## Failed or wrong", "\n".join(f"- {error}" for error in errors)]
    return "\n\n".join(parts) + "\n"


def summarise(measured: Measured, workloads: Sequence[Workload]) -> list[str]:
    """Return the geometric means, and what isn't reached."""
    lines = []
    for ours, at_most in MEANS.items():
        mean = measured.mean_ratio(workloads, ours)
        plain = measured.mean_ratio(workloads, ours, NOTHING_STARTED)
        if mean is None or plain is None:
            continue
        word = "reached" if mean[0] <= at_most else "**not reached**"
        lines.append(
            f"{ours}, geometric mean of {mean[1]} ratios to the best stock scheduler: "
            f"{format_ratio(mean[0])}, must be <= {at_most}: {word} (to the best of "
            f"{', '.join(TITLES[name] for name in NOTHING_STARTED)} alone: "
            f"{format_ratio(plain[0])})"
        )
    verdicts = measured.judge(workloads)
    known = [verdict for verdict in verdicts if verdict.is_reached is not None]
    missed = [verdict for verdict in known if not verdict.is_reached]
    lines.append(f"{len(known) - len(missed)} of {len(known)} limits are reached")
    lines += [
        f"not reached: `{verdict.workload.name}`, {verdict.limit.text} is "
        f"{format_ratio(verdict.figure)} and must be <= {verdict.limit.at_most:g}"
        for verdict in missed
    ]
    for ours in MEANS:
        slower = [
            f"`{workload.name}` ({format_ratio(ratio)})"
            for workload in workloads
            if (ratio := measured.ratio(workload.name, ours)) is not None
            and ratio > LOSS
        ]
        lines.append(
            f"{ours}, slower than the best stock scheduler: "
            f"{', '.join(slower) or 'nowhere'}"
        )
    return lines
