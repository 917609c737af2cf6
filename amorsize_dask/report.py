"""Finished runs in a terminal: tables, and bars while they go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from amorsize_dask.core.model import Costs
from amorsize_dask.core.units import format_bytes, format_seconds
from amorsize_dask.demo import DemoRun
from amorsize_dask.measure.history import Entry
from amorsize_dask.measure.load import Load
from amorsize_dask.measure.memory import MemoryLimit
from amorsize_dask.measure.numa import Node

#: Times per second that a bar is drawn. Smaller: it looks stuck; larger: drawing takes
#: the GIL from the tasks that are being timed.
REFRESH_PER_S = 4


#: What Dask hands to callbacks: the graph, and which task is in which state.
Graph = Mapping[Any, Any]
State = Mapping[str, Any]


class _Bar(Callback):
    """Moves a bar on with each task that is done, under any scheduler."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def _start_state(self, dsk: Graph, state: State) -> None:
        self._show(state)

    def _posttask(
        self, key: Any, result: Any, dsk: Graph, state: State, worker_id: Any
    ) -> None:
        self._show(state)

    def _show(self, state: State) -> None:
        n_finished = len(state["finished"])
        n_left = sum(len(state[name]) for name in ("waiting", "ready", "running"))
        self._progress.update(
            self._task, completed=n_finished, total=n_finished + n_left
        )


@contextmanager
def show_progress(console: Console, name: str) -> Iterator[None]:
    """Show a bar for the computes that are made inside of this context.

    Parameters
    ----------
    console : Console
        Where to draw; nothing is drawn if it isn't a terminal.
    name : str
        What to call the bar.
    """
    progress = Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tasks"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=REFRESH_PER_S,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress, _Bar(progress, progress.add_task(name, total=None)):
        yield


def tabulate_demo(runs: Sequence[DemoRun]) -> Table:
    """Return a table of the seconds of each run, and how they compare.

    Parameters
    ----------
    runs : sequence of DemoRun
        At least one. Runs without a record are Dask's; the fastest of them is what
        all are compared with.

    Returns
    -------
    Table
        One row for each run.
    """
    best_s = min(run.seconds for run in runs if run.record is None)
    table = Table("scheduler", title="The standard library, parsed")
    for heading in ("seconds", "times the best of Dask's", "AST nodes"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            run.name,
            f"{run.seconds:.2f}",
            f"{run.seconds / best_s:.2f}",
            f"{sum(run.counts):,}",
        )
    return table


def tabulate_limits(cores: Mapping[str, int], memory: Sequence[MemoryLimit]) -> Table:
    """Return a table of what limits a run, with a mark at what limits it most.

    Parameters
    ----------
    cores : mapping of str to int
        Cores by what grants them, at least one.
    memory : sequence of MemoryLimit
        At least one.

    Returns
    -------
    Table
        One row for each limit.
    """
    table = Table("what", "limit", title="What a run may take here")
    table.add_column("leaves", justify="right")
    table.add_column("binds", justify="center")
    for name, n in cores.items():
        is_binding = n == min(cores.values())
        table.add_row("cores", name, str(n), "*" if is_binding else "")
    least_bytes = min(limit.left_bytes for limit in memory)
    for limit in memory:
        is_binding = limit.left_bytes == least_bytes
        left = format_bytes(max(0, limit.left_bytes))
        table.add_row("memory", limit.name, left, "*" if is_binding else "")
    return table


def tabulate_surroundings(
    n_physical_cores: int,
    hints: Mapping[str, int],
    nodes: Sequence[Node],
    load: Load,
) -> Table:
    """Return a table of what is known of a machine and doesn't limit a run by itself.

    Parameters
    ----------
    n_physical_cores : int
        Distinct physical cores among those that may be used.
    hints : mapping of str to int
        Threads that libraries may start in a process, by what says so.
    nodes : sequence of Node
        NUMA nodes.
    load : Load
        What others use.

    Returns
    -------
    Table
        One row for each fact.
    """
    table = Table("what", "is", title="What else is known")
    table.add_row("physical cores", str(n_physical_cores))
    for name, n in hints.items():
        table.add_row(name, f"{n} threads in each process")
    for node in nodes:
        text = (
            f"{len(node.cores)} cores, {format_bytes(node.available_bytes)} of "
            f"{format_bytes(node.total_bytes)}"
        )
        if not node.is_allowed:
            text += ", not for this process"
        table.add_row(f"NUMA node {node.number}", text)
    for use in load.cores:
        text = f"{use.by_others:.1f} of {use.n_cores:g}, with respect_load left to them"
        table.add_row(f"used by others: {use.name}", text)
    if load.memory is not None:
        text = (
            f"{load.memory.fraction:.1%} of the time, with respect_load "
            f"{load.memory_fraction:.0%} of the memory is taken"
        )
        table.add_row(f"waiting for memory: {load.memory.name}", text)
    return table


def tabulate_history(entries: Mapping[str, Entry]) -> Table:
    """Return a table of what earlier runs have shown.

    Parameters
    ----------
    entries : mapping of str to Entry
        By fingerprint, those that ran last at the end.

    Returns
    -------
    Table
        One row for each stage, those that ran last first.
    """
    table = Table("stage", "functions", title="What is known from earlier runs")
    for heading in ("items", "each", "CPU", "GIL", "in", "out", "peak"):
        table.add_column(heading, justify="right")
    for fingerprint, entry in reversed(list(entries.items())):
        seen = entry.experience
        gil = "?" if seen.gil_fraction is None else f"{seen.gil_fraction:.0%}"
        table.add_row(
            _show_name(entry.name),
            fingerprint,
            f"{seen.n_items:,}",
            format_seconds(seen.mean_s),
            f"{seen.cpu_fraction:.0%}",
            gil,
            *map(format_bytes, (seen.in_bytes, seen.out_bytes, seen.peak_bytes)),
        )
    return table


def _show_name(name: str) -> Text:
    """Return a stage's name as it is: it may look like markup, or be no text at all."""
    return Text(name.encode("utf-8", "replace").decode())


#: What the costs are called, in the order of the table.
COST_NAMES = {
    "boot_first_s": "start the first worker process",
    "import_dask_s": "have it import Dask before",
    "boot_next_s": "start a further one",
    "batch_s": "send a worker process a batch",
    "echo_s": "hear back from one",
    "task_s": "send it a task among others",
    "item_s": "send it an item of a list",
    "thread_start_s": "start a thread",
    "hand_off_s": "give it a batch",
}
MOVED = {
    "bytes_per_s": "move 1 GB to or from a worker process",
    "load_bytes_per_s": "copy 1 GB into memory that is new",
}


def tabulate_costs(costs: Costs) -> Table:
    """Return a table of what moving work costs.

    Parameters
    ----------
    costs : Costs
        What it costs. What is the same as in ``Costs()`` hasn't been measured.

    Returns
    -------
    Table
        One row for each cost.
    """
    table = Table("to", title="What work costs beyond itself")
    table.add_column("takes", justify="right")
    table.add_column("as")
    usual = Costs()
    takes = {name: format_seconds(getattr(costs, name)) for name in COST_NAMES}
    takes |= {name: format_seconds(1e9 / getattr(costs, name)) for name in MOVED}
    for name, text in {**COST_NAMES, **MOVED}.items():
        is_usual = getattr(costs, name) == getattr(usual, name)
        table.add_row(text, takes[name], "assumed" if is_usual else "measured")
    return table
