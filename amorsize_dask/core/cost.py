"""The cost model: what running a workload in some lane is predicted to take.

Kept in step with ``docs/explanation/cost-model.md``.

Symbols: R tasks left, each of t seconds with deviation s; c and g, the shares of t
in which a task computes and holds the GIL; q, the seconds of t in which it may have
waited for others in the caller; P cores (the physical ones, once tasks compute); n
workers. d is what dispatching a task costs, i.e. what a batch of the lane takes beside
its tasks, over their number: of a worker process, and of the caller as much. x is
what each side, worker and caller, needs to move it: b bytes that
travel, at v a second, or the p seconds that pickling them takes, if these are more, and
the handling of it as an object; where tasks are k items each, all of this is by item,
and one that isn't a task of its own is handled for less::

    x = max(b/v, p) + max(task_s / k, item_s if k > 1)

Equal tasks take ceil(R / n) rounds. Uneven
ones let the workers drift apart, by f, the more the more rounds there are. The end of
a run leaves workers that are apart idle for about half a task, longer if tasks are
uneven::

    rounds(R, n, t) = max( ceil(R / n) t,  R t / n + f (1 - 1/n) (t/2 + s^2/(2 t)) )
    f = min(1, s/t sqrt(R / n))

    inline      R t

    threads     m start + n r + max( rounds(R, n, t + w + d),  each thread by itself
                                     R (t g (1 + h) + d),      one GIL, handed over
                                     R t c / P )               P cores

    processes   B + n r + max( rounds(R', n, t - q + x + d),   each worker by itself
                               R' (x + d),                     the caller feeds them
                               R' (t c + 2 x + 2 d) / P )      P cores

    cluster     r + max( rounds(R, n, t - q + x + y/k'),     each thread by itself
                         R t g (1 + h) / w,                  one GIL in each worker
                         R (x + y/k'),                       all are fed from here
                         R (t c + 2 x) / P )                 P cores, the cluster's

Tasks that mostly wait and begin together want the GIL together as well: w = (n - 1) t g
for these, and 0 for others.

A cluster is up, and has costs of its own: v and r, and y, what each batch of k' tasks
takes of the caller and of the one who hands them on. n threads are in w workers.

m workers are still to be started. B is the time until all are up (0 if they are), r
what a batch of the lane takes beside its tasks, which each worker's first one pays.
During B
the u workers that are up already work; another comes up every e seconds and works; and
the caller does what feeding them leaves it time for, if it may. So R' tasks are left::

    R' = R - W - C          W = (u B + e m (m - 1)/2) / (t - q + x),
                                at most what the caller can feed meanwhile
                            C = ceil((B - W x) / t)

The caller ends what it has begun, so C t is the least that it takes. If none are left,
those who work from the start do it all, as far as the caller can feed them, or it takes
until B.

Every term is a time that comes from the arguments: if all times are scaled, so is the
answer. There is no constant with a unit in here.
"""

from __future__ import annotations

from math import ceil, inf, sqrt

from amorsize_dask.core.batch_size import choose_batch_size
from amorsize_dask.core.model import (
    Cluster,
    Costs,
    Lane,
    Machine,
    Prediction,
    Workload,
)


def predict(
    workload: Workload,
    machine: Machine,
    lane: Lane,
    n_workers: int,
    *,
    n_up: int = 0,
    caller_helps: bool = True,
    target_batch_s: float = float("inf"),
) -> Prediction:
    """Predict makespan and peak memory of a workload in a lane.

    Parameters
    ----------
    workload : Workload
        The work that is left.
    machine : Machine
        The host and its costs.
    lane : Lane
        Where to run it.
    n_workers : int
        Threads or processes, >= 1. Ignored for the inline lane. Of the lane cluster
        the threads of its workers; `machine` must have one.
    n_up : int, optional
        How many of these are running already, >= 0.
    caller_helps : bool, optional
        Whether the caller works while worker processes boot.
    target_batch_s : float, optional
        Seconds that a batch should take at most, > 0.

    Returns
    -------
    Prediction
        Seconds until the last result, and bytes at the peak.
    """
    n_tasks, mean_s = workload.n_tasks, workload.mean_s
    if lane is Lane.INLINE:
        n_workers, makespan_s = 1, n_tasks * mean_s
    elif lane is Lane.THREADS:
        makespan_s = _predict_threads(
            workload, machine, n_workers, n_up, target_batch_s
        )
    elif lane is Lane.CLUSTER:
        assert machine.cluster is not None
        makespan_s = _predict_cluster(
            workload, machine.costs, machine.cluster, n_workers, target_batch_s
        )
    else:
        makespan_s = _predict_processes(
            workload, machine, n_workers, n_up, caller_helps, target_batch_s
        )
    return Prediction(
        lane=lane,
        n_workers=n_workers,
        makespan_s=makespan_s,
        peak_bytes=n_workers * workload.peak_bytes,
    )


def boot_s(costs: Costs, n_workers: int, n_up: int) -> float:
    """Seconds until `n_workers` processes are up, `n_up` of them being so already."""
    n_missing = max(0, n_workers - n_up)
    if not n_missing:
        return 0.0
    if n_up:
        return n_missing * costs.boot_next_s
    return costs.boot_first_s + (n_missing - 1) * costs.boot_next_s


def move_s(workload: Workload, costs: Costs, bytes_per_s: float | None = None) -> float:
    """Seconds that worker and caller each need to move an item of work, x above."""
    handling_s = costs.task_s / workload.n_items_a_task
    if workload.n_items_a_task > 1:
        handling_s = max(handling_s, costs.item_s)
    n_bytes = workload.in_bytes + workload.out_bytes
    bytes_s = n_bytes / (bytes_per_s or costs.bytes_per_s)
    return max(bytes_s, workload.pack_s) + handling_s


def usable_cores(workload: Workload, machine: Machine) -> int:
    """Cores that help: two tasks that compute on one physical core gain little."""
    if workload.cpu_fraction > 0.5:
        return machine.n_physical_cores
    return machine.n_cores


def _predict_threads(
    workload: Workload, machine: Machine, n: int, n_up: int, target_batch_s: float
) -> float:
    costs, n_tasks, mean_s = machine.costs, workload.n_tasks, workload.mean_s
    dispatch_s = costs.hand_off_s / choose_batch_size(
        n_tasks, n, mean_s, costs.hand_off_s, target_batch_s
    )
    handover = workload.gil_handover if n > 1 else 0.0
    queue_s = 0.0
    if workload.cpu_fraction <= 0.5:
        queue_s = (n - 1) * mean_s * workload.gil_fraction
    start_s = max(0, n - n_up) * costs.thread_start_s + n * costs.hand_off_s
    return start_s + max(
        rounds_s(n_tasks, n, mean_s + queue_s + dispatch_s, workload.std_s),
        n_tasks * (mean_s * workload.gil_fraction * (1 + handover) + dispatch_s),
        n_tasks * mean_s * workload.cpu_fraction / usable_cores(workload, machine),
    )


def _predict_processes(
    workload: Workload,
    machine: Machine,
    n: int,
    n_up: int,
    caller_helps: bool,
    target_batch_s: float,
) -> float:
    costs, mean_s = machine.costs, workload.mean_s
    transfer_s = move_s(workload, costs)
    # In a process of its own a task has the GIL for itself.
    task_s = mean_s - workload.crowded_s + transfer_s
    wait_s = boot_s(costs, n, n_up)
    n_missing = max(0, n - n_up)
    ramp_s = costs.boot_next_s * n_missing * (n_missing - 1) / 2
    feed_s = wait_s if n_up else max(0, n_missing - 1) * costs.boot_next_s
    n_by_workers = min(
        _tasks_in(min(n, n_up) * wait_s + ramp_s, task_s),
        _tasks_in(feed_s, transfer_s),
    )
    n_by_caller = 0.0
    if caller_helps:
        n_by_caller = _tasks_in(wait_s - min(wait_s, n_by_workers * transfer_s), mean_s)
    n_tasks = workload.n_tasks - n_by_workers - n_by_caller
    if n_tasks <= 0:
        # All is done before the last worker is up: no better than those who work.
        n_done = min(
            _tasks_in(min(n, n_up) * wait_s, task_s), _tasks_in(wait_s, transfer_s)
        )
        if caller_helps:
            n_done += _tasks_in(wait_s - min(wait_s, n_done * transfer_s), mean_s)
        return min(wait_s, wait_s * workload.n_tasks / n_done) if n_done else wait_s
    # The caller ends what it has begun.
    caller_end_s = ceil(n_by_caller) * mean_s
    n_tasks = workload.n_tasks - n_by_workers - ceil(n_by_caller)
    if n_tasks <= 0:
        return max(caller_end_s, wait_s if n_by_workers else 0.0)
    dispatch_s = costs.batch_s / choose_batch_size(
        ceil(n_tasks), n, mean_s, costs.batch_s, target_batch_s
    )
    workers_end_s = (
        wait_s
        + n * costs.batch_s
        + max(
            rounds_s(n_tasks, n, task_s + dispatch_s, workload.std_s),
            n_tasks * (transfer_s + dispatch_s),
            n_tasks
            * (mean_s * workload.cpu_fraction + 2 * (transfer_s + dispatch_s))
            / usable_cores(workload, machine),
        )
    )
    return max(caller_end_s, workers_end_s)


def _predict_cluster(
    workload: Workload, costs: Costs, cluster: Cluster, n: int, target_batch_s: float
) -> float:
    n_tasks, mean_s = workload.n_tasks, workload.mean_s
    transfer_s = move_s(workload, costs, cluster.bytes_per_s)
    dispatch_s = cluster.batch_s / choose_batch_size(
        n_tasks, n, mean_s, cluster.overhead_s(n), target_batch_s
    )
    n_workers = min(n, cluster.n_workers)
    handover = workload.gil_handover if n > n_workers else 0.0
    return cluster.round_trip_s + max(
        rounds_s(
            n_tasks,
            n,
            mean_s - workload.crowded_s + transfer_s + dispatch_s,
            workload.std_s,
        ),
        n_tasks * mean_s * workload.gil_fraction * (1 + handover) / n_workers,
        n_tasks * (transfer_s + dispatch_s),
        n_tasks * (mean_s * workload.cpu_fraction + 2 * transfer_s) / cluster.n_cores,
    )


def _tasks_in(seconds: float, task_s: float) -> float:
    """Return how many tasks one worker does in a time; any number of no length."""
    if not seconds:
        return 0.0
    return seconds / task_s if task_s else inf


def rounds_s(n_tasks: float, n: int, task_s: float, std_s: float) -> float:
    """Seconds until n workers have done tasks that don't wait for anyone."""
    if n == 1 or not task_s:
        return n_tasks * task_s
    # Equal tasks end together; with uneven ones workers drift apart, round by round.
    drift = min(1.0, std_s / task_s * sqrt(n_tasks / n))
    end_s = drift * (1 - 1 / n) * (task_s / 2 + std_s * std_s / (2 * task_s))
    return max(ceil(n_tasks / n) * task_s, n_tasks * task_s / n + end_s)
