"""Sorting the tasks of a bag's layers into groups that are read as one.

A group is tasks of one name that differ in literals and keys only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask._task_spec import GraphNode, Task, TaskRef
from dask.utils import key_split

from amorsize_dask.execute.node import Key
from amorsize_dask.lowering.columns import (
    Call,
    Container,
    Expression,
    Reader,
    UnreadableError,
    references,
    select,
)
from amorsize_dask.lowering.layers import Layers

#: Letters of a chain's name; a long chain's is cut there. Dask's own limit for the keys
#: of fused tasks.
MAX_NAME = 120

#: How `from_sequence` names its layers, whose lists are data whatever they look like.
SOURCE_PREFIX = "from_sequence-"


@dataclass(slots=True)
class Group:
    """Alike tasks.

    Attributes
    ----------
    name : str
        What their keys begin with.
    keys : list of key
        Theirs, in order.
    links : list of Expression
        What they do, by column: each link may take the value of the one before.
    is_linear : bool
        Whether Dask, too, would see that a task needs one value only.
    """

    name: str
    keys: list[Key]
    links: list[Expression]
    is_linear: bool = False

    @property
    def is_computed(self) -> bool:
        """Whether there is something to do; otherwise it is data or other names."""
        return isinstance(self.links[-1], Call | Container)

    def select(self, rows: Sequence[int]) -> Group:
        """Return a group of some of the tasks."""
        return Group(
            self.name,
            [self.keys[row] for row in rows],
            [select(link, rows) for link in self.links],
            self.is_linear,
        )


@dataclass(slots=True)
class Sorted:
    """A graph's tasks, sorted.

    Attributes
    ----------
    groups : list of Group
        What could be read.
    sources : dict of key to list
        The partitions of sequences.
    others : dict of key to object
        What couldn't be read, as it was.
    """

    groups: list[Group]
    sources: dict[Key, list[Any]]
    others: dict[Key, Any]


def sort(layers: Layers, dsk: Mapping[Key, Any]) -> Sorted:
    """Sort tasks by what they do.

    Parameters
    ----------
    layers : Layers
        The tasks by layer.
    dsk : mapping
        All of them.
    """
    reader = Reader(dsk)
    found = Sorted([], {}, {})
    for name, tasks in _by_name(layers.by_name.values()).items():
        keys, values = list(tasks), list(tasks.values())
        if name.startswith(SOURCE_PREFIX) and all(type(v) is list for v in values):
            found.sources.update(tasks)
        elif not _read(reader, name, keys, values, found):
            for alike in _by_form(reader, tasks):
                if not _read(reader, name, list(alike), list(alike.values()), found):
                    found.others.update(alike)
    return found


def join_names(first: str, second: str) -> str:
    """Return the name of a chain: those of its links, each once, as Dask does."""
    names = dict.fromkeys((*first.split("-"), *second.split("-")))
    joined = "-".join(names)
    return joined if len(joined) <= MAX_NAME else f"{joined[: MAX_NAME - 1]}…"


def _read(
    reader: Reader, name: str, keys: list[Key], values: list[Any], found: Sorted
) -> bool:
    try:
        expression = reader.read(values)
    except UnreadableError:
        return False
    n_needed = len({id(r) for r in references(expression)})
    prefix = str(key_split(name))
    found.groups.append(Group(prefix, keys, [expression], n_needed == 1))
    return True


def _by_name(layers: Iterable[Mapping[Key, Any]]) -> dict[str, Mapping[Key, Any]]:
    """Sort by the first part of keys, and by the prefix of keys that are one string."""
    found: dict[str, Mapping[Key, Any]] = {}
    for layer in layers:
        heads = {key[0] if type(key) is tuple and key else None for key in layer}
        head = next(iter(heads), None)
        if len(heads) == 1 and type(head) is str and head not in found:
            found[head] = layer
            continue
        for key, value in layer.items():
            head = key[0] if type(key) is tuple and key else None
            name = head if type(head) is str else str(key_split(key))
            bucket = found.setdefault(name, {})
            if not isinstance(bucket, _Bucket):
                bucket = found[name] = _Bucket(bucket)
            bucket[key] = value
    return found


class _Bucket(dict[Key, Any]):
    """Tasks of several layers; a layer itself must not be changed."""


def _by_form(reader: Reader, tasks: Mapping[Key, Any]) -> Iterable[dict[Key, Any]]:
    """Sort tasks by all that must be the same in order to be read as one."""
    found: dict[Any, dict[Key, Any]] = {}
    for key, value in tasks.items():
        found.setdefault(_form(reader, value), {})[key] = value
    return found.values()


def _form(reader: Reader, value: Any) -> Any:
    """Return what is the same for tasks that differ in literals and keys only."""
    if isinstance(value, Task):
        parts = (*value.args, *value.kwargs.values())
        names = tuple(value.kwargs)
        return type(value), names, tuple(_form_of_argument(part) for part in parts)
    if type(value) is tuple and value and callable(value[0]):
        return "task", tuple(_form(reader, part) for part in value[1:])
    if reader.is_key(value):
        return "key"
    if type(value) in (list, tuple) and not reader.is_plain(value):
        return type(value), tuple(_form(reader, part) for part in value)
    return type(value)


def _form_of_argument(value: Any) -> Any:
    if isinstance(value, Task):
        return _form(_NO_KEYS, value)
    return type(value) if isinstance(value, GraphNode | TaskRef) else None


_NO_KEYS = Reader({})
