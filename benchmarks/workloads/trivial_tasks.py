"""Graphs of tasks that do nothing: what a task costs, and whether that stays so."""

from __future__ import annotations

from by_hand import loop, pool
from limits import flat, microseconds_per_task
from workload import Graph, Job, Setting, Workload

#: Tasks of the graphs that show whether a task costs more where there are many.
SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: Computes of each that are timed: what is short is repeated.
N_REPEATS = {1_000: 21, 10_000: 5}


def do_nothing(item: int) -> int:
    """Return what it is given."""
    return item


def graph(data: range) -> Graph:
    """Return a graph with a task for each number."""
    dsk = {("nothing", number): (do_nothing, number) for number in data}
    return Graph(dsk, list(dsk))


def nothings(data: range) -> Job:
    """Return the job in plain Python."""
    return Job(do_nothing, data)


def make_20_000(setting: Setting, variant: int) -> range:
    """Return 20,000 numbers."""
    return range(variant, variant + setting.size(20_000, 200))


def flat_name(n_tasks: int) -> str:
    """Return the name of a workload of so many tasks."""
    return f"inline_{n_tasks}"


def inline(n_tasks: int) -> Workload:
    """Return the workload of so many tasks in the calling process."""
    return Workload(
        name=flat_name(n_tasks),
        title=f'{n_tasks:,} tasks that do nothing, with `lanes=("inline",)`',
        make=lambda setting, variant: range(
            variant, variant + setting.size(n_tasks, n_tasks // 500)
        ),
        collection=graph,
        job=nothings,
        by_hand={"loop": loop},
        limits=(flat(1.3, tuple(map(flat_name, SIZES))),) * (n_tasks == SIZES[-1]),
        left_out={
            **dict.fromkeys(
                ("threads", "processes", "pool", "cluster", "joblib"),
                "the lane is forced, and `sync` is its like",
            ),
            "cold": "no worker is started",
        },
        options={"lanes": ("inline",)},
        n_repeats=N_REPEATS.get(n_tasks, 1),
        is_long=n_tasks == SIZES[-1],
        is_counted=False,
        n_tasks=len,
    )


WORKLOADS = (
    Workload(
        name="trivial_in_processes",
        title='20,000 tasks that do nothing, with `lanes=("processes",)`',
        make=make_20_000,
        collection=graph,
        job=nothings,
        by_hand={"pool, chunks of 500": pool(500)},
        limits=(microseconds_per_task(15),),
        left_out={
            "sync": "processes are what it is about",
            "threads": "processes are what it is about",
        },
        options={"lanes": ("processes",)},
        is_counted=False,
        n_tasks=len,
    ),
    *map(inline, SIZES),
)
