"""A client of a Dask cluster: which one is active, what its cluster is, what it costs.

`distributed` is never imported for its own sake here: who has a client has it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import weakref
from collections.abc import Coroutine, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

from amorsize_dask.core.model import Cluster, Machine
from amorsize_dask.errors import ClusterError
from amorsize_dask.execute.far_worker import PROTOCOL, greet, keep

logger = logging.getLogger(__name__)

#: Seconds for which what the scheduler has said of its workers is taken to hold.
#: Smaller: each of many short computes asks for it; larger: workers that have come are
#: given nothing.
FRESH_S = 1.0

#: Seconds to wait for workers where nothing else may be used, and for all of them to
#: answer. Smaller: those of a batch system that start one after the other are given
#: up; larger: a cluster that hangs is noticed that much later.
TIMEOUT_S = 60.0

#: Rounds of measuring: empty tasks one by one, of which the quickest counts, and at
#: once. Smaller: none may be quick while others are busy; larger: it takes longer than
#: the tenth of a second that it may.
N_ROUNDS = 3
N_AT_ONCE = 8

#: Bytes of a transfer from which on it tells how many pass in a second. Smaller: the
#: round trip is most of it; larger: few transfers tell.
TELLING_BYTES = 1_000_000

#: What a new transfer counts for. Smaller: a first one on a busy network is believed
#: for long; larger: each one is believed.
NEWS_FRACTION = 0.3

#: Where workers of this machine are, by the hosts of their addresses.
_LOCAL_HOSTS = frozenset(["127.0.0.1", "::1", "localhost", ""])


def _look_up(module: str, name: str) -> Any:
    """Return what a module has, if that has been imported; else ``None``."""
    return getattr(sys.modules.get(module), name, None)


def is_in_task() -> bool:
    """Whether this is called by a task that runs on a Dask worker.

    It has a thread of the worker's for itself. If it waited for others on the same
    cluster, and all threads did so, none would ever run.
    """
    get_worker = _look_up("distributed", "get_worker")
    if get_worker is None:
        return False
    try:
        get_worker()
    except ValueError:
        return False
    return True


def find_client() -> Any:
    """Return the client that is active here, if one is that can be waited for."""
    client_type = _look_up("distributed", "Client")
    if client_type is None:
        return None
    try:
        client = client_type.current()
    except ValueError:
        return None
    return client if is_usable(client) else None


def is_usable(client: Any) -> bool:
    """Whether a client is connected, and has an event loop in another thread."""
    return client.status == "running" and not client.asynchronous


def is_closed(client: Any) -> bool:
    """Whether a client is of no use any more."""
    return client.status in ("closing", "closed", "failed")


class Connection:
    """What is known of one client's cluster.

    Attributes
    ----------
    client : distributed.Client
        The client.
    is_prepared : bool
        Whether its workers can run our tasks, and how quickly is known.
    """

    def __init__(self, client: Any) -> None:
        self._client = weakref.ref(client)
        self.is_prepared = False
        self._lock = threading.Lock()
        self._info: dict[str, Any] = {}
        self._looked_at = -FRESH_S
        self._costs: dict[str, float] = {}

    @property
    def client(self) -> Any:
        """The client; it is held by who uses it."""
        client = self._client()
        assert client is not None
        return client

    # -- what there is --------------------------------------------------------------

    def look(self, machine: Machine, *, waits: bool = True) -> Cluster | None:
        """Return what there is now; ``None`` if there are no workers.

        Without waiting it is what the scheduler has said last.
        """
        self._look(waits=waits)
        workers: Mapping[str, Any] = self._info.get("workers", {})
        n_threads = sum(worker["nthreads"] for worker in workers.values())
        if not n_threads:
            return None
        n_cores: dict[str, int] = {}
        memory_bytes = 0
        for address, worker in workers.items():
            host = "" if address.startswith("inproc") else str(worker.get("host"))
            host = "" if self._is_here(host) else host
            n_cores[host] = n_cores.get(host, 0) + worker["nthreads"]
            # Those without a limit take what there is, as far as that is known.
            limit = worker.get("memory_limit") or machine.memory_bytes / len(workers)
            memory_bytes += int(limit)
        if "" in n_cores:
            n_cores[""] = min(n_cores[""], machine.n_cores)
        return Cluster(
            n_workers=sum(worker["nthreads"] > 0 for worker in workers.values()),
            n_threads=n_threads,
            n_cores=sum(n_cores.values()),
            memory_bytes=max(1, memory_bytes),
            **self._costs,
        )

    def _look(self, *, waits: bool = True) -> None:
        """Ask the scheduler, if that is due: wait for the first answer alone."""
        now = monotonic()
        if now - self._looked_at < FRESH_S:
            return
        self._looked_at = now
        if not waits or self._info.get("workers"):
            self.client.loop.add_callback(self._ask)
        else:
            self.run(self._ask(), TIMEOUT_S)

    async def _ask(self) -> None:
        try:
            try:
                self._info = await self.client.scheduler.identity(n_workers=-1)
            except TypeError:
                # An older scheduler, which always tells of all.
                self._info = await self.client.scheduler.identity()
        except Exception as error:
            # Whoever sends something finds out what is wrong.
            logger.debug("the scheduler doesn't answer: %r", error)

    def _is_here(self, host: str) -> bool:
        get_ip = _look_up("distributed.utils", "get_ip")
        return host in _LOCAL_HOSTS or (get_ip is not None and host == get_ip())

    @property
    def is_direct(self) -> bool | None:
        """Whether results come from workers directly; ``None``: as the client says.

        Workers on this machine can be reached, others perhaps not.
        """
        workers = self._info.get("workers", {}).values()
        if all(self._is_here(str(worker.get("host"))) for worker in workers):
            return True
        return None

    # -- making it ready ------------------------------------------------------------

    def require(self) -> None:
        """Make sure that the cluster can be used; wait for workers, if need be.

        Raises
        ------
        ClusterError
            If it can't. Nothing has been sent.
        """
        if not is_usable(self.client):
            raise ClusterError("its client isn't connected, or is an asynchronous one")
        self._look()
        if not self._info.get("workers"):
            logger.info("waiting for the first worker of the cluster")
            try:
                self.client.wait_for_workers(1, timeout=TIMEOUT_S)
            except Exception as error:
                raise ClusterError(
                    f"it has no workers, and none came within {TIMEOUT_S:g} seconds"
                ) from error
            self._looked_at = -FRESH_S
            self._look()
        if not self.is_prepared:
            self.run(self.prepare(), TIMEOUT_S)

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        """Run a coroutine in the client's loop, and wait for it.

        Raises
        ------
        ClusterError
            If that takes too long.
        """
        loop = self.client.loop.asyncio_loop
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as error:
            future.cancel()
            raise ClusterError(f"no answer in {timeout_s:g} seconds") from error

    async def prepare(self) -> None:
        """See whether all workers can run our tasks, and how quickly.

        Raises
        ------
        ClusterError
            If one can't.
        """
        answers = await self.client.run(greet, on_error="return")
        for address, answer in answers.items():
            if answer != PROTOCOL:
                raise ClusterError(_describe(address, answer))
        round_trips_s = [await self._ping(1) for _ in range(N_ROUNDS)]
        batch_s = min([await self._ping(N_AT_ONCE) for _ in range(2)]) / N_AT_ONCE
        self._costs["round_trip_s"] = min(round_trips_s)
        self._costs["batch_s"] = min(batch_s, min(round_trips_s))
        self.is_prepared = True

    async def _ping(self, n: int) -> float:
        client, name = self.client, uuid4().hex
        start = perf_counter()
        futures = [
            client.submit(keep, i, key=f"amorsize-ping-{name}-{i}", pure=False)
            for i in range(n)
        ]
        await client.gather(futures, asynchronous=True)
        return perf_counter() - start

    def note_transfer(self, n_bytes: int, seconds: float) -> None:
        """Take note of bytes that have come from the cluster, and how long it took."""
        if n_bytes < TELLING_BYTES or seconds <= 0:
            return
        bytes_per_s = n_bytes / seconds
        with self._lock:
            known = self._costs.get("bytes_per_s", bytes_per_s)
            self._costs["bytes_per_s"] = known + NEWS_FRACTION * (bytes_per_s - known)


def _describe(address: str, answer: object) -> str:
    if isinstance(answer, int):
        return (
            f"the worker {address} has another version of amorsize_dask than this "
            "process. Install the same one on both"
        )
    return (
        f"the worker {address} can't run tasks of amorsize_dask: {answer!r}. Install "
        "amorsize_dask where its workers run, in the version that this process has"
    )


def with_cluster(machine: Machine, connection: Connection) -> Machine:
    """Return a machine with the cluster that a client is connected to."""
    return replace(machine, cluster=connection.look(machine))


_connections: weakref.WeakKeyDictionary[Any, Connection] = weakref.WeakKeyDictionary()


def connect(client: Any) -> Connection:
    """Return what is known of a client's cluster; nothing is asked."""
    connection = _connections.get(client)
    if connection is None:
        connection = _connections[client] = Connection(client)
    return connection
