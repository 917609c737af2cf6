"""Results that have stayed on a cluster, in the place of the results themselves.

A batch is one task of Dask's, whose result is a list of what has stayed. A value has a
future of its own only if it is asked for without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: Bytes up to which all that a batch has left is read for one value of it. Smaller:
#: each costs a round trip; larger: memory is taken for values that no one wants yet.
WHOLE_BYTES = 16_000_000


class RemoteBatch:
    """What a batch has left on the cluster.

    Parameters
    ----------
    future : distributed.Future
        That of the list.
    pick : callable
        Makes a future of one place in it.
    gather : callable
        Returns the values of futures; the bytes of all together are told to it.

    Attributes
    ----------
    future : distributed.Future
        That of the list.
    read : list or None
        What has been read of the list and is still wanted.
    """

    def __init__(
        self,
        future: Any,
        pick: Callable[[Any, int], Any],
        gather: Callable[[list[Any], int], list[Any]],
    ) -> None:
        self.future = future
        self.gather = gather
        self._pick = pick
        self._picked: dict[int, Any] = {}
        #: Values that someone still needs, and their bytes.
        self._live: dict[int, int] = {}
        self.read: list[Any] | None = None

    def add(self, position: int, n_bytes: int) -> Remote:
        """Return the value at a place in the list."""
        self._live[position] = n_bytes
        return Remote(self, position, n_bytes)

    def future_of(self, position: int) -> Any:
        """Return a future of one value."""
        if position not in self._picked:
            self._picked[position] = self._pick(self.future, position)
        return self._picked[position]

    def is_read_whole(self, positions: set[int]) -> bool:
        """Whether who wants these values should get all that the batch has left."""
        if len(self._live) == 1 and len(positions) == 1:
            return True
        return sum(self._live.values()) <= WHOLE_BYTES or positions >= set(self._live)

    def keep(self, values: list[Any], positions: set[int]) -> None:
        """Keep what was read for those who want the others."""
        if not positions >= set(self._live):
            self.read = values

    def release(self, position: int) -> None:
        """Let the cluster forget a value; the list goes with the last of them."""
        picked = self._picked.pop(position, None)
        if picked is not None:
            picked.release()
        self._live.pop(position, None)
        if self.read is not None:
            self.read[position] = None
        if not self._live:
            self.read = None
            self.future.release()


class Remote:
    """One value that is on a cluster."""

    __slots__ = ("batch", "n_bytes", "position")

    def __init__(self, batch: RemoteBatch, position: int, n_bytes: int) -> None:
        self.batch = batch
        self.position = position
        self.n_bytes = n_bytes

    @property
    def future(self) -> Any:
        """A future of it, for tasks on the cluster."""
        return self.batch.future_of(self.position)

    def release(self) -> None:
        """Let the cluster forget it."""
        self.batch.release(self.position)


def fetch(remotes: Sequence[Remote]) -> list[Any]:
    """Return values that are on a cluster.

    Those of a batch come together, unless they are large and few of them are wanted.

    Raises
    ------
    ClusterError
        If one of them is lost, and can't be made again.
    """
    by_batch: dict[RemoteBatch, list[int]] = {}
    for i, remote in enumerate(remotes):
        by_batch.setdefault(remote.batch, []).append(i)
    values: list[Any] = [None] * len(remotes)
    futures: list[Any] = []
    #: For each future which of the values it has, and where.
    places: list[list[tuple[int, int | None]]] = []
    for batch, numbers in by_batch.items():
        positions = {remotes[i].position for i in numbers}
        if batch.read is not None:
            for i in numbers:
                values[i] = batch.read[remotes[i].position]
        elif batch.is_read_whole(positions):
            futures.append(batch.future)
            places.append([(i, remotes[i].position) for i in numbers])
        else:
            futures += [remotes[i].future for i in numbers]
            places += [[(i, None)] for i in numbers]
    if futures:
        gather = remotes[0].batch.gather
        found = gather(futures, sum(remote.n_bytes for remote in remotes))
        for value, wanted in zip(found, places, strict=True):
            for i, position in wanted:
                values[i] = value if position is None else value[position]
            if wanted[0][1] is not None:
                batch = remotes[wanted[0][0]].batch
                batch.keep(value, {remotes[i].position for i, _ in wanted})
    return values
