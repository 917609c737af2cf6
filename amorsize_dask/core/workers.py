"""What the core knows of the workers: which there are and what they have in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from amorsize_dask.core.events import CALLER, SIDE
from amorsize_dask.core.model import Lane

#: Batches that a worker may have: one that runs and one that waits behind it, so that
#: the worker isn't idle while its answer travels. More would tie tasks to a worker
#: that other workers could take.
MAX_DEPTH = 2

#: Batches that a worker may have where the user of a stream is busy for long and no one
#: hands out more. Smaller: workers have nothing to do until the user is back; larger:
#: more that is tied to one worker.
MOST_DEPTH = 12


@dataclass(slots=True)
class Worker:
    """One worker and its batches, the running one first."""

    lane: Lane
    is_up: bool
    batches: deque[list[int]] = field(default_factory=deque)
    #: For each batch the stage that it is from.
    stages: deque[int] = field(default_factory=deque)


class Workers:
    """All workers of a run, by number."""

    def __init__(self, side_lane: Lane | None) -> None:
        self._by_number: dict[int, Worker] = {CALLER: Worker(Lane.INLINE, is_up=True)}
        if side_lane is not None:
            self._by_number[SIDE] = Worker(side_lane, is_up=True)
        self._next_number = SIDE + 1
        self._n: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._n_up: dict[Lane, int] = dict.fromkeys(Lane, 0)
        # Workers of a lane that are up, by the number of batches they have.
        self._by_depth: dict[Lane, list[set[int]]] = {
            lane: [set() for _ in range(MOST_DEPTH + 1)] for lane in Lane
        }
        # Those that get nothing more and are ended once they are idle.
        self._leaving: set[int] = set()
        # Workers, other than the caller's two, that have a batch of a stage.
        self._n_on: dict[int, int] = {}

    def __getitem__(self, number: int) -> Worker:
        return self._by_number[number]

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._by_number.values())

    @property
    def side_is_idle(self) -> bool:
        """Whether there is a side thread and it has nothing to do."""
        return SIDE in self._by_number and not self._by_number[SIDE].batches

    def count(self, lane: Lane) -> int:
        """How many workers of a lane have been started, up or not."""
        return self._n[lane]

    def count_up(self, lane: Lane) -> int:
        """How many workers of a lane are up."""
        return self._n_up[lane]

    def count_busy(self, lane: Lane) -> int:
        """How many workers of a lane have a batch."""
        return self._n_up[lane] - len(self._by_depth[lane][0])

    def count_on(self, stage: int) -> int:
        """How many workers that were started have a batch of this stage."""
        return self._n_on.get(stage, 0)

    @property
    def left(self) -> list[int]:
        """Workers that are leaving and have nothing left to do, in order."""
        return sorted(n for n in self._leaving if not self._by_number[n].batches)

    def send_away(self, number: int) -> None:
        """Give a worker nothing more."""
        self._leaving.add(number)

    def add(self, lane: Lane, n: int) -> tuple[int, ...]:
        """Add workers that are being started; return their numbers."""
        numbers = tuple(range(self._next_number, self._next_number + n))
        self._next_number += n
        self._n[lane] += n
        for number in numbers:
            self._by_number[number] = Worker(lane, is_up=False)
        return numbers

    def set_up(self, number: int) -> None:
        """Note that a worker has answered for the first time."""
        worker = self._by_number[number]
        if not worker.is_up:
            worker.is_up = True
            self._n_up[worker.lane] += 1
            self._by_depth[worker.lane][0].add(number)

    def remove(self, number: int) -> Worker:
        """Forget a worker and return what it was."""
        worker = self._by_number.pop(number)
        self._leaving.discard(number)
        self._n[worker.lane] -= 1
        if worker.is_up:
            self._n_up[worker.lane] -= 1
            self._by_depth[worker.lane][len(worker.batches)].discard(number)
        for stage in set(worker.stages):
            self._n_on[stage] -= 1
        return worker

    def take_up(self, number: int, stage: int, tasks: list[int]) -> None:
        """Note that a worker was given a batch.

        The caller and its side thread may have tasks of several stages in one; for
        these the stage says nothing.
        """
        worker = self._by_number[number]
        if number > SIDE:
            if stage not in worker.stages:
                self._n_on[stage] = self._n_on.get(stage, 0) + 1
            worker.stages.append(stage)
            by_depth = self._by_depth[worker.lane]
            by_depth[len(worker.batches)].remove(number)
            by_depth[len(worker.batches) + 1].add(number)
        worker.batches.append(tasks)

    def finish(self, number: int, position: int = 0) -> list[int]:
        """Note that a worker has ended a batch, its oldest; return that batch."""
        return self._remove_batch(number, position)

    def take_back(self, number: int, task: int) -> list[int]:
        """Take the batch that has this task away from a worker; return that batch."""
        return self._remove_batch(number, self.find_batch(number, task))

    def find_batch(self, number: int, task: int) -> int:
        """Return which of a worker's batches has this task."""
        batches = self._by_number[number].batches
        return next(i for i, batch in enumerate(batches) if task in batch)

    def _remove_batch(self, number: int, i: int) -> list[int]:
        worker = self._by_number[number]
        batch = worker.batches[i]
        if number > SIDE:
            by_depth = self._by_depth[worker.lane]
            by_depth[len(worker.batches)].remove(number)
            by_depth[len(worker.batches) - 1].add(number)
            stage = worker.stages[i]
            del worker.stages[i]
            if stage not in worker.stages:
                self._n_on[stage] -= 1
        del worker.batches[i]
        return batch

    def with_depth(self, lane: Lane, depth: int) -> list[int]:
        """Return the workers of a lane that have this many batches, in order.

        Without those that are leaving.
        """
        workers = self._by_depth[lane][depth]
        return sorted(workers - self._leaving if self._leaving else workers)
