"""Running what was planned: the rest of it, since what was sampled has its results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any

from dask.base import compute

from amorsize_dask.core.experience import NOTHING_KNOWN, Experience
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import Cut, Piece, Recipe, Step
from amorsize_dask.execute.stand_ins import call_each, gather
from amorsize_dask.lowering import lower
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.data import SLICED
from amorsize_dask.scheduler import AmorsizeScheduler

#: Pieces of a list for each core. Smaller: results come, and wait, in larger pieces;
#: larger: each costs as much as many short calls.
PIECES_A_CORE = 64

#: Seconds of an item that is a piece by itself, and most pieces for that reason.
#: Smaller: of short items, handing them out is a large part; larger: the scheduler has
#: to cut pieces for many threads that wait.
PIECE_S = 0.001
MOST_PIECES = 1000


def choose_n_pieces(n_items: int, n_cores: int, mean_s: float = 0.0) -> int:
    """Return in how many pieces to hand items to a scheduler, at least 1.

    Of items that take `PIECE_S` or longer each is one, up to `MOST_PIECES`: the
    scheduler needn't cut them.
    """
    n = PIECES_A_CORE * n_cores
    n = max(n, min(MOST_PIECES, int(n_items * mean_s / PIECE_S)))
    return max(1, min(n, n_items))


def make_tasks(
    func: Callable[[Any], Any], items: Sequence[Any], n_pieces: int
) -> tuple[TaskGraph, list[Key]]:
    """Return a graph that calls a function with items, and the keys of its pieces.

    It is what a bag of these items, mapped, would be lowered to. The value of each key
    is the list of the results of some items, in order.

    Parameters
    ----------
    func : callable
        What to call.
    items : sequence
        What to call it with, one item or more.
    n_pieces : int
        In how many pieces, >= 1, if there are so many items.
    """
    size, n_larger = divmod(len(items), min(n_pieces, len(items)))
    name = str(getattr(func, "__name__", "") or type(func).__name__)
    recipe = Recipe(
        constants=called_by_pieces(func),
        n_arguments=1,
        references=(),
        steps=(Step(0, (1, 3), {}, ()), Step(2, (4,), {}, (4,))),
        name=name,
        cut=Cut(source=0, n_steps=1),
    )
    graph: dict[Key, Any] = {}
    start = 0
    while start < len(items):
        stop = start + size + (len(graph) < n_larger)
        graph[name, len(graph)] = Piece(recipe, [items[start:stop]])
        start = stop
    keys = list(graph)
    return lower(graph, keys), keys


def called_by_pieces(func: Callable[[Any], Any]) -> tuple[Callable[..., Any], ...]:
    """Return all that pieces of a graph of `make_tasks` call: the stage's identity."""
    return (call_each, func, gather)


def run_all(
    scheduler: AmorsizeScheduler,
    func: Callable[[Any], Any],
    items: Sequence[Any],
    experience: Experience | None = None,
    max_workers: int | None = None,
) -> list[Any]:
    """Call a function with items; return the results in order.

    Parameters
    ----------
    scheduler : AmorsizeScheduler
        What runs it.
    func : callable
        What to call.
    items : sequence
        What to call it with; there may be none.
    experience : Experience, optional
        What is known of it.
    max_workers : int, optional
        Most threads or processes.

    Raises
    ------
    BaseException
        What the function raises, and as from computing with the scheduler.
    """
    if not len(items):
        return []
    tasks, keys = _make_tasks(func, items, experience)
    values = scheduler.run_tasks(
        tasks, keys, _known(experience), num_workers=max_workers
    )
    return list(chain.from_iterable(values))


def stream_all(
    scheduler: AmorsizeScheduler,
    func: Callable[[Any], Any],
    items: Sequence[Any],
    experience: Experience | None = None,
    max_workers: int | None = None,
) -> Generator[Any, None, None]:
    """Call a function with items; yield the results in order, as they come."""
    if not len(items):
        return
    tasks, keys = _make_tasks(func, items, experience)
    values = scheduler.stream_tasks(
        tasks, keys, _known(experience), num_workers=max_workers
    )
    # The graph has what it needs of them, and lets go of it piece by piece.
    del items, tasks, keys
    with closing(values):
        for some in values:
            yield from some
            del some


def _make_tasks(
    func: Callable[[Any], Any], items: Sequence[Any], experience: Experience | None
) -> tuple[TaskGraph, list[Key]]:
    mean_s = 0.0 if experience is None else experience.mean_s
    n_cores = measure_machine().n_cores
    return make_tasks(func, items, choose_n_pieces(len(items), n_cores, mean_s))


def _known(experience: Experience | None) -> Mapping[int, Experience]:
    # The pieces are all of one stage, and there is no other but what joins them.
    return NOTHING_KNOWN if experience is None else {0: experience}


def leave_out(items: Sequence[Any], results: Mapping[int, Any]) -> Sequence[Any]:
    """Return the items at the places that have no result yet."""
    if not results:
        return items
    if not isinstance(items, SLICED):
        items = list(items)
    # By slices, since of short calls looking at each place takes longer than they do.
    left: list[Any] = []
    start = 0
    for place in sorted(results):
        left += items[start:place]
        start = place + 1
    left += items[start:]
    return left


def put_back(values: Iterable[Any], results: Mapping[int, Any]) -> list[Any]:
    """Return the results of all items, given those of the others in order."""
    if not results:
        return list(values)
    others = iter(values)
    found: list[Any] = []
    for place in sorted(results):
        found += islice(others, place - len(found))
        found.append(results[place])
    found += others
    return found


def compute_collection(
    collection: Any, scheduler: AmorsizeScheduler, max_workers: int | None
) -> Any:
    """Compute a Dask collection, or a list of them."""
    kwargs = {"scheduler": scheduler, "num_workers": max_workers}
    if isinstance(collection, list | tuple):
        return list(compute(*collection, **kwargs))
    (value,) = compute(collection, **kwargs)
    return value
