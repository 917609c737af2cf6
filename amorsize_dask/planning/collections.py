"""Plans for Dask collections: some items of real partitions, through the whole chain.

Stages that need results of whole other stages, such as what sums them up, can't be
tried without making these. They are left out, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from amorsize_dask.core.model import Lane, Limits, Machine, Workload
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.identity import find_firsts, find_lone_stages
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering import read
from amorsize_dask.lowering.partitions import find_partitions
from amorsize_dask.planning.allowed import find_lanes, find_limits
from amorsize_dask.planning.choice import Choice, choose_lane
from amorsize_dask.planning.plan import Plan
from amorsize_dask.planning.pools import choose_pool
from amorsize_dask.planning.putting_together import (
    find_machine,
    make_plan,
    make_profile,
)
from amorsize_dask.planning.sample import Sample, take_sample
from amorsize_dask.scheduler import AmorsizeScheduler

#: Seconds of an item below which several are tried at once: what a call of the whole
#: chain costs would be most of it.
SHORT_S = 0.0002

#: How many.
SLICE_ITEMS = 64

#: Stages that are tried. Smaller: of a graph of many functions little is known; larger:
#: a list of thousands of different delayed values takes long.
MOST_STAGES = 20


class _Try:
    """A task, or a part of one, as an item to be sampled.

    Its pickle is what would be sent for the task beside the functions.
    """

    def __init__(self, call: Callable[[], Any], sent: Any) -> None:
        self.call = call
        self._sent = sent

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, ((self._sent,),)


def _call(item: _Try) -> Any:
    return item.call()


class _Slices(Sequence[_Try]):
    """Some items each of pieces that can be cut, from the first to the last."""

    def __init__(self, pieces: Sequence[Piece], size: int) -> None:
        self._size = size
        self._places = [
            (piece, start)
            for piece in pieces
            for start in range(0, max(1, piece.n_items), size)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: Any) -> Any:
        piece, start = self._places[place]
        cut = piece.recipe.cut
        assert cut is not None
        arguments = list(piece.arguments)
        items = arguments[cut.source][start : start + self._size]
        arguments[cut.source] = items
        part = Piece(piece.recipe, arguments)
        return _Try(lambda: part({}), items)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What was found of a stage: all by item."""

    number: int
    n_items: int
    sample: Sample
    workload: Workload
    choice: Choice

    @property
    def serial_s(self) -> float:
        return self.workload.n_tasks * self.workload.mean_s


def optimize_collection(
    collection: Any,
    sample_size: int | None,
    target_s: float,
    max_workers: int | None,
    respect_load: bool,
    scheduler: AmorsizeScheduler,
) -> Plan:
    """Measure some items of a collection, and say how it is best computed.

    Parameters are those of `optimize`, checked.

    Raises
    ------
    ArgumentError
        If it is no Dask collection.
    """
    tasks = read(*find_partitions(collection))
    machine = find_machine(respect_load)
    if respect_load:
        max_workers = min(max_workers or machine.n_cores, machine.n_cores)
    limits = find_limits(scheduler, machine, max_workers)
    found, n_left_out = _try_stages(tasks, sample_size, machine, limits, scheduler)
    if not found:
        reason = "Serial execution recommended: there is nothing to run"
        if n_left_out:
            reason = (
                "Serial execution recommended: nothing is known, since no stage can "
                "be tried by itself. Computing it measures them all"
            )
        return Plan(data=collection, reason=reason, max_workers=max_workers)
    main = max(found, key=lambda stage: stage.serial_s)
    pool = choose_pool(
        main.workload,
        machine,
        limits,
        target_chunk_s=target_s,
        may_wait=main.choice.lane is Lane.PROCESSES,
    )
    profile = make_profile(
        main.n_items, main.workload, main.sample, machine, main.choice, pool
    )
    whole_s = sum(stage.serial_s for stage in found)
    predicted_s = sum(stage.choice.predicted_s for stage in found)
    plan = make_plan(
        replace(
            profile,
            serial_s=whole_s,
            unsendable=main.sample.unsendable,
            unpicklable=main.sample.unpicklable,
            estimated_speedup=whole_s / predicted_s if predicted_s else 1.0,
        ),
        main.workload,
        main.choice,
        pool,
        main.sample,
        target_s,
        max_workers,
        None,
        collection,
    )
    warnings = plan.warnings
    if n_left_out:
        warnings += (
            f"{n_left_out} stages aren't part of what was predicted: they need "
            "results of others, or are too many",
        )
    return replace(
        plan,
        results={},
        warnings=warnings,
        predicted_s=plan.predicted_s + predicted_s - main.choice.predicted_s,
    )


def _try_stages(
    tasks: TaskGraph,
    sample_size: int | None,
    machine: Machine,
    limits: Limits,
    scheduler: AmorsizeScheduler,
) -> tuple[list[_Stage], int]:
    """Try each stage that can be tried; return them, and how many others there are."""
    by_stage: dict[int, list[int]] = {}
    for task, number in enumerate(tasks.stage_of):
        by_stage.setdefault(number, []).append(task)
    values: dict[Key, Any] = dict(tasks.constants)
    found: list[_Stage] = []
    n_left_out = 0
    lone_stages = find_lone_stages(tasks, find_firsts(tasks))
    for number, own in by_stage.items():
        if number in tasks.graph.caller_stages:
            continue
        ready = [t for t in own if all(key in values for key in tasks.arguments[t])]
        if not ready or len(found) == MOST_STAGES:
            n_left_out += 1
            continue
        n_items, sample = _try(tasks, own, ready, values, sample_size)
        workload = sample.workload(n_items, n_items / len(own))
        lanes = find_lanes(
            limits,
            may_send=sample.unsendable is None,
            is_alone=not sample.values,
            may_share=number not in lone_stages,
        )
        choice = choose_lane(
            workload,
            machine,
            limits,
            lanes,
            n_warm=scheduler.n_idle_workers,
            n_inner_cores=sample.n_inner_cores,
        )
        found.append(_Stage(number, n_items, sample, workload, choice))
    return found, n_left_out


def _whole(tasks: TaskGraph, task: int, values: dict[Key, Any]) -> _Try:
    needed = {key: values[key] for key in tasks.arguments[task]}
    return _Try(lambda: tasks.nodes[task](needed), list(needed.values()))


def _try(
    tasks: TaskGraph,
    own: list[int],
    ready: list[int],
    values: dict[Key, Any],
    sample_size: int | None,
) -> tuple[int, Sample]:
    """Try some of a stage; return its items and what came of it."""
    nodes = [tasks.nodes[task] for task in ready]
    pieces = [node for node in nodes if type(node) is Piece and node.recipe.cut]
    if len(pieces) == len(nodes) and not any(p.recipe.references for p in pieces):
        n_items = sum(max(1, piece.n_items) for piece in pieces)
        sample = take_sample(_call, _Slices(pieces, 1), n_items, sample_size)
        if sample.values and sample.mean_s < SHORT_S:
            slices = _Slices(pieces, SLICE_ITEMS)
            sample = take_sample(_call, slices, n_items, sample_size, SLICE_ITEMS)
        return n_items, sample
    items = [_whole(tasks, task, values) for task in ready]
    sample = take_sample(_call, items, len(own), sample_size)
    # What others need, as far as it was made.
    values.update(
        (tasks.keys[ready[place]], value) for place, value in sample.values.items()
    )
    return len(own), sample
