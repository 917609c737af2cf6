"""The core's whole vocabulary: events go in, actions come out.

An event is a past fact about a worker, an action is a command for the edge. A
worker is a number: `CALLER` is the calling thread, `SIDE` the one thread beside
it in which the caller works while it watches; all others are started by a
`StartWorkers` action and are named there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amorsize_dask.core.model import Cluster, Lane
from amorsize_dask.core.outcome import Outcome

CALLER = 0
SIDE = 1


@dataclass(slots=True)
class BatchDone:
    """A worker has finished a batch that it was given, by default its oldest."""

    worker: int
    outcomes: list[Outcome]
    #: Share of the batch's seconds in which the GIL was held, if it was watched.
    gil_fraction: float | None = None
    #: Whether it ended early: tasks without an outcome are to be run again.
    is_partial: bool = False
    #: Bytes of the pickled batch as it was sent; 0 if it wasn't.
    in_bytes: int = 0
    #: Seconds that pickling what its tasks need, and their results, took in all;
    #: ``None``: not measured.
    pack_s: float | None = None
    #: Bytes that the worker's process keeps beyond what it had when it was up; of the
    #: caller's own workers all that it has more than in the beginning, 0 if it hasn't
    #: looked.
    grown_bytes: int = 0
    #: Where tasks are chains: for each link its mean seconds and CPU seconds, if they
    #: were measured (`SIDE` only).
    links: list[tuple[float, float]] = field(default_factory=list)
    #: Which of its batches it was: a thread of a cluster isn't bound to any order.
    position: int = 0


@dataclass(slots=True)
class Glimpse:
    """The batch that `SIDE` is running has not finished yet, and took this so far."""

    seconds: float
    cpu_fraction: float
    gil_fraction: float | None


@dataclass(slots=True)
class Unshippable:
    """These tasks can't be sent to this worker, or their results not back.

    With ``what="result"`` they were part of a batch of the worker's whose `BatchDone`
    follows, without them. With ``what="task"`` they were part of the batch
    that the worker was just given, and nothing of that batch was sent.
    """

    worker: int
    tasks: list[int]
    what: str
    reason: str


@dataclass(slots=True)
class Immovable:
    """A result has been made in the caller that couldn't be sent anywhere."""

    task: int
    reason: str


@dataclass(slots=True)
class WorkerReady:
    """A worker has answered for the first time."""

    worker: int


@dataclass(slots=True)
class WorkerLost:
    """A worker has died; what it had in flight is gone."""

    worker: int
    #: The signal's name or the exit code, for people.
    ending: str
    #: Whether it was probably killed because memory ran out.
    is_memory_likely: bool = False
    #: Most bytes that its process is known to have had beyond those at its boot.
    grown_bytes: int = 0
    #: Which of its batches was running; -1 if none of them is to blame.
    position: int = 0
    #: How many workers that batch has lost by now, one after the other.
    n_lost: int = 1
    #: Whether its process had got up, though it may not have been ready for tasks yet.
    has_answered: bool = False


@dataclass(slots=True)
class StartFailed:
    """Workers of this lane can't be started; the lane is closed for this run."""

    lane: Lane
    workers: tuple[int, ...]
    reason: str


@dataclass(slots=True)
class SpillFailed:
    """These tasks' results couldn't be written to disk; they stay where they were."""

    tasks: list[int]


@dataclass(slots=True)
class Added:
    """Tasks have come to a graph that is open. Their numbers follow on the others."""

    #: For each the tasks whose values it needs, and its stage. All are wanted: the
    #: value stays until the user, who may add a task that needs it, has taken it.
    tasks: list[tuple[Sequence[int], int]]
    #: For each stage how many tasks are expected beyond those that there are.
    n_more: Mapping[int, int]


@dataclass(slots=True)
class Taken:
    """The user has taken these tasks' results, all wanted, and is done with them."""

    tasks: Sequence[int]


@dataclass(slots=True)
class Away:
    """The user has had a result for so long, and nothing could be handed out."""

    seconds: float


@dataclass(slots=True)
class MemoryLeft:
    """The machine has this many bytes left, beside what the run takes."""

    n_bytes: int


@dataclass(slots=True)
class Weighed:
    """The edge has seen how large the tasks of a stage are."""

    stage: int
    #: By task, the sizes of its items added up, in any unit. Empty if none is quickly
    #: seen, or all items are of one size. Those that have finished may be left out.
    sizes: Mapping[int, float]


@dataclass(slots=True)
class CallerGrown:
    """The calling process has this many bytes more than in the beginning."""

    n_bytes: int


@dataclass(slots=True)
class ClusterGrown:
    """The cluster has more threads than it had before, in workers that have come."""

    cluster: Cluster


Event = (
    BatchDone
    | Glimpse
    | Unshippable
    | Immovable
    | WorkerReady
    | WorkerLost
    | StartFailed
    | SpillFailed
    | Added
    | Taken
    | Away
    | MemoryLeft
    | CallerGrown
    | Weighed
    | ClusterGrown
)


@dataclass(slots=True)
class Run:
    """Give these tasks to this worker as one batch."""

    worker: int
    tasks: list[int]
    #: Watch how long the GIL is held meanwhile (`SIDE` only).
    watched: bool = False
    #: Seconds after which no more of them are begun (`CALLER` only).
    most_s: float | None = None


@dataclass(slots=True)
class Cut:
    """Make a task of the first items that another one still has.

    What is left of that one puts the results of all its parts and of its own items
    together.
    """

    #: The task that is cut.
    task: int
    #: The new task's number: the next one that no task has.
    part: int
    n_items: int


@dataclass(slots=True)
class Split:
    """Make two tasks of one that is a chain: its first links become a new task.

    The other links stay, and need the new one's value instead of what they needed.
    """

    #: The task that is split.
    task: int
    #: The new task's number: the next one that no task has.
    part: int
    #: How many links the new one gets.
    n_links: int


@dataclass(slots=True)
class StartWorkers:
    """Start workers under these numbers, in the background."""

    lane: Lane
    workers: tuple[int, ...]


@dataclass(slots=True)
class Retire:
    """End this worker process, which is idle; it isn't mentioned again."""

    worker: int


@dataclass(slots=True)
class Drop:
    """No one needs these tasks' values any more."""

    tasks: list[int]


@dataclass(slots=True)
class Spill:
    """Move these tasks' results to disk; who needs one finds it there."""

    tasks: list[int]


@dataclass(slots=True)
class GiveUp:
    """The run can't go on: this task has failed as described."""

    task: int
    #: "lost": its workers died; "immovable": it can't be sent to the lanes that are
    #: allowed; "lane": these lanes can't be had; "memory": it takes more than there is.
    kind: str
    reason: str
    n_attempts: int


@dataclass(slots=True)
class Weigh:
    """See how large the tasks of this stage are: `Weighed` follows."""

    stage: int


Action = Run | Cut | Split | StartWorkers | Retire | Drop | Spill | Weigh | GiveUp
