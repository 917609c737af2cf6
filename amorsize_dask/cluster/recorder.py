"""A plugin of a Dask cluster's scheduler that keeps a record of each stage.

The scheduler's loop is everyone's: nothing here waits, takes more than microseconds for
a task, or lets an error out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from distributed import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from amorsize_dask import config
from amorsize_dask.cluster.observed import ObservedStage, group_metrics
from amorsize_dask.cluster.record import ClusterRecord, ClusterStage
from amorsize_dask.core.model import Workload
from amorsize_dask.execute.identity import fingerprint_calls
from amorsize_dask.execute.recollection import SAVE_S
from amorsize_dask.lowering.called import find_called
from amorsize_dask.measure.history import shared

logger = logging.getLogger(__name__)

#: Stages that are kept, those that had tasks last. Smaller: programs of many functions
#: are forgotten in parts; larger: memory, 2 kB each, and a look takes longer.
MAX_STAGES = 500

#: Milliseconds between two looks at the workers' memory, which they tell twice a second
#: at most. Smaller: nothing new is seen; larger: short peaks are missed.
LOOK_MS = 500

#: Bytes per second between workers as long as the scheduler doesn't say.
USUAL_BYTES_PER_S = 100e6

#: This package.
_OWN = __name__.split(".")[0]

#: States of tasks that are still to be done.
_LEFT = ("waiting", "queued", "no-worker", "processing")

_Method = TypeVar("_Method", bound=Callable[..., None])


def _guarded(method: _Method) -> _Method:
    """Keep errors in, whatever a release of Dask's has changed; log the first one."""

    @wraps(method)
    def run(self: ClusterRecorder, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.note_error()

    return cast(_Method, run)


class ClusterRecorder(SchedulerPlugin):
    """Records what stages take in a Dask cluster, as its scheduler sees them.

    Register it with ``client.register_plugin(ClusterRecorder())``, or, where the
    scheduler is in this process, by ``cluster.scheduler.add_plugin``. From then on
    `cluster_record` and `advise_workers` answer. The scheduler must have this package.

    A stage are the tasks whose keys have a prefix in common. What is kept of it doesn't
    grow with its tasks. What it takes goes to the memory of earlier runs, under what
    its tasks call, or its prefix where that can't be seen: of the user that the
    scheduler runs for, when there is nothing left to do and when it closes.

    An error inside is logged once, and the scheduler goes on.

    Examples
    --------
    >>> ClusterRecorder().name
    'amorsize-recorder'
    """

    name = "amorsize-recorder"

    def __init__(self) -> None:
        # The setting of whoever registers it, which the scheduler's process hasn't.
        self._remembers = bool(config.get("history"))
        self._begin()

    def _begin(self) -> None:
        self._scheduler: Any = None
        self._looking: PeriodicCallback | None = None
        self._stages: dict[str, ObservedStage] = {}
        self._seen_at: dict[str, float] = {}
        self._n_lost = 0
        self._has_news = False
        self._unsaved_s = 0.0
        self._has_failed = False

    def __reduce__(self) -> tuple[Any, ...]:
        # What was recorded belongs to one scheduler.
        return _make_recorder, (self._remembers,)

    # -- what the scheduler calls -----------------------------------------------------

    async def start(self, scheduler: Any) -> None:
        """Begin."""
        self._attach(scheduler)

    async def before_close(self) -> None:
        """Keep what was learned."""
        self._end()

    @_guarded
    def update_graph(self, scheduler: Any, *, tasks: Sequence[Any], **_: Any) -> None:
        """See which stages a graph has."""
        self._attach(scheduler)
        firsts: dict[str, Any] = {}
        for key in tasks:
            task = scheduler.tasks[key]
            name = task.prefix.name
            if name not in firsts and task.run_spec is not None:
                firsts[name] = task
        for name, task in firsts.items():
            self._open_stage(name, _identify(name, task))
        while len(self._stages) > MAX_STAGES:
            self._keep(self._stages.pop(next(iter(self._stages))))

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any
    ) -> None:
        """Count a task that has finished, or failed."""
        # Most transitions are others.
        if start == "processing" and finish in ("memory", "erred"):
            self._end_task(key, finish, **kwargs)

    @_guarded
    def _end_task(
        self,
        key: Any,
        finish: str,
        *,
        startstops: Sequence[Any] = (),
        nbytes: int = 0,
        worker: str = "",
        **_: Any,
    ) -> None:
        task = self._scheduler.tasks[key]
        stage = self._stages.get(task.prefix.name)
        if stage is None:
            return
        if finish == "erred":
            stage.n_failed += 1
            return
        seconds = _add_up(startstops, "compute")
        stage.add(
            seconds,
            _add_up(startstops, "transfer"),
            sum(max(0, needed.nbytes) for needed in task.dependencies),
            nbytes,
        )
        self._has_news = True
        self._unsaved_s += seconds
        state = self._scheduler.workers.get(worker)
        if state is not None and stage.told_at != state.last_seen:
            # Until a worker tells again there is little that is new.
            stage.told_at = state.last_seen
            memory = state.memory
            stage.add_memory(memory.process, memory.managed, memory.unmanaged)

    @_guarded
    def log_event(self, topic: str, msg: Any) -> None:
        """Count workers that are lost."""
        if topic != "all" or not isinstance(msg, dict):
            return
        if msg.get("action") == "remove-worker" and not msg.get("expected", True):
            self._n_lost += 1

    @_guarded
    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Forget a worker that has gone."""
        self._seen_at.pop(worker, None)

    @_guarded
    def restart(self, scheduler: Any) -> None:
        """Keep what was learned: all tasks are gone."""
        self._learn()

    # -- what is asked ----------------------------------------------------------------

    def read(self) -> ClusterRecord:
        """Return what there is, for `cluster_record`; to be called by the scheduler."""
        scheduler = self._scheduler
        if scheduler is None:
            raise RuntimeError("the recorder has seen no graph and no scheduler yet")
        workers = list(scheduler.workers.values())
        memories = [worker.memory for worker in workers]
        metrics = self._metrics()
        return ClusterRecord(
            stages=tuple(
                self._read_stage(stage, metrics[stage.name])
                for stage in self._stages.values()
            ),
            n_workers=len(workers),
            n_threads=sum(worker.nthreads for worker in workers),
            n_lost=self._n_lost,
            held_bytes=sum(memory.managed for memory in memories),
            spilled_bytes=sum(memory.spilled for memory in memories),
            limit_bytes=sum(worker.memory_limit for worker in workers),
            bytes_per_s=float(scheduler.bandwidth or USUAL_BYTES_PER_S),
        )

    def _read_stage(
        self, stage: ObservedStage, metrics: dict[tuple[str, str], float]
    ) -> ClusterStage:
        prefix = self._scheduler.task_prefixes.get(stage.name)
        states = {} if prefix is None else prefix.states
        task: Workload | None = None
        if stage.is_known:
            task = stage.find_workload(1, metrics)
        elif prefix is not None and prefix.duration_average > 0:
            # What Dask has seen of it before this was there to look.
            task = Workload(n_tasks=1, mean_s=prefix.duration_average)
        return ClusterStage(
            name=stage.name,
            n_finished=stage.n_finished,
            n_failed=stage.n_failed,
            n_left=sum(states.get(state, 0) for state in _LEFT),
            task=task,
            is_recalled=stage.is_recalled,
            total_s=stage.total_s,
            longest_s=stage.longest_s,
            transfer_s=stage.transfer_s,
            written_bytes=int(stage.count(metrics, "disk-write", "bytes")),
            read_bytes=int(stage.count(metrics, "disk-read", "bytes")),
            worker_bytes=stage.worker_bytes,
            managed_bytes=stage.managed_bytes,
            unmanaged_bytes=stage.unmanaged_bytes,
        )

    def note_error(self) -> None:
        """Log what is being handled, if it is the first of its kind."""
        if not self._has_failed:
            self._has_failed = True
            logger.warning(
                "The recorder has failed and goes on without what it missed; the "
                "cluster isn't touched by that. Further errors aren't logged.",
                exc_info=True,
            )

    # -- from here on for itself ------------------------------------------------------

    @_guarded
    def _attach(self, scheduler: Any) -> None:
        if self._scheduler is scheduler:
            return
        if self._scheduler is not None:
            self._end()
            remembers = self._remembers
            self._begin()
            self._remembers = remembers
        self._scheduler = scheduler
        # In the scheduler's loop, which is the one that runs here.
        self._looking = PeriodicCallback(self._look, LOOK_MS)
        self._looking.start()

    @_guarded
    def _end(self) -> None:
        if self._looking is not None:
            self._looking.stop()
            self._looking = None
        self._learn()
        if self._remembers:
            shared.save()

    def _open_stage(self, name: str, identity: str) -> None:
        stage = self._stages.pop(name, None)
        if stage is None or stage.identity != identity:
            if stage is not None:
                # Another function by the same name.
                self._keep(stage)
            stage = ObservedStage(
                name,
                identity,
                shared.recall(identity) if self._remembers and identity else None,
                self._metrics([name])[name],
            )
        self._stages[name] = stage

    def _metrics(
        self, names: Sequence[str] | None = None
    ) -> dict[str, dict[tuple[str, str], float]]:
        counted = getattr(self._scheduler, "cumulative_worker_metrics", {})
        return group_metrics(counted.items(), self._stages if names is None else names)

    @_guarded
    def _look(self) -> None:
        """Take note of what workers have told since the last look."""
        scheduler = self._scheduler
        if self not in scheduler.plugins.values():
            self._end()
            return
        for address, worker in scheduler.workers.items():
            if self._seen_at.get(address) != worker.last_seen:
                self._seen_at[address] = worker.last_seen
                self._look_at(worker)
        if self._has_news and not self._is_busy():
            self._learn()

    def _look_at(self, worker: Any) -> None:
        running = list(worker.executing)
        names = {task.prefix.name for task in running}
        stages = [self._stages[name] for name in names if name in self._stages]
        memory = worker.memory
        for stage in stages:
            stage.add_memory(memory.process, memory.managed, memory.unmanaged)
        if len(names) == len(stages) == 1:
            # No one else is at it: what has just been taken is theirs.
            stages[0].add_task_bytes(memory.unmanaged_recent / len(running))

    def _is_busy(self) -> bool:
        scheduler = self._scheduler
        return bool(
            scheduler.queued
            or scheduler.unrunnable
            or any(worker.processing for worker in scheduler.workers.values())
        )

    def _learn(self) -> None:
        """Give the memory of earlier runs what is new."""
        if not self._has_news:
            return
        self._has_news = False
        for stage in self._stages.values():
            self._keep(stage)
        if self._remembers and self._unsaved_s >= SAVE_S:
            self._unsaved_s = 0.0
            shared.save()

    def _keep(self, stage: ObservedStage) -> None:
        if not self._remembers or not stage.identity or self._scheduler is None:
            return
        experience = stage.find_experience(self._metrics([stage.name])[stage.name])
        if experience is not None:
            shared.note(stage.identity, stage.name, experience)


def _make_recorder(remembers: bool) -> ClusterRecorder:
    recorder = ClusterRecorder()
    recorder._remembers = remembers
    return recorder


def _identify(name: str, task: Any) -> str:
    """Return under what a stage is known, by its first task: its code, or its name.

    Nothing, if it does what this package has sent: whoever has sent it learns of it.
    """
    called = list(find_called(task.run_spec))
    modules = (getattr(function, "__module__", None) for function in called)
    if any(str(module).split(".")[0] == _OWN for module in modules):
        return ""
    needed = {
        one.prefix.name: one.run_spec
        for one in task.dependencies
        if one.run_spec is not None
    }
    found = fingerprint_calls(called, [find_called(spec) for spec in needed.values()])
    return found or f"prefix {name}"


def _add_up(startstops: Sequence[Any], action: str) -> float:
    """Return the seconds of what a worker tells that it has done for a task."""
    found = [done for done in startstops if done["action"] == action]
    return float(sum(max(0.0, done["stop"] - done["start"]) for done in found))
