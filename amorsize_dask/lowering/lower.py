"""From a plain graph of Dask's nodes to the graph that the core and the lanes run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

from dask._task_spec import GraphNode

from amorsize_dask.core.graph import Graph
from amorsize_dask.core.model import Lane
from amorsize_dask.execute.fused import Chain
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.node import Key, Node
from amorsize_dask.execute.recipe import Piece
from amorsize_dask.lowering.aliases import Resolution, resolve
from amorsize_dask.lowering.annotations import (
    NO_ANNOTATIONS,
    Annotation,
    Annotations,
)
from amorsize_dask.lowering.bookkeeping import find_bookkeeping
from amorsize_dask.lowering.functions import function_of, look_up
from amorsize_dask.lowering.fusing import Unfuser, fuse
from amorsize_dask.lowering.keys import flatten
from amorsize_dask.lowering.priority import bring_forward, prefer, prioritize
from amorsize_dask.lowering.stages import find_stages
from amorsize_dask.lowering.traversal import Traversal

#: Most links of a chain that may be split. Smaller: some that wait and compute do both
#: in one place; larger: each first look at one tries more places for a split.
MAX_LINKS = 8

#: Added to the name of a stage of chains for that of their last links, if it is split.
TAIL = " (end)"

#: The stage of what puts the parts of tasks that were cut together again.
REST = "parts"

#: Where `dask.array.store` writes, since what it writes to may be in memory: a worker
#: process would write to its copy.
STORE_LANES = (Lane.INLINE, Lane.THREADS)


def lower(
    dsk: Mapping[Key, Any],
    keys: Any,
    *,
    fuse: bool = True,
    annotations: Annotations = NO_ANNOTATIONS,
) -> TaskGraph:
    """Lower a graph to the tasks that the requested keys need.

    Parameters
    ----------
    dsk : mapping of key to node
        The graph, as `materialize` makes it. Values that aren't nodes are read as
        Dask reads them: tuples that start with a callable are tasks.
    keys : key or list of these, nested
        What the user asked for.
    fuse : bool, optional
        Make linear chains one task each, known by its last key, and let values go by
        the key of an alias. Without it each of the user's own tasks stays one, under
        its own key.
    annotations : Annotations, optional
        What was said of single tasks: those of which it differs stay apart, and are of
        different stages.

    Returns
    -------
    TaskGraph
        Every node that isn't an alias or data is in one task.

    Raises
    ------
    KeyError
        If a requested key isn't in the graph.
    ValueError
        If a key that a task depends on isn't.
    RuntimeError
        If keys depend on each other in a circle.
    """
    traversal = Traversal(dsk, flatten(keys))
    resolution = resolve(traversal, traversal.wanted, may_rename=fuse)
    tasks = traversal.sequence
    if values := traversal.aliases.union(traversal.constants):
        tasks = [number for number in tasks if number not in values]
    bookkeeping = find_bookkeeping(traversal, resolution, tasks)
    if fuse:
        said = None
        if annotations:
            said = [annotations.of(key) for key in traversal.keys]
        chains = _fuse(resolution, tasks, bookkeeping, said)
    else:
        chains = [[task] for task in tasks]
    return _assemble(
        traversal, resolution, chains, bookkeeping, annotations, may_split=fuse
    )


def _fuse(
    resolution: Resolution,
    tasks: list[int],
    bookkeeping: AbstractSet[int],
    said: Sequence[Annotation] | None,
) -> list[list[int]]:
    """Return the links of each chain; a task by itself is a chain of one.

    Bookkeeping has its own place to run, so it stays apart.
    """
    needed, n_users, wanted = (
        resolution.needed,
        resolution.n_users,
        resolution.wanted,
    )
    # By the node that is its last so far.
    chain_of: list[list[int]] = [[]] * len(needed)
    chains = []
    for task in tasks:
        found = needed[task]
        if (
            len(found) == 1
            and n_users[before := found[0]] == 1
            and before not in wanted
            and task not in bookkeeping
            and before not in bookkeeping
            and (said is None or said[task] == said[before])
        ):
            chain = chain_of[before]
            chain.append(task)
        else:
            chain = [task]
            chains.append(chain)
        chain_of[task] = chain
    return chains


def _assemble(
    traversal: Traversal,
    resolution: Resolution,
    chains: list[list[int]],
    bookkeeping: AbstractSet[int],
    annotations: Annotations,
    *,
    may_split: bool,
) -> TaskGraph:
    """Give the chains numbers by priority and gather what runs them."""
    keys, nodes = traversal.keys, traversal.nodes
    chains, dependencies = _order(chains, resolution, bookkeeping)
    said: list[Annotation] = []
    if annotations:
        said = [annotations.of(keys[chain[-1]]) for chain in chains]
        order = prefer(dependencies, [annotation.priority for annotation in said])
        if order is not None:
            chains, dependencies = _reorder(chains, dependencies, order)
            said = [said[task] for task in order]
    targets, constants = resolution.targets, traversal.constants
    known_as, findable = keys, set[int]()
    ends = [chain[-1] for chain in chains]
    if traversal.aliases:
        known_as = [keys[name] for name in resolution.names]
        # Other aliases lead to links inside of chains.
        findable = {*constants, *ends}
    stages = find_stages(chains, keys, nodes, bookkeeping, said)
    names, caller_stages, n_items = (
        stages.names,
        stages.bookkeeping,
        _count(chains, nodes),
    )
    names = list(names)
    rest_stage = None
    if n_items:
        rest_stage = len(names)
        names.append(REST)
        caller_stages |= {rest_stage}
    tasks = _make_nodes(traversal, resolution, chains)
    tail_stage = {}
    # Where each task stays one under its own key, so do those that Dask has fused.
    for number in _find_splittable(stages.stage_of, tasks) if may_split else ():
        tail_stage[number] = len(names)
        names.append(f"{names[number]}{TAIL}")
    stage_lanes = {
        stage: annotation.lanes
        for stage, annotation in zip(stages.stage_of, said, strict=False)
        if annotation.lanes is not None and stage not in caller_stages
    }
    store = look_up("dask.array.core:load_store_chunk")
    if store is not None:
        for stage, chain in dict(zip(stages.stage_of, chains, strict=True)).items():
            if function_of(nodes[chain[-1]]) is store:
                stage_lanes.setdefault(stage, STORE_LANES)
    for number, tail in tail_stage.items():
        if number in stage_lanes:
            stage_lanes[tail] = stage_lanes[number]
    return TaskGraph(
        graph=Graph(
            dependencies=dependencies,
            stage_of=stages.stage_of,
            n_stages=len(names),
            wanted=frozenset(
                [task for task, end in enumerate(ends) if end in resolution.wanted]
            ),
            caller_stages=caller_stages,
            n_items=n_items,
            rest_stage=rest_stage,
            tail_stage=tail_stage,
            stage_lanes=stage_lanes,
            sized_stages=frozenset(
                stage
                for stage, node in zip(stages.stage_of, tasks, strict=True)
                if type(node) is Piece and node.recipe.cut is not None
            ),
        ),
        keys=[known_as[end] for end in ends],
        nodes=tasks,
        arguments=_find_arguments(resolution, chains, known_as),
        constants={known_as[i]: value for i, value in constants.items()},
        aliases={
            keys[number]: known_as[targets[number]]
            for number in sorted(traversal.aliases)
            if targets[number] in findable and known_as[targets[number]] != keys[number]
        },
        stages=names,
        retries={
            task: annotation.retries
            for task, annotation in enumerate(said)
            if annotation.retries is not None
        },
    )


def _find_splittable(stage_of: Sequence[int], nodes: Sequence[Node]) -> list[int]:
    """Return the stages of which all tasks are chains that can be split."""
    if Chain not in map(type, nodes):
        return []
    kinds: dict[int, bool] = {}
    for stage, node in zip(stage_of, nodes, strict=True):
        can_be_split = type(node) is Chain and len(node.nodes) <= MAX_LINKS
        kinds[stage] = can_be_split and kinds.get(stage, True)
    return [stage for stage, can_be_split in kinds.items() if can_be_split]


def _count(chains: list[list[int]], nodes: Sequence[GraphNode | Piece]) -> list[int]:
    """Return for each task the items that it can be cut into; empty if none can."""
    n_items = [1] * len(chains)
    can_be_cut = False
    for task, chain in enumerate(chains):
        node = nodes[chain[0]]
        if type(node) is Piece and node.recipe.cut is not None and len(chain) == 1:
            n_items[task] = max(1, node.n_items)
            can_be_cut |= n_items[task] > 1
    return n_items if can_be_cut else []


def _order(
    chains: list[list[int]], resolution: Resolution, bookkeeping: AbstractSet[int]
) -> tuple[list[list[int]], Sequence[Sequence[int]]]:
    """Return the chains by priority, and for each those that it depends on."""
    position = [0] * len(resolution.needed)
    for i, chain in enumerate(chains):
        position[chain[-1]] = i
    needed_by = [resolution.needed[chain[0]] for chain in chains]
    dependencies = [[position[i] for i in n] if n else () for n in needed_by]
    order = prioritize(dependencies)
    parts = [
        i
        for i, chain in enumerate(chains if bookkeeping else ())
        if chain[0] in bookkeeping and len(dependencies[i]) == 1
    ]
    if parts:
        order = bring_forward(dependencies, parts, order)
    if order is None:
        return chains, dependencies
    return _reorder(chains, dependencies, order)


def _reorder(
    chains: list[list[int]],
    dependencies: Sequence[Sequence[int]],
    order: Sequence[int],
) -> tuple[list[list[int]], Sequence[Sequence[int]]]:
    rank = [0] * len(order)
    for i, task in enumerate(order):
        rank[task] = i
    return (
        [chains[task] for task in order],
        [[rank[i] for i in dependencies[task]] for task in order],
    )


def _find_arguments(
    resolution: Resolution, chains: list[list[int]], known_as: Sequence[Key]
) -> list[Sequence[Key]]:
    """Return for each chain the keys of what it needs from outside."""
    inputs = resolution.inputs
    found: list[Sequence[Key]] = []
    for chain in chains:
        needed = inputs[chain[0]]
        if len(chain) > 1:
            needed = _find_inputs(resolution, chain)
        found.append([known_as[i] for i in needed] if needed else ())
    return found


def _find_inputs(resolution: Resolution, chain: list[int]) -> Sequence[int]:
    """Return whose values the links of a chain need from outside."""
    found = dict.fromkeys(resolution.inputs[chain[0]])
    for before, link in pairwise(chain):
        if len(resolution.inputs[link]) > 1:
            found |= dict.fromkeys(i for i in resolution.inputs[link] if i != before)
    return list(found)


def _make_nodes(
    traversal: Traversal, resolution: Resolution, chains: list[list[int]]
) -> list[Node]:
    """Return what runs each chain, looking up values by the keys they go by."""
    keys, nodes, dependencies = traversal.keys, traversal.nodes, traversal.dependencies
    names, targets = resolution.names, resolution.targets
    gone: set[int] = set()
    if traversal.aliases:
        gone = {i for i, target in enumerate(targets) if names[target] != i}

    def rename(number: int) -> GraphNode | Piece:
        node = nodes[number]
        if gone.isdisjoint(dependencies[number]):
            return node
        subs: dict[Any, Any] = {
            keys[i]: keys[names[targets[i]]] for i in dependencies[number] if i in gone
        }
        return node.substitute(subs)

    find = rename if gone else nodes.__getitem__
    unfuser = Unfuser()
    made: list[Node] = []
    for chain in chains:
        node = find(chain[0])
        if len(chain) > 1:
            links = [node, *map(find, chain[1:])]
            made.append(fuse([keys[names[i]] for i in chain], links, unfuser))
        else:
            made.append(node if type(node) is Piece else unfuser.convert(node))
    return made
