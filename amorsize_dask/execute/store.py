"""The values of a run, by key: constants from the graph, and results as they come."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from amorsize_dask.errors import ResultLostError
from amorsize_dask.execute.batch import Item
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.remote import Remote, fetch
from amorsize_dask.execute.spool import (
    SPOOL_BYTES,
    Spooled,
    SpoolPlace,
    is_in,
    is_large,
    remove,
)
from amorsize_dask.execute.spool import (
    read as read_parts,
)
from amorsize_dask.execute.spool_folder import SpoolFolder
from amorsize_dask.execute.wire import dump, load
from amorsize_dask.measure.mapped_array import goes_by_name
from amorsize_dask.measure.size import measure_held

#: What the system says where no more descriptors can be had.
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)

logger = logging.getLogger(__name__)


class Store:
    """Holds each value until the core says that no one needs it.

    A value may be in a spool file, which is read when a task in this process needs it
    or when the user has asked for it. It stays there for other processes' tasks.

    Attributes
    ----------
    values : dict
        Values by key. Threads read it while the loop adds to it.
    """

    def __init__(self, tasks: TaskGraph) -> None:
        self._tasks = tasks
        self.values: dict[Key, Any] = dict(tasks.constants)
        # Those that are in files, and those of them that haven't been read.
        self._spooled: dict[Key, Spooled] = {}
        self._unread: set[Key] = set()
        # Those that are on a cluster; what has been read of them is here as well.
        self._remote: dict[Key, Remote] = {}
        # Values of this process that need no file.
        self._small: set[Key] = set()
        self._folder: SpoolFolder | None = None

    def key_of(self, task: int) -> Key:
        """Return the key of a task."""
        return self._tasks.keys[task]

    def put(self, task: int, value: Any) -> None:
        """Keep the result of a task, or where it is."""
        key = self._tasks.keys[task]
        if isinstance(value, Spooled):
            self._spooled[key] = value
            self._unread.add(key)
        elif isinstance(value, Remote):
            self._remote[key] = value
            self._unread.add(key)
        self.values[key] = value

    def put_all(self, tasks: Sequence[int], values: Sequence[Any]) -> None:
        """Keep the results of tasks, of which none is in a file."""
        keys = self._tasks.keys
        self.values.update(zip([keys[t] for t in tasks], values, strict=True))

    def drop(self, dropped: Sequence[int]) -> None:
        """Let go of results."""
        keys = [self._tasks.keys[task] for task in dropped]
        for key in keys:
            del self.values[key]
        for key in self._spooled.keys() & keys:
            remove(self._spooled.pop(key))
            self._unread.discard(key)
        for key in self._remote.keys() & keys:
            self._remote.pop(key).release()
            self._unread.discard(key)

    def remote(self, key: Key) -> Remote | None:
        """Return where on a cluster a value is, if it is there."""
        return self._remote.get(key)

    def read(self, task: int) -> Any:
        """Return the result of a task; if it is in a file, read it."""
        return self.read_key(self._tasks.keys[task])

    def read_key(self, key: Key) -> Any:
        """Return the value of a key, which is no alias; if it is in a file, read it."""
        self._read([key])
        return self.values[key]

    def read_wanted(self) -> None:
        """Read what the user has asked for, if it is in files."""
        if self._unread:
            keys = self._tasks.keys
            self._read(keys[task] for task in self._tasks.graph.wanted)

    def read_arguments(self, tasks: Sequence[int]) -> None:
        """Read what tasks in this process are going to need, if it is in files."""
        if self._unread:
            self._read(key for task in tasks for key in self._tasks.arguments[task])

    def fetch_arguments(self, tasks: Sequence[int]) -> None:
        """Read what tasks in another process need, if it is on a cluster."""
        if self._remote:
            needed = {key for task in tasks for key in self._tasks.arguments[task]}
            self._read(needed & self._remote.keys())

    def open_place(self) -> SpoolPlace:
        """Return where the run's files are; make the folders first, if need be."""
        if self._folder is None:
            self._folder = SpoolFolder()
        return self._folder.place

    def close(self) -> None:
        """Remove the run's files, and what is on a cluster; what was read stays."""
        for remote in self._remote.values():
            remote.release()
        self._remote.clear()
        if self._folder is not None:
            self._folder.close()

    def spill(self, tasks: Sequence[int]) -> list[int]:
        """Move results to disk, to be read again when they are needed.

        Returns
        -------
        list of int
            Tasks whose results can't be written; these stay as they were.
        """
        place = self.open_place().on_disk
        return [t for t in tasks if not self._spill(self._tasks.keys[t], place)]

    def _spill(self, key: Key, place: SpoolPlace) -> bool:
        remote = self._remote.get(key)
        if remote is not None:
            # It is still there.
            self.values[key] = remote
            self._unread.add(key)
            return True
        old = self._spooled.get(key)
        if old is None or not is_in(old, place):
            try:
                parts = dump(self.values[key]) if old is None else read_parts(old)
            except Exception as error:
                logger.debug("the result %r can't go to disk: %r", key, error)
                return False
            new = place.write(parts)
            if new is None:
                return False
            if old is not None:
                remove(old)
            self._spooled[key] = new
        self.values[key] = self._spooled[key]
        self._unread.add(key)
        return True

    def share(self, key: Key, place: SpoolPlace) -> Spooled | None:
        """Put a large value of this process into a file, for others to read.

        Returns
        -------
        Spooled or None
            ``None`` if it isn't large, can't be pickled or fits nowhere.
        """
        spooled = self._spooled.get(key)
        if spooled is None and key not in self._small:
            spooled = self._write(self.values[key], place)
            if spooled is None:
                self._small.add(key)
            else:
                self._spooled[key] = spooled
        return spooled

    @staticmethod
    def _write(value: Any, place: SpoolPlace) -> Spooled | None:
        if measure_held(value) < SPOOL_BYTES or goes_by_name(value):
            return None
        try:
            parts = dump(value)
        except Exception:
            return None  # whoever sends it along with a task says what is wrong
        return place.write(parts) if is_large(parts) else None

    def _read(self, keys: Iterable[Key]) -> None:
        unread = self._unread.intersection(keys)
        remote = [key for key in unread if key in self._remote]
        if remote:
            values = fetch([self._remote[key] for key in remote])
            self.values.update(zip(remote, values, strict=True))
            self._unread.difference_update(remote)
        for key in unread.difference(remote):
            spooled = self._spooled[key]
            try:
                parts = self._read_parts(spooled)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in TOO_MANY_OPEN:
                    raise  # it isn't lost
                raise ResultLostError(key, spooled.path, str(error)) from error
            self.values[key] = load(parts)
            self._unread.discard(key)

    def _read_parts(self, spooled: Spooled) -> list[memoryview]:
        try:
            return read_parts(spooled)
        except OSError as error:
            if error.errno not in TOO_MANY_OPEN or self._folder is None:
                raise
        with self._folder.spare_lent():
            return read_parts(spooled)

    def find(self, key: Key) -> Any:
        """Return the value under a key that was asked for.

        Raises
        ------
        KeyError
            If the graph has no such key.
        """
        return self.values[self._tasks.aliases.get(key, key)]

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """Return what is needed to run tasks, their arguments apart."""
        nodes, arguments = self._tasks.nodes, self._tasks.arguments
        return [(task, nodes[task], arguments[task]) for task in numbers]

    def arguments(self, numbers: Sequence[int]) -> dict[Key, Any]:
        """Return the arguments of tasks, each once, by key."""
        return {
            key: self.values[key]
            for task in numbers
            for key in self._tasks.arguments[task]
        }
