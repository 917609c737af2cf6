"""What is shown in a terminal."""

from __future__ import annotations

from io import StringIO

import dask
from rich.console import Console

from amorsize_dask.core.experience import Experience
from amorsize_dask.core.model import Costs
from amorsize_dask.demo import DemoRun
from amorsize_dask.measure.history import Entry
from amorsize_dask.measure.load import CoreUse, Load, Pressure
from amorsize_dask.measure.memory import MemoryLimit
from amorsize_dask.measure.numa import Node
from amorsize_dask.report import (
    show_progress,
    tabulate_costs,
    tabulate_demo,
    tabulate_history,
    tabulate_limits,
    tabulate_surroundings,
)

GRAPH = {"a": (abs, -1), "b": (abs, "a"), "c": (abs, "b")}


def test_seconds_are_compared_with_the_best_of_dasks() -> None:
    """A run's ratio is to the fastest run without a record, even if it is faster."""
    runs = [
        DemoRun(name="sync", seconds=3.0, counts=[1000, 2000]),
        DemoRun(name="threads", seconds=2.0, counts=[1000, 2000]),
    ]
    console = Console(file=StringIO(), width=80)
    with console.capture() as capture:
        console.print(tabulate_demo(runs))
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["│", "sync", "│", "3.00", "│", "1.50", "│", "3,000", "│"] in lines
    assert ["│", "threads", "│", "2.00", "│", "1.00", "│", "3,000", "│"] in lines


def test_what_binds_is_marked() -> None:
    """Of cores and of memory that which leaves the least."""
    memory = [MemoryLimit("system", 8 * 10**9), MemoryLimit("cgroup /a", -5)]
    console = Console(file=StringIO(), width=80)
    with console.capture() as capture:
        console.print(tabulate_limits({"affinity": 4, "cgroup quota": 2}, memory))
    lines = [line.split() for line in capture.get().splitlines()]
    assert ["│", "cores", "│", "affinity", "│", "4", "│", "│"] in lines
    assert ["│", "cores", "│", "cgroup", "quota", "│", "2", "│", "*", "│"] in lines
    assert ["│", "memory", "│", "system", "│", "8", "GB", "│", "│"] in lines
    assert ["│", "memory", "│", "cgroup", "/a", "│", "0", "B", "│", "*", "│"] in lines


def test_what_does_not_bind_is_told_as_well() -> None:
    """Physical cores, hints, nodes, and what others use."""
    nodes = [
        Node(0, frozenset({0, 1}), 8 * 10**9, 3 * 10**9, is_allowed=True),
        Node(1, frozenset({2, 3}), 8 * 10**9, 7 * 10**9, is_allowed=False),
    ]
    load = Load(cores=(CoreUse("cores", 2, 0.7),), memory=Pressure("system", 0.1))
    console = Console(file=StringIO(), width=120)
    with console.capture() as capture:
        console.print(tabulate_surroundings(1, {"OMP_NUM_THREADS": 4}, nodes, load))
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()
    ]
    assert lines[4:-1] == [
        "physical cores 1",
        "OMP_NUM_THREADS 4 threads in each process",
        "NUMA node 0 2 cores, 3 GB of 8 GB",
        "NUMA node 1 2 cores, 7 GB of 8 GB, not for this process",
        "used by others: cores 0.7 of 2, with respect_load left to them",
        "waiting for memory: system 10.0% of the time, with respect_load 50% of the "
        "memory is taken",
    ]


def test_costs_say_whether_they_were_measured() -> None:
    """Each has a row, in a unit that suits it."""
    console = Console(file=StringIO(), width=80)
    with console.capture() as capture:
        console.print(tabulate_costs(Costs(boot_first_s=0.07, bytes_per_s=2e9)))
    text = capture.get()
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == len(Costs.__slots__)
    assert "70 ms │ measured" in rows[0]
    assert "500 ms │ measured" in rows[-2]
    assert "2 s │ assumed" in rows[-1]
    assert text.count("assumed") == len(rows) - 2


def test_bar_counts_finished_tasks() -> None:
    """The bar of a compute ends at the number of its tasks."""
    file = StringIO()
    with show_progress(Console(file=file, force_terminal=True, width=80), "sync"):
        dask.get(GRAPH, "c")
    assert "sync" in file.getvalue()
    assert "3/3" in file.getvalue()


def test_bar_is_not_drawn_into_a_file() -> None:
    """Output that isn't a terminal gets no bar."""
    file = StringIO()
    with show_progress(Console(file=file), "sync"):
        assert dask.get(GRAPH, "c") == 1
    assert file.getvalue() == ""


def test_names_of_stages_are_shown_as_they_are() -> None:
    """Keys may be any text: markup, or what can't be printed."""
    seen = Experience(
        n_items=7,
        mean_s=0.1,
        std_s=0.0,
        cpu_fraction=1.0,
        gil_fraction=None,
        in_bytes=0.0,
        out_bytes=0.0,
        held_bytes=0.0,
        pack_s=0.0,
        peak_bytes=0.0,
    )
    names = ["[/load]", "[bold]load", "\ud800"]
    entries = {f"f{i}": Entry(name, seen) for i, name in enumerate(names)}
    console = Console(file=StringIO(), width=120)
    with console.capture() as capture:
        console.print(tabulate_history(entries))
    rows = [line.split()[1] for line in capture.get().splitlines() if "│" in line]
    assert rows == ["?", "[bold]load", "[/load]"]
