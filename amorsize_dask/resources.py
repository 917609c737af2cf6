"""What one run may use: cores and memory, lanes, and the cluster if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask

from amorsize_dask.arguments import check_max_workers
from amorsize_dask.core.model import CALLER_LANES, Lane, Limits, Machine
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute import worker
from amorsize_dask.execute.calibration import Calibration
from amorsize_dask.execute.connection import (
    Connection,
    connect,
    find_client,
    is_in_task,
    is_usable,
    with_cluster,
)
from amorsize_dask.execute.pool import live_processes
from amorsize_dask.execute.preload import of_dask
from amorsize_dask.execute.start_method import has_processes
from amorsize_dask.measure.load import LoadWatch
from amorsize_dask.measure.machine import (
    count_margin,
    leave_to_others,
    measure_machine,
)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use."""

    machine: Machine
    limits: Limits
    #: To the cluster that is a part of the machine.
    connection: Connection | None
    #: Of what the machine has left the bytes that the run leaves; ``None``: the user
    #: has set a limit, and what is left doesn't matter.
    margin_bytes: int | None
    #: If others are left something, what and why.
    load: str | None


class Policy:
    """What the user of a scheduler allows, from which follows what a run may use.

    Parameters
    ----------
    limits : Limits
        Those of all runs, but for the memory.
    memory_limit : int, float or None
        Bytes, a fraction of what is there, or ``None`` for all but a margin.
    client : distributed.Client or None
        Of the cluster; by default the one that is active when a run begins.
    respects_load : bool
        Whether others are left what they use.
    """

    def __init__(
        self,
        limits: Limits,
        memory_limit: float | None,
        client: Any,
        *,
        respects_load: bool,
    ) -> None:
        self.limits = limits
        self.memory_limit = memory_limit
        self._client = client
        # The first look, with which the one at the first run is compared.
        self.load_watch = LoadWatch() if respects_load else None

    @property
    def has_client(self) -> bool:
        """Whether there is a client of a cluster, that may have been closed since."""
        return self._client is not None or find_client() is not None

    def limit_call(self, kwargs: Mapping[str, Any], *, is_observed: bool) -> Limits:
        """Return what one call of the scheduler allows, but for the memory."""
        limits = self.limits
        n_workers = kwargs.get("num_workers")
        if n_workers is None:
            n_workers = dask.config.get("num_workers", None)
        if n_workers is not None:
            n_workers = check_max_workers("num_workers", n_workers)
            limits = replace(limits, max_workers=n_workers)
        if is_nested():
            lanes = tuple(lane for lane in limits.lanes if lane in CALLER_LANES)
            limits = replace(limits, lanes=lanes or (Lane.INLINE,), isolate=False)
        elif not has_processes():
            lanes = tuple(lane for lane in limits.lanes if lane is not Lane.PROCESSES)
            is_isolated = limits.isolate and Lane.CLUSTER in lanes
            limits = replace(limits, lanes=lanes or (Lane.INLINE,), isolate=is_isolated)
        if is_observed:
            # So that each task is seen to start and to end by itself.
            limits = replace(limits, max_batch_size=1)
        return limits

    def limit_memory(self, limits: Limits, machine: Machine) -> Limits:
        """Return limits with that of the memory, on a machine."""
        limit = self.memory_limit
        if isinstance(limit, float):
            limit = max(1, int(limit * machine.memory_bytes))
        if limit == limits.memory_limit_bytes:
            return limits
        return replace(limits, memory_limit_bytes=limit)

    def find_resources(
        self, limits: Limits, calibration: Calibration, modules: Sequence[str]
    ) -> Resources:
        """Return what a run may use that begins now.

        Parameters
        ----------
        limits : Limits
            What `limit_call` returned for it.
        calibration : Calibration
            What moving work costs.
        modules : sequence of str
            What worker processes import when they boot.

        Raises
        ------
        ArgumentError
            If the cluster is the only lane, and there is no client of one.
        ClusterError
            If it is the only lane, and can't be used.
        """
        machine, load = self._look_at_machine(calibration, of_dask(modules))
        connection = self._connect(limits)
        if connection is not None:
            machine = with_cluster(machine, connection)
        margin_bytes = None
        if self.memory_limit is None:
            margin_bytes = count_margin(machine.memory_bytes)
            memory_bytes = machine.memory_bytes - margin_bytes
            machine = replace(machine, memory_bytes=memory_bytes)
        limits = self.limit_memory(_without_cluster(limits, machine), machine)
        return Resources(machine, limits, connection, margin_bytes, load)

    def _look_at_machine(
        self, calibration: Calibration, modules: Sequence[str]
    ) -> tuple[Machine, str | None]:
        machine = measure_machine(calibration.costs_for(modules))
        if self.load_watch is None:
            return machine, None
        load = self.load_watch.look(live_processes())
        why = load.explain(machine.n_cores, machine.memory_bytes)
        return leave_to_others(machine, load), why

    def _connect(self, limits: Limits) -> Connection | None:
        """Return the connection to the cluster that a run may use, if there is one."""
        if Lane.CLUSTER not in limits.allowed_lanes:
            return None
        is_forced = limits.allowed_lanes == (Lane.CLUSTER,)
        client = self._client or find_client()
        if client is None:
            if is_forced:
                expected = "no distributed.Client is active, and none was given"
                raise ArgumentError("lanes", ("cluster",), expected)
            return None
        connection = connect(client)
        if is_forced:
            connection.require()
        return connection if is_usable(client) else None


def is_nested() -> bool:
    """Whether a task of another run is what calls.

    Such a run must not start workers in turn, nor wait for a cluster one of whose
    threads it holds.
    """
    return worker.is_worker or is_in_task()


def _without_cluster(limits: Limits, machine: Machine) -> Limits:
    """Return limits without the lane cluster if there is none."""
    if machine.cluster is not None or Lane.CLUSTER not in limits.lanes:
        return limits
    if limits.allowed_lanes == (Lane.CLUSTER,):
        return limits
    lanes = tuple(lane for lane in limits.lanes if lane is not Lane.CLUSTER)
    return replace(limits, lanes=lanes)
