"""What the core is told and what it answers, as plain frozen data.

Units are in the names: ``_s`` are seconds, ``_bytes`` are bytes, ``_fraction`` is
a share between 0 and 1. ``None`` means "not measured" or "no limit".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from amorsize_dask.core.batch_size import OVERHEAD_FRACTION


class Lane(StrEnum):
    """Where a stage runs. Declared from the simplest to the most involved."""

    INLINE = "inline"
    THREADS = "threads"
    PROCESSES = "processes"
    CLUSTER = "cluster"


#: The lanes whose tasks run in the calling process.
CALLER_LANES = (Lane.INLINE, Lane.THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What moving work costs on a machine; all > 0.

    The defaults are pessimistic for a present-day laptop, so that before the
    first measurement nothing is started that wouldn't pay.
    """

    #: Seconds until the first worker process answers, nothing being up.
    boot_first_s: float = 0.15
    #: Seconds more if it imports Dask before.
    import_dask_s: float = 0.25
    #: Seconds that each further worker process adds.
    boot_next_s: float = 0.03
    #: Seconds that a worker process takes for a batch beside its tasks, reading it,
    #: measuring, answering; the caller takes as long for it.
    batch_s: float = 150e-6
    #: Seconds from sending a few bytes to a worker process to their return.
    echo_s: float = 150e-6
    #: Seconds to start one thread, where many are started that are at work at once.
    thread_start_s: float = 150e-6
    #: Seconds that a batch in a thread takes beside its tasks, of many that come one
    #: after the other: what core, loop and thread do for it.
    hand_off_s: float = 150e-6
    #: Bytes per second that pass to or from a worker, pickling included.
    bytes_per_s: float = 400e6
    #: Bytes per second that are copied into memory that is new, as what is in a large
    #: pickle is by whoever loads it.
    load_bytes_per_s: float = 500e6
    #: Seconds that each task takes of the caller, and as much of the worker, to be sent
    #: and come back with others in a batch.
    task_s: float = 15e-6
    #: The same for an item that goes in a list with others.
    item_s: float = 100e-9

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be > 0, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Workers that someone else has started, here or on other machines; all > 0.

    The costs are pessimistic, so that before the first measurement nothing is sent
    that wouldn't pay.
    """

    #: Worker processes, and the threads of all of them: a batch runs in a thread.
    n_workers: int
    n_threads: int
    #: Cores that they have together.
    n_cores: int
    #: Bytes of memory that they may use together.
    memory_bytes: int
    #: Seconds from sending an empty batch to its answer, nothing else being sent.
    round_trip_s: float = 0.02
    #: Seconds that each of many batches takes of caller and scheduler.
    batch_s: float = 0.005
    #: Bytes per second that pass to or from the workers, pickling included.
    bytes_per_s: float = 100e6

    def overhead_s(self, n_threads: int) -> float:
        """Return the seconds that a batch must be worth, if so many threads get some.

        They are fed by one caller, which must not take longer for all of their batches
        than half of the time that each of them has for one.
        """
        return self.batch_s * max(1.0, 2 * n_threads * OVERHEAD_FRACTION)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be > 0, not {value!r}")
        if self.n_threads < self.n_workers:
            raise ValueError(
                f"need n_threads >= n_workers, not {self.n_threads} and "
                f"{self.n_workers}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The measured host."""

    #: Cores that this process may use, >= 1.
    n_cores: int
    #: Of these, distinct physical cores, 1 <= n_physical_cores <= n_cores.
    n_physical_cores: int
    #: Bytes of memory that a run may use, > 0.
    memory_bytes: int
    costs: Costs = field(default_factory=Costs)
    #: The cluster that the caller is connected to, if there is one to be used.
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_physical_cores <= self.n_cores:
            raise ValueError(
                f"need 1 <= n_physical_cores <= n_cores, not "
                f"{self.n_physical_cores} and {self.n_cores}"
            )
        if self.memory_bytes <= 0:
            raise ValueError(f"memory_bytes must be > 0, not {self.memory_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the user allows."""

    lanes: tuple[Lane, ...] = (Lane.INLINE, Lane.THREADS, Lane.PROCESSES)
    #: Most workers of any lane at once; ``None``: as many as pay.
    max_workers: int | None = None
    #: Bytes that results and running tasks may take together; ``None``: the machine's.
    memory_limit_bytes: int | None = None
    #: Run a task alone that takes more than that, instead of giving up.
    allow_oversized: bool = False
    #: Keep the user's tasks as far from the caller as `lanes` makes possible: out of
    #: its process, or (with threads alone) out of its thread.
    isolate: bool = False
    #: Seconds that one batch should take at most.
    target_batch_s: float = 0.1
    #: Most tasks in a batch; ``None``: as many as pay.
    max_batch_size: int | None = None
    #: The lanes that may be used, simplest first; at least one.
    allowed_lanes: tuple[Lane, ...] = field(init=False, repr=False, compare=False)

    def cap(self, n: int) -> int:
        """Return how many of `n` tasks may be in one batch."""
        most = self.max_batch_size
        return n if most is None else min(n, most)

    def _find_allowed_lanes(self) -> tuple[Lane, ...]:
        lanes = tuple(lane for lane in Lane if lane in self.lanes)
        if not self.isolate:
            return lanes
        outside = tuple(lane for lane in lanes if lane not in CALLER_LANES)
        return outside or tuple(lane for lane in lanes if lane is not Lane.INLINE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed_lanes", self._find_allowed_lanes())
        if not self.allowed_lanes:
            raise ValueError(
                f"no lane is allowed: {self.lanes}, isolate={self.isolate}"
            )


#: Share by which tasks get slower that compete for the GIL. Smaller: threads are taken
#: for tasks that hold it nine tenths of the time, and gain nothing; larger: tasks that
#: hold it half of the time get processes, and pay for the transfer.
GIL_HANDOVER = 0.1

#: Share of its time below which a task waits rather than computes. Smaller: those that
#: compute a little get no more threads than there are cores, and are watched for being
#: in each other's way; larger: what they wait for the GIL is taken for other waiting.
WAITING_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A stage's work that is left, as far as it has been measured."""

    #: Tasks left, >= 0; if they can be cut, their items, and all that follows is by
    #: item.
    n_tasks: int
    #: Mean and standard deviation of a task's seconds.
    mean_s: float
    std_s: float = 0.0
    #: Share of a task's seconds in which it computes, 0 to 1; the rest it waits.
    cpu_fraction: float = 1.0
    #: Share of a task's seconds in which it holds the GIL, 0 to `cpu_fraction`.
    gil_fraction: float = 1.0
    #: Share by which tasks get slower that compete for the GIL.
    gil_handover: float = GIL_HANDOVER
    #: Of `mean_s`, seconds in which it may have waited for others in the caller.
    crowded_s: float = 0.0
    #: Bytes that go to a task and come back from it, pickled.
    in_bytes: float = 0.0
    out_bytes: float = 0.0
    #: Bytes that a result takes in a process; 0: as many as its pickle.
    held_bytes: float = 0.0
    #: Seconds that pickling takes for what goes to a task and what comes back from it,
    #: and unpickling again; 0: not measured.
    pack_s: float = 0.0
    #: Bytes of memory that a running task adds at its peak.
    peak_bytes: float = 0.0
    #: Items that a task has, >= 1.
    n_items_a_task: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the cost model expects of one way to run a workload."""

    lane: Lane
    n_workers: int
    #: Seconds until the last result.
    makespan_s: float
    #: Bytes that the running tasks hold together at their peak.
    peak_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a stage runs, and why."""

    lane: Lane
    #: Workers worth having for it.
    n_workers: int
    #: Most that may run it at once, if there are more for other stages: what cores,
    #: memory and limits allow.
    n_most: int
    #: ``None`` when the lane was forced and nothing had been measured.
    predicted: Prediction | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A placement that was taken, kept for the record of the run."""

    stage: int
    placement: Placement
    #: What the decision was taken on; ``None`` when nothing had been measured.
    workload: Workload | None
    #: Tasks of the run that were finished at the time.
    n_finished: int
    #: What was left of the stage then, by items, and workers of the lane that were up.
    n_left: int = 0
    n_up: int = 0
