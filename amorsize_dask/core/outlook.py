"""What a run is predicted to take, once a tenth of its work is done.

The first predictions rest on one task. By now more is known, so they are made again, as
of when they were made: what each stage takes in its present lane, counted from when it
was placed there, with what has been measured since. Stages of one lane share its
workers, one after the other; those of several lanes run at the same time. What isn't
known of later stages is taken to be as what is known of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amorsize_dask.core.cost import predict
from amorsize_dask.core.model import Decision, Lane, Limits, Machine
from amorsize_dask.core.stage import Stage

#: Share of the work that must be done. Smaller: a few tasks decide; larger: there is
#: less left to predict.
EARLY_FRACTION = 0.1

#: Share by which more tasks must have finished for another look. Smaller: each takes a
#: look at all stages; larger: more than a tenth is done when it is seen.
LOOK_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Part:
    """What one stage is predicted to take."""

    #: Place of the decision from which on it counts, among all of them.
    decision: int
    lane: Lane
    seconds: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What all stages that are known are predicted to take."""

    parts: tuple[Part, ...]
    #: Seconds of all work, by those of the stages that are known.
    scale: float

    def end_s(self, decision_times: Sequence[float]) -> float:
        """Return the seconds of the whole run.

        Parameters
        ----------
        decision_times : sequence of float
            For each decision the seconds since the start at which it was taken.
        """
        ends_s = []
        for lane in {part.lane for part in self.parts}:
            own = [part for part in self.parts if part.lane is lane]
            start_s = min(decision_times[part.decision] for part in own)
            ends_s.append(start_s + self.scale * sum(part.seconds for part in own))
        return max(ends_s)


def look_out(
    stages: Sequence[Stage],
    decisions: Sequence[Decision],
    caller_stages: frozenset[int],
    machine: Machine,
    limits: Limits,
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
    """
    own = [stage for i, stage in enumerate(stages) if i not in caller_stages]
    known = [stage for stage in own if stage.statistics.is_known]
    done_s = sum(stage.statistics.worked_s for stage in known)
    left_s = sum(stage.n_left * stage.statistics.mean_s for stage in known)
    n_done = sum(stage.statistics.n_items_finished for stage in known)
    n_unknown = sum(stage.n_left for stage in own if not stage.statistics.is_known)
    whole_s = done_s + left_s
    if not n_done or not whole_s:
        return None
    unknown_s = n_unknown * whole_s / (n_done + sum(stage.n_left for stage in known))
    if done_s < EARLY_FRACTION * (whole_s + unknown_s):
        return None
    parts = tuple(
        _predict(stages[number], decisions, places, machine, limits)
        for number, places in _find_places(decisions).items()
        if stages[number].statistics.is_known and number not in caller_stages
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
) -> Part:
    first, last = decisions[places[0]], decisions[places[-1]]
    lane, statistics = last.placement.lane, stage.statistics
    workload = statistics.workload(first.n_left, stage.n_items_a_task)
    if lane is Lane.THREADS and statistics.gil_fraction is None:
        # What threads wait for the GIL is in the seconds that were measured in them.
        workload = replace(workload, gil_fraction=0.0)
    # Workers that are up go on, unless memory has become short for them.
    n_workers = max(decisions[place].placement.n_workers for place in places)
    n_workers = min(n_workers, last.placement.n_most)
    prediction = predict(
        workload,
        machine,
        lane,
        n_workers,
        n_up=first.n_up,
        caller_helps=Lane.INLINE in limits.allowed_lanes,
        target_batch_s=limits.target_batch_s,
    )
    return Part(places[0], lane, prediction.makespan_s)
