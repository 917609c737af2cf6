"""What a run is predicted to take, once a tenth of its work is done.

The first predictions rest on one task. By now more is known, so they are made again, as
of when they were made: what each stage takes in its present lane, counted from when it
was placed there, with what has been measured since. Of a stage in the caller, which
does one task after the other, it is known what is done by now. Stages of one lane share
its workers, one after the other; those of several lanes run at the same time. What
isn't known of later stages is taken to be as what is known of the others. When it is
made, and what sizes tell of the tasks that are left, is decided in `forecast`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import Decision, Lane, Limits, Machine
from amorsize_dask.core.stage import Stage

#: Share of the work that must be done. Smaller: a few tasks decide; larger: there is
#: less left to predict.
EARLY_FRACTION = 0.1

#: Share of the threads that a stage has at last, below which its time until then counts
#: for itself. Smaller: what a hundred threads do is counted from when there were ten;
#: larger: tasks that were under way when the last one was added count as not begun.
MANY_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """What sizes tell of a stage, by items."""

    #: Seconds of all that is left.
    left_s: float
    #: Mean and deviation of the seconds of all items, those that are done included.
    mean_s: float
    std_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """What one stage is predicted to take."""

    #: Place of the decision from which on it counts, among all of them; ``None``: from
    #: when it was predicted.
    decision: int | None
    lane: Lane
    seconds: float
    #: Of these, what is done already, if it counts from when it was predicted.
    done_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What all stages that are known are predicted to take."""

    parts: tuple[Part, ...]
    #: Seconds of all work, by those of the stages that are known.
    scale: float

    def end_s(self, decision_times: Sequence[float], at_s: float) -> float:
        """Return the seconds of the whole run.

        Parameters
        ----------
        decision_times : sequence of float
            For each decision the seconds since the start at which it was taken.
        at_s : float
            The same for this prediction: nothing ends before.
        """
        ends_s = [at_s]
        for lane in {part.lane for part in self.parts}:
            own = [part for part in self.parts if part.lane is lane]
            start_s = min(
                at_s if part.decision is None else decision_times[part.decision]
                for part in own
            )
            start_s -= sum(part.done_s for part in own)
            ends_s.append(start_s + self.scale * sum(part.seconds for part in own))
        return max(ends_s)


def look_out(
    stages: Sequence[Stage],
    decisions: Sequence[Decision],
    caller_stages: frozenset[int],
    machine: Machine,
    limits: Limits,
    sized: Mapping[int, Sized],
) -> Outlook | None:
    """Predict what a run takes; ``None`` if not enough is done, or nothing is placed.

    Parameters
    ----------
    stages : sequence of Stage
        All stages of the run.
    decisions : sequence of Decision
        All that were taken so far.
    caller_stages : frozenset of int
        Stages of bookkeeping, which are left out.
    machine : Machine
        The host.
    limits : Limits
        What the user allows.
    sized : mapping of int to Sized
        For stages of which it is known, by number, what sizes tell of them.
    """
    own = {i: stage for i, stage in enumerate(stages) if i not in caller_stages}
    known = {i: stage for i, stage in own.items() if stage.statistics.is_known}
    done_s = sum(stage.statistics.worked_s for stage in known.values())
    left_s = sum(
        sized[i].left_s if i in sized else stage.n_left * stage.statistics.mean_s
        for i, stage in known.items()
    )
    n_done = sum(stage.statistics.n_items_finished for stage in known.values())
    n_unknown = sum(stage.n_left for i, stage in own.items() if i not in known)
    whole_s = done_s + left_s
    if not n_done or not whole_s:
        return None
    n_known = n_done + sum(stage.n_left for stage in known.values())
    unknown_s = n_unknown * whole_s / n_known
    if done_s < EARLY_FRACTION * (whole_s + unknown_s):
        return None
    parts = tuple(
        _predict(known[i], decisions, places, machine, limits, sized.get(i))
        for i, places in _find_places(decisions).items()
        if i in known
    )
    return Outlook(parts, 1 + unknown_s / whole_s) if parts else None


def _find_places(decisions: Sequence[Decision]) -> dict[int, list[int]]:
    """Return for each stage the decisions since it came to its present lane."""
    places: dict[int, list[int]] = {}
    for place, decision in enumerate(decisions):
        own = places.setdefault(decision.stage, [])
        if own and decisions[own[-1]].placement.lane is not decision.placement.lane:
            own.clear()
        own.append(place)
    return places


def _predict(
    stage: Stage,
    decisions: Sequence[Decision],
    places: Sequence[int],
    machine: Machine,
    limits: Limits,
    sized: Sized | None,
) -> Part:
    last = decisions[places[-1]]
    # Workers that are up go on, unless memory has become short for them.
    n_most = last.placement.n_most
    counts = [min(n_most, decisions[i].placement.n_workers) for i in places]
    n_workers = max(counts)
    first_many = 0
    if last.placement.lane is Lane.THREADS:
        # They start at once: while there were few, others waited for what these did.
        enough = MANY_FRACTION * n_workers
        first_many = next(i for i, n in enumerate(counts) if n >= enough)
    place = places[first_many]
    first = decisions[place]
    lane, statistics = last.placement.lane, stage.statistics
    if lane is Lane.INLINE:
        # What is done is known: one task after the other, and some of them before the
        # stage was placed.
        left_s = stage.n_left * statistics.mean_s if sized is None else sized.left_s
        done_s = statistics.worked_s
        return Part(None, lane, done_s + left_s, done_s)
    workload = statistics.workload(first.n_left, stage.n_items_a_task)
    if sized is not None:
        workload = replace(workload, mean_s=sized.mean_s, std_s=sized.std_s)
    if lane is Lane.THREADS and statistics.gil_fraction is None:
        # What threads wait for the GIL is in the seconds that were measured in them.
        workload = replace(workload, gil_fraction=0.0)
    prediction = predict(
        workload,
        machine,
        lane,
        n_workers,
        n_up=first.n_up,
        caller_helps=Lane.INLINE in limits.allowed_lanes,
        target_batch_s=limits.target_batch_s,
    )
    return Part(place, lane, prediction.makespan_s)
