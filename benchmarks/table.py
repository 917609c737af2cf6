"""Tables in Markdown whose columns are aligned, so that a terminal shows them too."""

from __future__ import annotations

from collections.abc import Sequence

from limits import HAND, STOCK, TITLES
from measured import Measured
from runners import HAND_PREFIX
from turns import Entry
from workload import Workload

from amorsize_dask.core.units import format_seconds

#: What stands for a figure that there isn't.
NONE = "–"

#: A ratio to the best stock scheduler that is shown as a loss.
LOSS = 1.05

#: Columns of times, in order.
COLUMNS = (*STOCK, "joblib", HAND, "cold", "warm")


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], n_texts: int = 1
) -> str:
    """Return a table whose first columns are text and whose others are figures."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [
        "-" * width if i < n_texts else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < n_texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join(map(line, [head, rule, *rows]))


def format_times(measured: Measured, workloads: Sequence[Workload]) -> str:
    """Return the table of all times, and of ours against the best of others."""
    n_rounds = {
        workload.name: max(
            (len(entry.seconds) for entry in measured.rows[workload.name].values()),
            default=0,
        )
        for workload in workloads
    }

    def row(workload: Workload) -> list[str]:
        name = workload.name
        entries = measured.rows[name]
        cells = [f"`{name}`"]
        for runner in COLUMNS:
            shown = measured.quickest(name, [runner]) or runner
            cells.append(_format_entry(entries.get(shown), n_rounds[name]))
        return [
            *cells,
            _mark_loss(measured.ratio(name, "warm")),
            _mark_loss(measured.ratio(name, "cold")),
            format_ratio(measured.ratio(name, "warm", [HAND])),
        ]

    head = ["workload", *(TITLES[runner] for runner in COLUMNS)]
    head += ["warm / best stock", "cold / best stock", "warm / by hand"]
    return format_table(head, list(map(row, workloads)))


def format_limits(measured: Measured, workloads: Sequence[Workload]) -> str:
    """Return the table of what must be reached, and what is."""
    words = {None: "not measured", True: "yes", False: "**no**"}
    rows = [
        [
            f"`{verdict.workload.name}`",
            verdict.limit.text,
            f"<= {verdict.limit.at_most:g}",
            format_ratio(verdict.figure),
            words[verdict.is_reached],
        ]
        for verdict in measured.judge(workloads)
    ]
    return format_table(["workload", "what", "must be", "is", "reached"], rows, 2)


def describe_workload(measured: Measured, workload: Workload) -> str:
    """Say what a workload does, how long each way by hand took, and who is left out."""
    ways = [
        f"{name.removeprefix(HAND_PREFIX)} {_format_entry(entry, 0)}"
        for name, entry in measured.rows[workload.name].items()
        if name.startswith(HAND_PREFIX)
    ]
    reasons: dict[str, list[str]] = {}
    for runner, reason in workload.left_out.items():
        reasons.setdefault(reason, []).append(TITLES[runner])
    text = f"`{workload.name}`: {workload.title}."
    if ways:
        text += f" By hand: {'; '.join(ways)}."
    for reason, names in reasons.items():
        text += f" Without {', '.join(names)}: {reason}."
    return text


def format_ratio(ratio: float | None) -> str:
    """Return a ratio with three digits."""
    return NONE if ratio is None else f"{ratio:.3g}"


def _mark_loss(ratio: float | None) -> str:
    shown = format_ratio(ratio)
    return f"**{shown}**" if ratio is not None and ratio > LOSS else shown


def _format_entry(entry: Entry | None, n_rounds: int) -> str:
    """Return a median, with a star if it is that of fewer rounds than others ran."""
    if entry is None:
        return NONE
    if entry.error:
        return "**failed**"
    if entry.over_s is not None:
        return f"> {entry.over_s:g} s"
    assert entry.median_s is not None
    return format_seconds(entry.median_s) + "*" * (len(entry.seconds) < n_rounds)
