"""What work would take in clusters of any size, on the simulated machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import Any

from amorsize_dask.arguments import check_count
from amorsize_dask.cluster.work import measure_work
from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Costs, Lane, Limits, Machine, Workload
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.simulate.machine import simulate
from amorsize_dask.simulate.work import SimulatedTask

#: Seconds that Dask's scheduler takes to send a task to a worker and for its answer, as
#: long as the worker does, and those that it has to do with each task besides: together
#: half a millisecond, or 2000 tasks a second. Smaller: tasks of milliseconds seem to
#: scale to hundreds of workers; larger: they seem not to be worth a second one.
MESSAGES_S, TASK_S = 0.2e-3, 0.3e-3

#: Tasks of a stage that are simulated for each worker, and at least. Of more, several
#: are taken for one: the time is in how many rounds there are, not in how many tasks.
#: Smaller: the last round counts too much; larger: a curve takes seconds.
TASKS_A_WORKER, LEAST_TASKS = 8, 256

#: Numbers of workers up to which each is in a curve; beyond, steps of an eighth.
EACH_UP_TO = 16

#: Where a curve ends by default.
MOST_WORKERS = 256


def predict_makespans(
    work: Any,
    n_workers: Iterable[int] | None = None,
    *,
    n_cores: int | None = None,
) -> dict[int, float]:
    """Predict what work takes in clusters of so many workers with one thread each.

    Each is simulated, task by task: see `amorsize_dask.simulate`. The clusters are up,
    and stages follow one another.

    Parameters
    ----------
    work : object
        See `cluster_kwargs`.
    n_workers : iterable of int, optional
        Numbers of workers, >= 1. By default some from 1 to 256.
    n_cores : int, optional
        Cores of the machine, >= 1. By default each worker has one of its own, which
        shows how the work scales. ``os.cpu_count()`` shows what this machine makes of
        it.

    Returns
    -------
    dict of int to float
        Seconds by number of workers.

    Raises
    ------
    ArgumentError, BaseException
        See `cluster_kwargs`.

    Examples
    --------
    >>> makespans = predict_makespans((abs, range(1000)), [1, 2])
    >>> list(makespans)
    [1, 2]
    """
    counts = list_counts() if n_workers is None else list(n_workers)
    counts = [check_count("n_workers", n, 1) for n in counts]
    if n_cores is not None:
        n_cores = check_count("n_cores", n_cores, 1)
    stages = measure_work(work).stages
    costs = find_cluster_costs(measure_machine().costs)
    return {
        n: sum(simulate_stage(stage, n, n_cores or n, costs) for stage in stages)
        for n in counts
    }


def list_counts() -> list[int]:
    """Return the numbers of workers of a curve."""
    counts = [1]
    while counts[-1] < MOST_WORKERS:
        step = 1 if counts[-1] < EACH_UP_TO else counts[-1] // 8
        counts.append(min(MOST_WORKERS, counts[-1] + step))
    return counts


def find_cluster_costs(costs: Costs) -> Costs:
    """Return what a cluster of Dask's costs on a machine."""
    return replace(costs, batch_s=MESSAGES_S, task_s=TASK_S)


def simulate_stage(
    stage: Workload, n_workers: int, n_cores: int, costs: Costs
) -> float:
    """Return the seconds of a stage in a cluster that is up."""
    if not stage.n_tasks:
        return 0.0
    size = ceil(stage.n_tasks / max(LEAST_TASKS, TASKS_A_WORKER * n_workers))
    n = ceil(stage.n_tasks / size)
    # What is left over makes the last one smaller.
    scale = stage.n_tasks / n
    task = SimulatedTask(
        seconds=scale * stage.mean_s,
        cpu_fraction=stage.cpu_fraction,
        gil_fraction=stage.gil_fraction,
        in_bytes=round(scale * stage.in_bytes),
        out_bytes=round(scale * stage.out_bytes),
    )
    graph = Graph(
        dependencies=[()] * n,
        stage_of=[0] * n,
        n_stages=1,
        wanted=frozenset(range(n)),
    )
    machine = Machine(
        # Workers whose tasks wait may be more than there are cores to compute with.
        n_cores=max(n_cores, n_workers),
        n_physical_cores=n_cores,
        # Memory isn't what is looked at here.
        memory_bytes=1 << 62,
        # Each that is taken together with others is sent by itself all the same.
        costs=replace(
            costs,
            task_s=scale * costs.task_s + (scale - 1) * costs.batch_s,
        ),
    )
    limits = Limits(
        lanes=(Lane.PROCESSES,), isolate=True, max_workers=n_workers, max_batch_size=1
    )
    return simulate(graph, [task] * n, machine, limits, n_warm=n_workers).makespan_s
