"""Stand-ins for what Dask's bags group with: the same groups, at less cost.

Other than those in `stand_ins` they need Dask, but of it only what each import of it
brings along. A worker that runs nothing else needn't import Dask's bags.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

# As a module, so that it is seen which one workers need.
from dask import base
from tlz import groupby

#: Groups whose hashes are kept in each process. Smaller: where groups are many the hash
#: of one is taken again for each of its items; larger: memory for groups of bags that
#: are long gone.
MAX_KEPT = 10_000

#: Most characters or bytes of a group whose hash is kept. Smaller: those of longer ones
#: are taken again; larger: long texts are kept for their hashes.
MAX_LENGTH = 200


def hash_group(group: Any) -> int:
    """Return the number by which Dask tells into which partition a group goes.

    Taking it costs several microseconds, more than most items of a group otherwise do.
    It is only known again where equal groups have the same one: 1 and 1.0 don't.
    """
    kind = type(group)
    if kind is int or (kind in (str, bytes) and len(group) <= MAX_LENGTH):
        return _hash_again(group)
    return _hash(group)


def _hash(group: Any) -> int:
    return int(base.tokenize(group), 16)


_hash_again = lru_cache(MAX_KEPT)(_hash)


def pair_with_hash(item: Any, grouper: Callable[[Any], Any]) -> tuple[int, Any]:
    """Return an item with the hash of its group, as tasks move it."""
    return hash_group(grouper(item)), item


def partition(
    grouper: Any,
    sequence: Iterable[Any],
    npartitions: int,
    p: Any,
    nelements: int = 2**20,
) -> Any:
    """Append items to the partitions on disk that their groups go to.

    Dask's own first makes room for `nelements` items, however few there are.
    """
    items = iter(sequence)
    while block := list(islice(items, nelements)):
        parts: defaultdict[int, list[Any]] = defaultdict(list)
        for group, members in groupby(grouper, block).items():
            parts[hash_group(group) % npartitions].extend(members)
        p.append(parts, fsync=True)
    return p


def collect(grouper: Any, group: int, p: Any, barrier_token: Any) -> list[Any]:
    """Return the groups of one partition on disk, each with its items."""
    return list(groupby(grouper, p.get(group, lock=False)).items())
