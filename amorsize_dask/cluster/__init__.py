"""Clusters of Dask's own on this machine, sized by what the work has shown."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from amorsize_dask.arguments import (
    check_flag,
    check_max_workers,
    check_memory_limit,
)
from amorsize_dask.cluster.arguments import ClusterArguments, make_arguments
from amorsize_dask.cluster.makespans import predict_makespans
from amorsize_dask.cluster.sizing import Needs, choose_size
from amorsize_dask.cluster.work import measure_work
from amorsize_dask.core.model import Limits
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.spool_folder import find_disk_folder
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.measure.rss import read_rss

if TYPE_CHECKING:
    from amorsize_dask.cluster.start import MeasuredCluster

__all__ = ["ClusterArguments", "cluster_kwargs", "local_cluster", "predict_makespans"]


def cluster_kwargs(
    work: Any,
    *,
    max_workers: int | None = None,
    memory_limit: str | float = "auto",
    processes: bool | None = None,
) -> ClusterArguments:
    """Return arguments for `distributed.LocalCluster` that suit some work.

    Parameters
    ----------
    work : object
        A Dask collection, such as a bag, or a list of delayed values: a few of its
        tasks are run here, two or more for up to about a second, and their results
        thrown away.
        ``(func, data)`` with a sequence of items: the same with some of the items. A
        plan, or the record of an earlier run, `AmorsizeScheduler.last_run`, or of a
        cluster, `cluster_record(client)`: nothing is run.
    max_workers : int, optional
        Most tasks at once, >= 1. By default as many as pay.
    memory_limit : str, int or float, optional
        What all workers may take together: bytes, text such as ``"4 GB"``, a fraction
        of the available memory in (0, 1], or ``"auto"`` for most of it.
    processes : bool, optional
        Whether workers are processes. By default they are threads of the calling
        process if the work leaves its GIL and its memory alone.

    Returns
    -------
    ClusterArguments
        A dict to be used as ``LocalCluster(**arguments)``, with ``reasons`` for each.

    Raises
    ------
    ArgumentError
        For arguments that can't be used, and if there is nothing to do. Nothing has
        run.
    BaseException
        What a task raises that is tried.

    Examples
    --------
    >>> import dask.bag as db
    >>> arguments = cluster_kwargs(db.range(10, npartitions=2), max_workers=1)
    >>> arguments["n_workers"], arguments["threads_per_worker"]
    (1, 1)
    """
    limit = check_memory_limit(memory_limit)
    max_workers = check_max_workers("max_workers", max_workers)
    if processes is not None and not isinstance(processes, bool):
        raise ArgumentError("processes", processes, "expected True, False or None")
    known = measure_work(work)
    if known.unsendable is not None and processes is None:
        processes = False
    # After the sample, which may have imported and kept a lot.
    machine = measure_machine()
    if isinstance(limit, float):
        limit = max(1, int(limit * machine.memory_bytes))
    needs = Needs(
        stages=known.stages,
        machine=machine,
        limits=Limits(max_workers=max_workers, memory_limit_bytes=limit),
        held_bytes=known.held_bytes,
        caller_bytes=read_rss(),
        processes=processes,
    )
    arguments = make_arguments(
        needs, choose_size(needs), local_directory=str(find_disk_folder())
    )
    if known.unsendable is not None:
        arguments.reasons["processes"] = (
            f"the tasks can't be sent to another process: {known.unsendable}"
        )
    if known.n_unknown:
        arguments.reasons["n_workers"] += (
            f". {known.n_unknown} tasks are left out of this, since each needs many "
            "others; the record of a run has them all"
        )
    return arguments


def local_cluster(
    work: Any,
    *,
    max_workers: int | None = None,
    memory_limit: str | float = "auto",
    processes: bool | None = None,
    client: bool = False,
    **kwargs: Any,
) -> MeasuredCluster:
    """Start a `distributed.LocalCluster` that suits some work.

    Parameters
    ----------
    work, max_workers, memory_limit, processes
        See `cluster_kwargs`.
    client : bool, optional
        Also start a `distributed.Client`, the ``client`` of what is returned. From then
        on ``compute()`` without a scheduler runs in the cluster.
    **kwargs
        More arguments for ``LocalCluster``; they take the place of those chosen.

    Returns
    -------
    MeasuredCluster
        A ``LocalCluster``, which is also a context manager, with the ``arguments`` that
        it was started with, and their ``reasons``.

    Raises
    ------
    ArgumentError, BaseException
        See `cluster_kwargs`. Nothing has been started.

    Warns
    -----
    RuntimeWarning
        If a task takes more memory than there is: its worker is likely to be killed.

    Examples
    --------
    >>> import dask.bag as db
    >>> bag = db.range(10, npartitions=2)
    >>> with local_cluster(bag, processes=False, client=True, dashboard_address=None):
    ...     bag.sum().compute()
    45
    """
    with_client = check_flag("client", client)
    arguments = cluster_kwargs(
        work, max_workers=max_workers, memory_limit=memory_limit, processes=processes
    )
    if not arguments.fits:
        warnings.warn(arguments.reasons["memory_limit"], RuntimeWarning, stacklevel=2)
    # Imports distributed, which takes half a second.
    from amorsize_dask.cluster.start import MeasuredCluster

    return MeasuredCluster(arguments, kwargs, with_client=with_client)
