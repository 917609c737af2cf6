"""Stand-ins for functions of `dask.bag`, so that workers needn't import it.

Nearly all tasks of bags call one of these, and most call nothing else of Dask's. Each
does what Dask's does with iterators and lists, and leaves all else to Dask's own. Those
that look at each item or line are faster as well.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

#: What Dask looks at by its length, in all releases.
_PLAIN = (list, tuple, set, dict)


def reify(seq: Any) -> Any:
    """Make lists of iterators, and of those in a list if the first one is one."""
    if isinstance(seq, Iterator):
        seq = list(seq)
    if type(seq) is not list:
        from dask.bag import core

        return core.reify(seq)
    if seq and isinstance(seq[0], Iterator):
        return list(map(list, seq))
    return seq


def empty_safe_apply(func: Callable[[Any], Any], part: Any, is_last: bool) -> Any:
    """Call a function with a partition, if that isn't empty or is the last."""
    if isinstance(part, Iterator):
        for first in part:
            return func(chain((first,), part))
    if is_last or (type(part) in _PLAIN and part):
        return func(part)
    from dask.bag import core

    return core.empty_safe_apply(func, part, is_last)


def empty_safe_aggregate(
    func: Callable[[Any], Any], parts: Iterable[Any], is_last: bool
) -> Any:
    """Call a function with what was made of partitions that weren't empty."""
    return empty_safe_apply(func, filter(_is_result, parts), is_last)


def finalize(results: Any) -> Any:
    """Return the items of a bag's partitions in one list, or values as they are."""
    if type(results) is not list:
        from dask.bag import core

        return core.finalize(results)
    if results and isinstance(results[0], Iterable) and not isinstance(results[0], str):
        return list(chain.from_iterable(results))
    return results


def _is_result(part: Any) -> bool:
    # By its name first: where Dask's bags aren't imported, none can be here.
    if getattr(part, "__name__", None) != "no_result":
        return True
    from dask.bag import core

    return part is not core.no_result


def frequencies(seq: Iterable[Any]) -> dict[Any, int]:
    """Count items, in the order in which they come first."""
    # What it counts must not look like a mapping.
    return dict(Counter(iter(seq)))


def merge_frequencies(seqs: Iterable[dict[Any, int]]) -> dict[Any, int]:
    """Add up what was counted of several partitions."""
    counts = list(seqs)
    if len(counts) < 2:
        return counts[0] if counts else {}
    merged: defaultdict[Any, int] = defaultdict(int, counts[0])
    get = merged.get
    for count in counts[1:]:
        for item, n in count.items():
            # Without a call of `int` for each item that is new.
            merged[item] = get(item, 0) + n
    return merged


def read_lines(file: Any) -> Iterator[str]:
    """Yield the lines of a text file that `fsspec` knows, and close it at the end."""
    with _open(file) as lines:
        yield from lines


def _open(file: Any) -> Any:
    """Open a local file as Python does, which takes a third of `fsspec`'s way."""
    fsspec = sys.modules.get("fsspec")
    local = sys.modules.get("fsspec.implementations.local")
    is_plain = (
        fsspec is not None
        and local is not None
        and type(file) is fsspec.core.OpenFile
        and type(file.fs) is local.LocalFileSystem
        and file.mode == "rt"
        and file.compression is None
    )
    if not is_plain:
        return file
    try:
        return open(
            file.path, encoding=file.encoding, errors=file.errors, newline=file.newline
        )
    except OSError:
        return file  # what it says of that is what users know


def call_each(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Call a function with each item.

    Since Python 3.11 that is faster than ``map``, which enters the interpreter anew for
    each call of a Python function.
    """
    return [function(item) for item in items]


def gather(items: Iterable[Any]) -> list[Any]:
    """Return items as a list; one that is made for this is taken as it is."""
    return items if type(items) is list else list(items)
