"""What a run holds in memory, against what it may.

Held are the results that someone still needs, until they are on disk, and what the
running tasks are expected to take: the largest peak that was seen of their stage, and
their results. All is counted from what was measured; the core never sees a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from amorsize_dask.core.events import CALLER
from amorsize_dask.core.graph import GraphState, count_stages
from amorsize_dask.core.outcome import Outcome

#: Share of the limit up to which tasks are started. Smaller: memory lies idle; larger:
#: what isn't counted (allocators, pickles that are being written) goes beyond it.
HIGH_WATER = 0.8

#: Share of the limit down to which results go to disk once they have to. Smaller: more
#: is written and read again than needed; larger: a few at a time, for each batch.
LOW_WATER = 0.6

#: Bytes of a result from which on it is counted by itself and may go to disk. Smaller:
#: a million results have an entry each; larger: many of them together aren't seen.
LARGE_BYTES = 10_000


class Budget:
    """Counts bytes by what holds them.

    Parameters
    ----------
    graph : GraphState
        Who needs which result.
    limit_bytes : int
        What may be held at most, > 0.
    may_spill_wanted : bool
        Whether what the user has asked for may go to disk, too. Where the user takes
        it as it comes it is better not to make more.

    Attributes
    ----------
    limit_bytes : float
        What may be held now, since others may have taken some of it.
    least_limit_bytes : float
        The least that this has been.
    held_bytes : float
        Results in memory.
    running_bytes : float
        What the running tasks are expected to take.
    grown_bytes : float
        What worker processes take by themselves, and what the caller keeps.
    peak_bytes : float
        The largest sum of these so far.
    """

    def __init__(
        self, graph: GraphState, limit_bytes: int, *, may_spill_wanted: bool
    ) -> None:
        self.limit_bytes = self.least_limit_bytes = float(limit_bytes)
        self.held_bytes = 0.0
        self.running_bytes = 0.0
        self.grown_bytes = 0.0
        self.peak_bytes = 0.0
        self._first_limit_bytes = self.limit_bytes
        self._graph = graph
        self._stage_of = graph.stage_of
        self._dependencies = graph.dependencies
        self._may_spill_wanted = may_spill_wanted
        # Large results: those in memory, those on disk, and those that can't go there.
        self._resident: dict[int, float] = {}
        self._spilled: dict[int, float] = {}
        self._stuck: set[int] = set()
        # Of the large ones that are kept in files: what those in memory take there, and
        # what each takes beside it once it has been loaded.
        self._filed: dict[int, float] = {}
        self._filed_bytes = 0.0
        self._loaded: dict[int, float] = {}
        # The others, by stage: how many, and what they take together.
        self._n_small: dict[int, int] = {}
        self._small_bytes: dict[int, float] = {}
        self._running: dict[int, list[float]] = {}
        # Workers in this process, and what their batches are expected to take.
        self._here: set[int] = set()
        self._running_here_bytes = 0.0
        self._grown: dict[int, float] = {}

    @property
    def taken_bytes(self) -> float:
        """All that is held, taken and kept."""
        return self.held_bytes + self.running_bytes + self.grown_bytes

    @property
    def here_bytes(self) -> float:
        """What is known to be in this process: results as objects, and running tasks.

        Files in shared memory are no part of it.
        """
        return self.held_bytes - self._filed_bytes + self._running_here_bytes

    @property
    def caller_grown_bytes(self) -> float:
        """What the calling process keeps."""
        return self._grown.get(CALLER, 0.0)

    @property
    def is_lowered(self) -> bool:
        """Whether others have taken a part of what could be held in the beginning."""
        return self.limit_bytes < self._first_limit_bytes

    @property
    def room_bytes(self) -> float:
        """Bytes that may still be taken; below 0 if there are too many already."""
        return HIGH_WATER * self.limit_bytes - self.taken_bytes

    def set_limit(self, limit_bytes: float) -> None:
        """Hold so many bytes at most from now on."""
        self.limit_bytes = self._first_limit_bytes = max(1.0, limit_bytes)
        self.least_limit_bytes = min(self.least_limit_bytes, self.limit_bytes)

    def note_left(self, n_bytes: float) -> None:
        """Take note of what the machine has left beside what is taken here.

        All that is missing beyond that has been taken by others, or here without
        being counted, which comes to the same. What running tasks are expected to take
        counts as taken, whether they have it already or not: so the limit is never
        lowered for what the run itself has been allowed.
        """
        self.limit_bytes = min(self._first_limit_bytes, n_bytes + self.taken_bytes)
        self.least_limit_bytes = min(self.least_limit_bytes, self.limit_bytes)

    # -- results --------------------------------------------------------------------

    def hold(self, stage: int, outcomes: Sequence[Outcome], mean_bytes: float) -> None:
        """Count results of a stage, by its mean where a size isn't known."""
        n_small, small_bytes = 0, 0.0
        for outcome in outcomes:
            n_bytes = outcome.kept_bytes
            if outcome.is_away:
                # It is as if it were on disk.
                self._spilled[outcome.task] = float(n_bytes or 0)
            elif n_bytes is not None and n_bytes >= LARGE_BYTES:
                self._resident[outcome.task] = n_bytes
                self.held_bytes += n_bytes
                if outcome.loaded_bytes is not None:
                    self._filed[outcome.task] = n_bytes
                    self._filed_bytes += n_bytes
                    if outcome.loaded_bytes >= LARGE_BYTES:
                        self._loaded[outcome.task] = outcome.loaded_bytes
            else:
                n_small += 1
                small_bytes += mean_bytes if n_bytes is None else n_bytes
        if n_small:
            self._n_small[stage] = self._n_small.get(stage, 0) + n_small
            held = self._small_bytes.get(stage, 0.0)
            self._small_bytes[stage] = held + small_bytes
            self.held_bytes += small_bytes
        self._note_peak()

    def drop(self, tasks: Sequence[int]) -> None:
        """Forget results that no one needs any more."""
        resident, spilled = self._resident, self._spilled
        if resident or spilled:
            small = [t for t in tasks if t not in resident and t not in spilled]
            if len(small) < len(tasks):
                self._drop_large(tasks)
            tasks = small
        for stage, n in count_stages(self._stage_of, tasks).items():
            self._drop_small(stage, n)

    def _drop_large(self, tasks: Iterable[int]) -> None:
        """Forget those results that are counted by themselves."""
        for task in tasks:
            self._loaded.pop(task, None)
            self._spilled.pop(task, None)
            n_bytes = self._resident.pop(task, None)
            if n_bytes is not None:
                self.held_bytes -= n_bytes
                self._filed_bytes -= self._filed.pop(task, 0.0)

    def _drop_small(self, stage: int, n: int) -> None:
        n_before = self._n_small.get(stage, 0)
        if n_before:
            n = min(n, n_before)
            share = self._small_bytes[stage] * n / n_before
            self._n_small[stage] = n_before - n
            self._small_bytes[stage] -= share
            self.held_bytes -= share

    # -- running tasks --------------------------------------------------------------

    def begin(
        self,
        worker: int,
        n_bytes: float,
        read: Iterable[int] = (),
        *,
        is_here: bool = False,
    ) -> None:
        """Count a batch that is given to a worker.

        Parameters
        ----------
        worker : int
            Its number.
        n_bytes : float
            What the batch is expected to take.
        read : iterable of int
            Tasks whose results are loaded for it, if they are in files.
        is_here : bool, optional
            Whether the worker is a thread of this process.
        """
        self._running.setdefault(worker, []).append(n_bytes)
        self.running_bytes += n_bytes
        if is_here:
            self._here.add(worker)
            self._running_here_bytes += n_bytes
        if self._spilled or self._loaded:
            for task in read:
                self._load(task)
        self._note_peak()

    def _load(self, task: int) -> None:
        """Count a result as loaded, if it is in a file."""
        loaded_bytes = self._loaded.pop(task, 0.0)
        n_bytes = self._spilled.pop(task, None)
        if n_bytes is not None:
            # Files on disk take no memory; arrays that map them do.
            loaded_bytes = max(n_bytes, loaded_bytes)
            self._resident[task] = 0.0
        if loaded_bytes:
            self._resident[task] += loaded_bytes
            self.held_bytes += loaded_bytes

    def end(self, worker: int, position: int = 0) -> None:
        """Forget a batch of a worker, by default its oldest."""
        n_bytes = self._running[worker].pop(position)
        self.running_bytes -= n_bytes
        if worker in self._here:
            self._running_here_bytes -= n_bytes

    def lose(self, worker: int) -> None:
        """Forget all batches of a worker."""
        n_bytes = sum(self._running.pop(worker, ()))
        self.running_bytes -= n_bytes
        if worker in self._here:
            self._running_here_bytes -= n_bytes
        self.grown_bytes -= self._grown.pop(worker, 0.0)

    def note_caller_growth(self, n_bytes: float) -> None:
        """Take note of all that the calling process has more than in the beginning.

        What isn't known to be results or running tasks is what it keeps.
        """
        self.note_growth(CALLER, max(0.0, n_bytes - self.here_bytes))

    def note_growth(self, worker: int, n_bytes: float) -> None:
        """Take note of what a worker's process keeps."""
        if n_bytes or worker in self._grown:
            self.grown_bytes += n_bytes - self._grown.get(worker, 0.0)
            self._grown[worker] = n_bytes
            self._note_peak()

    @property
    def has_large(self) -> bool:
        """Whether there are results that are counted by themselves."""
        return bool(self._resident) or bool(self._spilled)

    @property
    def has_unread(self) -> bool:
        """Whether there are results in files that it matters to load."""
        if self._spilled or not self._loaded:
            return bool(self._spilled)
        return self.taken_bytes > LOW_WATER * self.limit_bytes

    def needs_large(self, task: int) -> bool:
        """Whether a task needs a result that is counted by itself."""
        resident, spilled = self._resident, self._spilled
        return any(d in resident or d in spilled for d in self._dependencies[task])

    def bytes_of_large(self, tasks: Iterable[int]) -> float:
        """Return what tasks' results take in a process, as far as they are large."""
        resident, spilled, loaded = self._resident, self._spilled, self._loaded
        return sum(
            [
                max(resident.get(t, 0.0), spilled.get(t, 0.0), loaded.get(t, 0.0))
                for t in tasks
            ]
        )

    def bytes_to_load(self, tasks: Iterable[int]) -> float:
        """Return what is taken in this process once these tasks' results are loaded.

        As far as they are in files.
        """
        spilled, loaded = self._spilled, self._loaded
        return sum(max(spilled.get(t, 0.0), loaded.get(t, 0.0)) for t in tasks)

    def is_about_to_free(self) -> bool:
        """Whether a large result is needed by a task that is ready or in flight."""
        return any(map(self._graph.is_in_use, self._resident))

    # -- going to disk --------------------------------------------------------------

    def spill(self, n_bytes: float, kept: Iterable[int] = ()) -> list[int]:
        """Choose results that go to disk so that `n_bytes` have room, and a bit more.

        Those that are needed last go first. What a task in flight needs stays, and
        what is in `kept`.

        Returns
        -------
        list of int
            Their tasks; empty if nothing can go.
        """
        limit_bytes = self.limit_bytes
        goal_bytes = min(LOW_WATER * limit_bytes, HIGH_WATER * limit_bytes - n_bytes)
        taken = self.taken_bytes
        candidates = []
        for task in self._resident.keys() - self._stuck - set(kept):
            next_use = self._graph.next_use(task)
            if next_use is None or (next_use == inf and not self._may_spill_wanted):
                continue
            candidates.append((next_use, task))
        chosen = []
        for _, task in sorted(candidates, reverse=True):
            if taken <= goal_bytes:
                break
            taken -= self._move_out(task)
            chosen.append(task)
        return chosen

    def _move_out(self, task: int) -> float:
        n_bytes = self._resident.pop(task)
        filed_bytes = self._filed.pop(task, 0.0)
        self._filed_bytes -= filed_bytes
        # What was loaded from a file is loaded again.
        self._spilled[task] = max(n_bytes - filed_bytes, filed_bytes)
        self.held_bytes -= n_bytes
        return n_bytes

    def keep(self, tasks: Iterable[int]) -> None:
        """Take note that results couldn't go to disk, and stay where they were."""
        for task in tasks:
            n_bytes = self._spilled.pop(task, None)
            if n_bytes is not None:
                self._resident[task] = n_bytes
                self._stuck.add(task)
                self.held_bytes += n_bytes
        self._note_peak()

    def _note_peak(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self.taken_bytes)

    def validate(self) -> None:
        """Check every invariant; for tests."""
        held = sum(self._resident.values()) + sum(self._small_bytes.values())
        assert abs(self.held_bytes - held) <= 1e-6 * max(1.0, held)
        running = sum(sum(batches) for batches in self._running.values())
        assert abs(self.running_bytes - running) <= 1e-6 * max(1.0, running)
        grown = sum(self._grown.values())
        assert abs(self.grown_bytes - grown) <= 1e-6 * max(1.0, grown)
        assert not self._resident.keys() & self._spilled.keys()
        filed = sum(self._filed.values())
        assert abs(self._filed_bytes - filed) <= 1e-6 * max(1.0, filed)
        assert self._filed.keys() <= self._resident.keys()
        assert self._loaded.keys() <= self._resident.keys() | self._spilled.keys()
        # What couldn't be written isn't tried again.
        assert not self._stuck & self._spilled.keys()
        assert all(map(self._graph.has_finished, (*self._resident, *self._spilled)))
        assert self.least_limit_bytes <= self.limit_bytes <= self._first_limit_bytes
