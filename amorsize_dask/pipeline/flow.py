"""Which item of a pipeline is where, and what becomes of what its stages return.

It adds a task to the run's graph for each item and stage, or for each batch of items,
as soon as what it needs is there. Which of them runs where and when is for the core to
say.

An item goes by its path: its number in the source, and after each stage that has made
several items of one, its number among these. Results are handed over in the order of
their paths, or as they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

from amorsize_dask.core.budget import Budget
from amorsize_dask.core.events import Added, Event, Taken
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.item_call import ItemCall, Mark, Shape, Skipped
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import MAKERS, Piece, Recipe, Step
from amorsize_dask.execute.store import Store
from amorsize_dask.execute.threads import Mailbox
from amorsize_dask.pipeline.reader import SequenceReader, ThreadReader

#: Share of the memory limit up to which new items are taken in. Smaller: stages wait
#: for items; larger: results have no room beside the items that wait for a stage.
INTAKE_FRACTION = 0.4

#: Items that are expected beyond those seen of a source whose length no one knows.
#: Smaller: workers that would pay aren't started; larger: they are, for a few items.
MIN_EXPECTED = 100

#: Items of the source that are taken in at once: before the first task begins, and
#: later. Smaller: more turns of the loop; larger: what has ended waits for them.
FIRST_INTAKE = 16
INTAKE = 64

#: Items for which counts what is thought beforehand of how many come of one. Smaller:
#: the first ones speak for all; larger: where it is another one it takes longer to be
#: seen.
PRIOR_ITEMS = 10

Path = tuple[int, ...]


class Value(NamedTuple):
    """A value that is here."""

    value: Any


#: An item between two stages: the task whose result it is, or its value.
Found = int | Value


@dataclass(slots=True)
class Item:
    """An item of the source, and what has come of it."""

    #: Items made of it that are in a stage, or between two.
    n_in_work: int = 1
    #: How many of its results haven't been taken.
    n_results: int = 0
    #: Of these, by path, those that wait for others to be complete.
    results: list[tuple[Path, Found]] = field(default_factory=list)
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item that a stage has failed on."""

    #: Its number in the source, and among those that were made of that one.
    path: Path
    stage: str
    #: The exception's class and text.
    error: str


class Flow:
    """What is known of a pipeline's items while they go through it.

    Parameters
    ----------
    calls : sequence of ItemCall
        What the stages do.
    batch_sizes : sequence of int
        Most items of a task, by stage; 0: one that isn't in a list.
    shapes : sequence of Shape
        How many items come of how many.
    reader : SequenceReader or ThreadReader
        Where items come from.
    tasks : TaskGraph
        An open graph without tasks, which has a stage for each.
    is_ordered : bool
        Whether results are handed over in the order of the items.
    max_items : int
        Most items of the source that are on their way at a time.
    most_tasks : int
        Tasks after which no more items are taken in.
    n_seen : int
        Items of the source that earlier parts of the run have taken in.
    n_recalled : mapping of int to int
        Tasks that stages had in an earlier run, as far as that is known.
    """

    def __init__(
        self,
        calls: Sequence[ItemCall],
        batch_sizes: Sequence[int],
        shapes: Sequence[Shape],
        reader: SequenceReader | ThreadReader,
        tasks: TaskGraph,
        *,
        n_seen: int,
        is_ordered: bool,
        max_items: int,
        most_tasks: int,
        n_recalled: Mapping[int, int],
    ) -> None:
        n_stages = len(calls)
        #: Items that each stage has been given, and that have come out of it.
        self.n_in = [0] * n_stages
        self.n_out = [0] * n_stages
        #: Seconds that items were in a stage, waiting for it included.
        self.stay_s = [0.0] * n_stages
        self.skipped: list[SkippedItem] = []
        #: Items of the source that have been seen so far.
        self.n_seen = n_seen
        self._calls = calls
        self._batch_sizes = batch_sizes
        self._shapes = shapes
        self._reader = reader
        self._tasks = tasks
        self._is_ordered = is_ordered
        self._max_items = max_items
        self._most_tasks = most_tasks
        # Items that stages had then.
        self._n_recalled = {
            stage: n * max(1, batch_sizes[stage]) for stage, n in n_recalled.items()
        }
        self._recipes: dict[tuple[int, tuple[bool, ...]], Recipe] = {}
        self._items: dict[int, Item] = {}
        # The paths of each task's items, and when it was added.
        self._in_stage: dict[int, tuple[Sequence[Path], float]] = {}
        self._n_tasks = [0] * n_stages
        # What waits until a batch is full.
        self._waiting: list[deque[tuple[Path, Found]]] = [deque() for _ in calls]
        self._results: deque[tuple[Path, Found]] = deque()
        self._source_bytes = 0
        self._has_more = False
        self._finished: list[int] = []
        self._added: list[tuple[Sequence[int], int]] = []
        self._released: list[int] = []
        # When the turn began.
        self._now = perf_counter()

    # -- what the run asks ------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether all items that were taken in have gone through, and no more will."""
        return not self._items and not self._takes_in

    @property
    def has_result(self) -> bool:
        """Whether a result can be handed over now."""
        return bool(self._results)

    @property
    def has_more(self) -> bool:
        """Whether there are items that can be taken in at once."""
        return self._has_more

    def begin(self, open_mailbox: Callable[[], Mailbox]) -> None:
        """Wake the loop when the source has an item."""
        self._reader.wake = open_mailbox().wake

    def close(self) -> None:
        """Let go of tasks and items; what was counted stays."""
        del self._tasks, self._reader, self._recipes
        del self._items, self._in_stage, self._waiting, self._results

    def note(self, tasks: Sequence[int]) -> None:
        """Take note of tasks that have finished."""
        self._finished += tasks

    def take(self, store: Store) -> Any:
        """Return the next result; it is kept until the next call of `grow`."""
        path, found = self._results.popleft()
        item = self._items[path[0]]
        if isinstance(found, Value):
            value = found.value
        else:
            self._released.append(found)
            value = store.read(found)
        item.n_results -= 1
        self._leave(path[0])
        return value

    def grow(self, store: Store, budget: Budget) -> list[Event]:
        """Return the tasks that come of those that have finished, and of new items."""
        finished, self._finished = self._finished, []
        self._now = perf_counter()
        for task in finished:
            self._advance(task, store)
        self._take_in(budget)
        if not self._in_stage and not self._added:
            self._close_batches()
        events: list[Event] = []
        if self._added:
            events.append(Added(self._added, self._expect()))
            self._added = []
        if self._released:
            events.append(Taken(self._released))
            self._released = []
        return events

    # -- from stage to stage ----------------------------------------------------------

    def _advance(self, task: int, store: Store) -> None:
        """See what has become of a task's items."""
        stage = self._tasks.stage_of[task]
        paths, added_at = self._in_stage.pop(task)
        self._n_tasks[stage] -= 1
        self.stay_s[stage] += len(paths) * (self._now - added_at)
        self._tasks.forget(task)
        if not stage and self._source_bytes:
            self._forget_source(paths)
        # A large result needn't be read to see that it is none of these.
        value = store.values[self._tasks.keys[task]]
        shape = self._shapes[stage]
        if value is Mark.DROPPED or isinstance(value, Skipped):
            self._leave_out(task, paths, value)
        elif shape is Shape.BATCH or shape is Shape.FLATTEN:
            self._released.append(task)
            self._spread(stage, paths, store.read(task))
        else:
            self.n_out[stage] += 1
            self._pass_on(stage + 1, paths[0], task)

    def _leave_out(self, task: int, paths: Sequence[Path], mark: Any) -> None:
        """Let go of items that don't go on."""
        if isinstance(mark, Skipped):
            name = self._tasks.stage_name(task)
            self.skipped += [SkippedItem(path, name, mark.error) for path in paths]
        self._released.append(task)
        for path in paths:
            self._items[path[0]].n_in_work -= 1
            self._leave(path[0])

    def _spread(self, stage: int, paths: Sequence[Path], values: list[Any]) -> None:
        """Pass on the items of a list."""
        self.n_out[stage] += len(values)
        if self._shapes[stage] is Shape.FLATTEN:
            (path,) = paths
            self._items[path[0]].n_in_work += len(values) - 1
            paths = [(*path, i) for i in range(len(values))]
            if not values:
                self._leave(path[0])
        for path, value in zip(paths, values, strict=True):
            self._pass_on(stage + 1, path, Value(value))

    def _pass_on(self, stage: int, path: Path, found: Found) -> None:
        """Give an item to a stage, or keep it as a result after the last one."""
        if stage == len(self._calls):
            item = self._items[path[0]]
            item.n_in_work -= 1
            item.n_results += 1
            results = item.results if self._is_ordered else self._results
            results.append((path, found))
            self._leave(path[0])
            return
        self.n_in[stage] += 1
        size = self._batch_sizes[stage]
        if not size:
            self._add_single(stage, path, found)
            return
        waiting = self._waiting[stage]
        waiting.append((path, found))
        if len(waiting) >= size:
            self._add_batch(stage, [waiting.popleft() for _ in range(size)])

    def _close_batches(self) -> None:
        """Let batches begin that aren't full, since nothing else is to be done."""
        for stage, waiting in enumerate(self._waiting):
            if waiting:
                self._add_batch(stage, list(waiting))
                waiting.clear()

    def _add_single(self, stage: int, path: Path, found: Found) -> None:
        """Add the task that does a stage's work on an item."""
        if isinstance(found, Value):
            piece = Piece(self._recipe(stage, (False,)), (found.value,))
            self._add_task(stage, (path,), piece, (), ())
        else:
            keys = (self._tasks.keys[found],)
            piece = Piece(self._recipe(stage, (True,)), keys)
            self._add_task(stage, (path,), piece, keys, (found,))

    def _add_batch(self, stage: int, items: Sequence[tuple[Path, Found]]) -> None:
        """Add the task that does a stage's work on a list of items."""
        needed: list[int] = []
        keys: list[Key] = []
        arguments: list[Any] = []
        are_keys: list[bool] = []
        for _, found in items:
            if isinstance(found, Value):
                arguments.append(found.value)
            else:
                needed.append(found)
                keys.append(self._tasks.keys[found])
                arguments.append(keys[-1])
            are_keys.append(not isinstance(found, Value))
        piece = Piece(self._recipe(stage, tuple(are_keys)), arguments)
        self._add_task(stage, [path for path, _ in items], piece, keys, needed)

    def _add_task(
        self,
        stage: int,
        paths: Sequence[Path],
        piece: Piece,
        keys: Sequence[Key],
        needed: Sequence[int],
    ) -> None:
        tasks = self._tasks
        number = tasks.add((tasks.stages[stage], *paths[0]), piece, keys, stage)
        self._in_stage[number] = paths, self._now
        self._n_tasks[stage] += 1
        self._added.append((needed, stage))
        # The new task needs them, and no one else will.
        self._released += needed

    def _recipe(self, stage: int, are_keys: tuple[bool, ...]) -> Recipe:
        """Return what tasks of a stage do, by which of their arguments are keys."""
        recipe = self._recipes.get((stage, are_keys))
        if recipe is None:
            call, name = self._calls[stage], self._tasks.stages[stage]
            references = [i for i, is_key in enumerate(are_keys) if is_key]
            if not self._batch_sizes[stage]:
                steps = [Step(0, [1], {}, [1])]
                recipe = Recipe([call], 1, references, steps, name)
            else:
                n = len(are_keys)
                places = range(2, 2 + n)
                steps = [
                    Step(1, places, {}, places),
                    Step(0, [2 + n], {}, [2 + n]),
                ]
                recipe = Recipe([call, MAKERS[list]], n, references, steps, name)
            self._recipes[stage, are_keys] = recipe
        return recipe

    # -- in and out -------------------------------------------------------------------

    @property
    def _takes_in(self) -> bool:
        """Whether more items will be taken in."""
        return len(self._tasks.keys) < self._most_tasks and not (
            self._reader.is_exhausted
        )

    def _take_in(self, budget: Budget) -> None:
        """Take in as many items as there are and as there is room for."""
        self._has_more = False
        n = self._max_items - len(self._items)
        if n <= 0 or not self._takes_in:
            return
        room_bytes = INTAKE_FRACTION * budget.limit_bytes - budget.taken_bytes
        room_bytes -= self._source_bytes
        if room_bytes <= 0 and self._items:
            return
        if room_bytes <= 0:
            n = 1
        most = min(n, INTAKE if self._items else FIRST_INTAKE)
        items = self._reader.take(most, room_bytes, min(n - most, INTAKE))
        self._has_more = len(items) == most < n
        for value, n_bytes in items:
            self._source_bytes += n_bytes
            number = self.n_seen
            self.n_seen += 1
            self._items[number] = Item(n_bytes=n_bytes)
            self._pass_on(0, (number,), Value(value))

    def _forget_source(self, paths: Sequence[Path]) -> None:
        for path in paths:
            item = self._items[path[0]]
            self._source_bytes -= item.n_bytes
            item.n_bytes = 0

    def _leave(self, number: int) -> None:
        """Hand over what is complete, and forget an item that has gone through."""
        if self._is_ordered:
            self._hand_over_in_order()
        item = self._items.get(number)
        if item is not None and not item.n_in_work and not item.n_results:
            del self._items[number]

    def _hand_over_in_order(self) -> None:
        """Hand over what has come of the first item, if that is all of it."""
        while not self._results and self._items:
            number = next(iter(self._items))
            item = self._items[number]
            if item.n_in_work:
                return
            if item.results:
                item.results.sort(key=lambda result: result[0])
                self._results += item.results
                item.results.clear()
            else:
                del self._items[number]

    def _expect(self) -> dict[int, int]:
        """Return how many tasks each stage will have beside those that there are."""
        n_to_come: float = self._count_to_come()
        expected = {}
        for stage, n_tasks in enumerate(self._n_tasks):
            size = max(1, self._batch_sizes[stage])
            expected[stage] = int(n_to_come) // size
            n_to_come = (n_to_come + n_tasks * size) * self._share(stage)
        return expected

    def _count_to_come(self) -> int:
        """Return how many items of the source are expected beside those seen."""
        if not self._takes_in:
            return 0
        if self._reader.n_left is not None:
            return self._reader.n_left
        # As many as there were, unless there are more.
        n_left = self._n_recalled.get(0, 0) - self.n_seen
        return n_left if n_left > 0 else max(MIN_EXPECTED, self.n_seen)

    def _share(self, stage: int) -> float:
        """Return how many items come of one, as far as it has been seen."""
        shape = self._shapes[stage]
        if shape not in (Shape.FILTER, Shape.FLATTEN):
            return 1.0
        known, share = self._n_recalled, 1.0
        if stage in known and stage + 1 in known:
            share = known[stage + 1] / known[stage]
            if shape is Shape.FILTER:
                share = min(1.0, share)
        n_through = self.n_in[stage] - self._n_tasks[stage]
        return (share * PRIOR_ITEMS + self.n_out[stage]) / (PRIOR_ITEMS + n_through)
