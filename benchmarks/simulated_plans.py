"""Are plans right on machines of any size? A part of `python benchmarks/plans.py`.

What `optimize` would sample of each workload of `simulated_work` is taken, by its own
rules, from simulated items. What it then recommends is run on a simulated machine, and
so is a grid of everything else that could have been recommended:

- pool: `n_jobs` and `chunksize`, over the best of the grid whose processes fit into
  memory together, a loop included
- bag: partitions of that size under this scheduler, over the best of other sizes
- predicted: seconds that were predicted for the pool, for `compute`, and by the
  scheduler for the bag when a tenth of it was done, over those that it takes

For functions that wait, `n_jobs` is 1 by design, and `compute` stands for the pool.
Nothing here is random or timed: figures are the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from statistics import fmean
from typing import Any

from simulated_work import MACHINES, WORKS

from amorsize_dask.core.experience import NOTHING_KNOWN, Experience
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import WAITING_FRACTION, Lane, Limits, Machine, Workload
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.execute.batch import BatchResult
from amorsize_dask.planning.choice import (
    RUN_S,
    Choice,
    choose_lane,
    choose_partitions,
)
from amorsize_dask.planning.execution import choose_n_pieces
from amorsize_dask.planning.optimize import CHUNK_S
from amorsize_dask.planning.pools import FORK_S, choose_pool
from amorsize_dask.planning.sample import Sample, Sampling
from amorsize_dask.simulate.machine import SimulatedRun, simulate
from amorsize_dask.simulate.pool import simulate_pool
from amorsize_dask.simulate.work import SimulatedPartition, SimulatedTask

Tasks = Sequence[SimulatedTask]

#: Numbers of partitions that are tried.
PARTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

#: Chunks of a pool above which a grid isn't tried: each costs a message, and of very
#: short items it takes long to simulate what can't be the best.
MOST_CHUNKS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of one workload on one machine."""

    machine: str
    work: str
    #: What was recommended.
    plan: str
    #: Seconds of the pool as recommended (of `compute` if items wait) and of the best
    #: of the grid, which is named; the same for partitions of bags.
    pool_s: float
    best_pool_s: float
    best_pool: str
    bag_s: float
    best_bag_s: float
    best_bag: str
    #: Seconds predicted for the pool and for `compute`, over those taken.
    pool_predicted: float
    compute_predicted: float
    #: What the scheduler predicted when a tenth of the bag was done, over what it took.
    early_predicted: float | None

    @property
    def pool(self) -> float:
        """The pool's seconds over those of the best."""
        return self.pool_s / self.best_pool_s

    @property
    def bag(self) -> float:
        """The bag's seconds over those of the best."""
        return self.bag_s / self.best_bag_s


class Item(float):
    """An item, of which no more is seen than its size."""

    task: SimulatedTask

    @classmethod
    def of(cls, task: SimulatedTask) -> Item:
        """Return an item that takes what a task takes."""
        item = cls(task.size)
        item.task = task
        return item


class SimulatedTrial:
    """Stands for the thread that a sample is tried in."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.gil_fraction: float | None = None
        self.n_busy_cores = 1.0

    def call(self, places: Sequence[int], items: Sequence[Item]) -> BatchResult:
        """Take what the items take."""
        tasks = [item.task for item in items]
        outcomes = [self._take(p, [t]) for p, t in zip(places, tasks, strict=True)]
        self._watch(tasks)
        return BatchResult(outcomes=outcomes, values=[None] * len(items))

    def call_other(self, func: Any, items: Sequence[Item]) -> BatchResult:
        """Take what a group of items takes, as one."""
        func(items)
        tasks = [item.task for item in items]
        self._watch(tasks)
        return BatchResult(outcomes=[self._take(0, tasks)], values=[None])

    def _take(self, place: int, tasks: Tasks) -> Outcome:
        seconds = sum(task.seconds for task in tasks)
        self.seconds += seconds
        cpu_s = sum(task.seconds * task.cpu_fraction for task in tasks)
        return Outcome(place, seconds, cpu_s)

    def _watch(self, tasks: Tasks) -> None:
        seconds = sum(task.seconds for task in tasks)
        self.gil_fraction = None
        if seconds > 0.003:
            gil_s = sum(task.seconds * task.gil_fraction for task in tasks)
            self.gil_fraction = gil_s / seconds


def sample(tasks: Tasks) -> tuple[Sample, Workload]:
    """Return what `optimize` would know of items, and for all of them."""
    items = list(map(Item.of, tasks))
    sampling = Sampling(lambda item: None, items, len(tasks), len(tasks), 1)
    trial = SimulatedTrial()
    n = 1
    while n:
        sampling.try_out(trial, n)  # type: ignore[arg-type]
        n = sampling.count_next(trial.seconds)
    sampling.expect_each()
    found = sampling.sample
    tried = [tasks[place] for place in found.values]
    workload = replace(
        found.workload(len(tasks)),
        in_bytes=fmean(task.in_bytes for task in tried),
        out_bytes=fmean(task.out_bytes for task in tried),
        peak_bytes=max(task.peak_bytes for task in tried),
    )
    return found, workload


def run_bag(
    tasks: Tasks, size: int, machine: Machine, *, known: Experience | None = None
) -> SimulatedRun:
    """Compute a bag of items in partitions of a size under this scheduler."""
    parts = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    n = len(parts)
    graph = Graph(
        dependencies=[()] * n,
        stage_of=[0] * n,
        n_stages=2,
        wanted=frozenset(range(n)),
        caller_stages=frozenset({1}),
        n_items=[len(part) for part in parts],
        rest_stage=1,
        sized_stages=frozenset({0}),
    )
    recalled = NOTHING_KNOWN if known is None else {0: known}
    whole = [SimulatedPartition(part) for part in parts]
    return simulate(graph, whole, machine, recalled=recalled)


def list_counts(most: int) -> list[int]:
    """Return 1 to `most`, in steps that grow from 8 on."""
    counts = [1]
    while counts[-1] < most:
        counts.append(min(most, counts[-1] + max(1, counts[-1] // 8)))
    return counts


def list_sizes(n_items: int, n_parts: int) -> list[int]:
    """Return sizes of chunks: by half again from 1 on, and some even shares."""
    sizes = {ceil(n_items / (n_parts * n)) for n in (1, 2, 3, 4, 6, 8)}
    size = 1
    while size < n_items:
        sizes.add(size)
        size = max(size + 1, size * 3 // 2)
    return sorted(sizes)


def find_best_pool(tasks: Tasks, machine: Machine) -> tuple[float, str]:
    """Return the seconds of the best pool that fits into memory, and which it is."""
    best_s, best = inf, ""
    for n_jobs in list_counts(machine.n_physical_cores):
        for size in list_sizes(len(tasks), n_jobs) if n_jobs > 1 else [1]:
            if n_jobs > 1 and len(tasks) / size > MOST_CHUNKS:
                continue
            run = simulate_pool(tasks, machine, n_jobs, size)
            if run.peak_bytes <= machine.memory_bytes and run.makespan_s < best_s:
                best_s, best = run.makespan_s, f"{n_jobs} x {size}"
    return best_s, best


def measure(machine_name: str, work_name: str) -> Found:
    """Hold what is recommended for some work on a machine against all else."""
    tasks, machine = WORKS[work_name](), MACHINES[machine_name]
    n = len(tasks)
    found, workload = sample(tasks)
    n_pieces = choose_n_pieces(n, machine.n_cores, workload.mean_s)
    left = replace(
        workload, n_tasks=n - found.n_tried, n_items_a_task=max(1.0, n / n_pieces)
    )
    choice = choose_lane(left, machine, Limits(), Limits().allowed_lanes)
    compute_s = _compute(tasks, found, workload, choice, machine)
    first_s, next_s = FORK_S
    costs = replace(machine.costs, boot_first_s=first_s, boot_next_s=next_s)
    pool = choose_pool(
        workload,
        machine,
        Limits(),
        target_chunk_s=CHUNK_S,
        may_wait=choice.lane is Lane.PROCESSES,
        costs=costs,
        each_s=found.each_s,
    )
    machine_of_pools = replace(machine, costs=costs)
    planned = simulate_pool(tasks, machine_of_pools, pool.n_jobs, pool.chunksize)
    pool_s = planned.makespan_s if planned.peak_bytes <= machine.memory_bytes else inf
    if pool.n_jobs == 1 and workload.cpu_fraction <= WAITING_FRACTION:
        pool_s = compute_s
    best_pool_s, best_pool = find_best_pool(tasks, machine_of_pools)
    size, n_partitions = choose_partitions(workload, choice.n_workers, CHUNK_S)
    sizes = {size, *(ceil(n / n_parts) for n_parts in PARTS)}
    runs = {each: run_bag(tasks, each, machine) for each in sizes}
    bags = {each: run.makespan_s for each, run in runs.items()}
    # None if the run was over before.
    early_s = runs[size].early_predicted_s
    best_bag = min(bags, key=bags.__getitem__)
    return Found(
        machine=machine_name,
        work=work_name,
        plan=f"{pool.n_jobs} x {pool.chunksize}, {choice.lane} x {choice.n_workers}, "
        f"{n_partitions} partitions of {size}",
        pool_s=pool_s,
        best_pool_s=best_pool_s,
        best_pool=best_pool,
        bag_s=bags[size],
        best_bag_s=bags[best_bag],
        best_bag=str(best_bag),
        pool_predicted=pool.predicted_s / planned.makespan_s,
        compute_predicted=_predict(choice) / compute_s if compute_s else 1.0,
        early_predicted=None if early_s is None else early_s / bags[size],
    )


def _predict(choice: Choice) -> float:
    return choice.predicted_s + (RUN_S if choice.lane is not Lane.INLINE else 0.0)


def _compute(
    tasks: Tasks, found: Sample, workload: Workload, choice: Choice, machine: Machine
) -> float:
    """Return the seconds of what wasn't sampled, run as `Plan.compute` does it."""
    tried = set(found.values)
    others = [task for place, task in enumerate(tasks) if place not in tried]
    if not others or choice.lane is Lane.INLINE:
        return sum(task.seconds for task in others)
    known = Experience(
        n_items=len(others),
        mean_s=workload.mean_s,
        std_s=workload.std_s,
        cpu_fraction=workload.cpu_fraction,
        gil_fraction=found.statistics.gil_fraction,
        in_bytes=workload.in_bytes,
        out_bytes=workload.out_bytes,
        peak_bytes=workload.peak_bytes,
    )
    n_pieces = choose_n_pieces(len(others), machine.n_cores, workload.mean_s)
    size = ceil(len(others) / n_pieces)
    return RUN_S + run_bag(others, size, machine, known=known).makespan_s
