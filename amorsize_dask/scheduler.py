"""The scheduler: what `dask.compute(scheduler=amorsize_scheduler)` calls.

One compute in a straight line: lower the graph, let the core decide and the loop do,
nest the results as the keys were nested, keep a record.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from time import perf_counter
from typing import Any, Self

import dask

from amorsize_dask import config
from amorsize_dask.arguments import (
    check_client,
    check_flag,
    check_idle_timeout,
    check_lanes,
    check_max_workers,
    check_memory_limit,
    check_retries_of,
    check_seconds,
    check_timeout,
)
from amorsize_dask.callbacks import Observers, observe
from amorsize_dask.core.experience import NOTHING_KNOWN, Experience
from amorsize_dask.core.model import Lane, Limits, Machine
from amorsize_dask.core.scheduling import Scheduling
from amorsize_dask.errors import ArgumentError
from amorsize_dask.execute.calibration import Calibration
from amorsize_dask.execute.delivery import Delivery, closed_at_exit
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.identity import find_firsts, find_lone_stages
from amorsize_dask.execute.loop import Execution
from amorsize_dask.execute.node import Key
from amorsize_dask.execute.pool import WorkerPool
from amorsize_dask.execute.preload import find_modules
from amorsize_dask.execute.recollection import recollect
from amorsize_dask.execute.record import RunRecord, make_record
from amorsize_dask.execute.start_method import choose_start_method, has_processes
from amorsize_dask.lowering import find_annotations, lower, materialize, nest, read
from amorsize_dask.lowering.collector import PausedCollector, SparedGraph
from amorsize_dask.lowering.lower import STORE_LANES
from amorsize_dask.lowering.partitions import find_partitions, is_bag
from amorsize_dask.measure.rss import read_private_rss
from amorsize_dask.resources import Policy, is_nested


class AmorsizeScheduler:
    """A Dask scheduler that measures tasks and decides where and how they run.

    An instance is what Dask calls a scheduler: pass it as
    ``collection.compute(scheduler=...)`` or to ``dask.config.set(scheduler=...)``.
    Several threads may compute with it at the same time, and tasks may compute.

    Parameters
    ----------
    max_workers : int, optional
        Most threads or processes at once, >= 1. By default as many as pay.
    memory_limit : str, int or float, optional
        What results and running tasks may take together: bytes, text such as
        ``"4 GB"``, a fraction of the available memory in (0, 1], or ``"auto"`` for all
        of it but a tenth, or 256 MB if that is less. Results that have no room wait on
        disk until they are needed, and no task is started that wouldn't fit, as long as
        another one is running.
    lanes : sequence of str, optional
        Lanes that may be used: ``"inline"``, ``"threads"``, ``"processes"``,
        ``"cluster"``. With one lane all tasks run there, but for bookkeeping and for
        what can't be sent anywhere. The last one is a cluster of Dask's, where there is
        a client of one; without it that lane is left out, unless it is the only one.
        By default all of them, or what the setting ``amorsize.lanes`` says.
    target_batch_duration : float, optional
        Seconds that one batch of tasks should take at most, > 0.
    isolate : bool, optional
        Keep tasks out of the calling process, also while workers boot and where a
        task can't be sent (which is an error then). If threads are the only lane,
        keep them out of the calling thread.
    retries : int or mapping of key to int, optional
        How often a task that raises an exception is run again before the exception
        ends the run, >= 0; for single tasks by their keys, or by a collection for all
        of its keys. ``dask.annotate(retries=...)`` goes before a number given here.
    task_timeout : float, optional
        Seconds that a task may take, > 0. One that takes longer is ended, with its
        worker process, by `TaskTimeoutError`, or tried again if `retries` allow it. All
        tasks run in worker processes then, one at a time in each.
    allow_oversized : bool, optional
        Run tasks of which one has taken more than `memory_limit` by itself, one at a
        time, instead of raising `MemoryBudgetError`.
    respect_load : bool, optional
        Leave cores to others that use them, and a part of the memory to them while it
        is short; looked at when a run starts. At least one core is used. It is the
        setting ``amorsize.respect-load`` by default, which is false.
    client : distributed.Client, optional
        Client of the cluster that the lane ``"cluster"`` is. By default the one that is
        active when a run begins, as `distributed.Client.current` has it. A scheduler
        that is pickled leaves it behind.

    Attributes
    ----------
    last_run : RunRecord or None
        The record of the compute that ended last.

    Raises
    ------
    ArgumentError
        For an argument that can't be used. Nothing has been started.

    Examples
    --------
    >>> import dask.bag as db
    >>> with AmorsizeScheduler() as scheduler:
    ...     db.range(10, npartitions=2).sum().compute(scheduler=scheduler)
    45
    """

    def __init__(
        self,
        max_workers: int | None = None,
        memory_limit: str | float = "auto",
        lanes: Sequence[str] | None = None,
        target_batch_duration: float | None = None,
        isolate: bool = False,
        allow_oversized: bool = False,
        retries: int | Mapping[Any, int] = 0,
        task_timeout: float | None = None,
        respect_load: bool | None = None,
        client: Any = None,
    ) -> None:
        if lanes is None:
            lanes = config.get("lanes")
        if target_batch_duration is None:
            target_batch_duration = config.get("target-batch-duration")
        if respect_load is None:
            respect_load = check_flag(
                "amorsize.respect-load", config.get("respect-load")
            )
        self._arguments = (
            max_workers,
            memory_limit,
            lanes,
            target_batch_duration,
            isolate,
            allow_oversized,
            retries,
            task_timeout,
            respect_load,
        )
        check_retries_of(retries)
        self._retries = retries
        self._timeout_s = check_timeout(task_timeout, lanes)
        checked = check_lanes(lanes)
        if task_timeout is not None:
            # Nor can one on a cluster.
            checked = tuple(lane for lane in checked if lane is not Lane.CLUSTER)
        limits = Limits(
            lanes=checked,
            max_workers=check_max_workers("max_workers", max_workers),
            # A task in this process can't be ended.
            isolate=bool(isolate) or task_timeout is not None,
            max_batch_size=None if task_timeout is None else 1,
            allow_oversized=bool(allow_oversized),
            target_batch_s=check_seconds(
                "target_batch_duration", target_batch_duration
            ),
        )
        self._policy = Policy(
            limits,
            check_memory_limit(memory_limit),
            check_client(client, lanes),
            respects_load=check_flag("respect_load", respect_load),
        )
        self._pool = WorkerPool(
            choose_start_method(config.get("start-method")),
            check_idle_timeout(config.get("idle-timeout")),
        )
        self._calibration = Calibration()
        self._close = weakref.finalize(self, self._pool.close)
        self.last_run: RunRecord | None = None

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        """Compute keys of a graph; this is Dask's ``get``.

        Parameters
        ----------
        dsk : Expr, HighLevelGraph or Mapping
            What to compute from.
        keys : key or list of these, nested
            What to compute.
        **kwargs
            ``num_workers`` takes the place of `max_workers` for this call, ``retries``
            (a number or a mapping) that of `retries`;
            ``rerun_exceptions_locally`` runs a task that failed again in the calling
            thread, for a debugger. All others are ignored, as Dask's schedulers do.

        Returns
        -------
        value or tuple of values
            Nested as `keys` is, with tuples in the place of lists.

        Raises
        ------
        KeyError
            If the graph doesn't have a key.
        BaseException
            What a task raises, as itself.
        ArgumentError, LaneError, MemoryBudgetError, SerializationError
            See there; and `WorkerLostError` and `ClusterError`.
        """
        with observe(kwargs.get("callbacks")) as observers:
            start_bytes = self._read_start_bytes()
            tasks = self._lower(dsk, keys, observers, kwargs)
            # Data that was consumed must not be kept alive by the graph.
            del dsk
            with self._recorded(
                tasks, kwargs, observers, start_bytes=start_bytes
            ) as execution:
                execution.run()
            return nest(keys, execution.store.find)

    def stream(
        self, collection: Any, *, ordered: bool = True
    ) -> Generator[Any, None, None]:
        """Compute a collection and yield its results as they finish.

        At no time more is held in memory than `memory_limit` allows, however slow the
        consumer: nothing is started that has no room. The work begins with the first
        ``next`` and ends, with all that it has started, when the iterator is closed.

        Parameters
        ----------
        collection : Dask collection, or list of these
            What to compute.
        ordered : bool, optional
            Whether results come in the order of the collection, as they would from
            ``compute``; otherwise as they finish.

        Returns
        -------
        generator
            Of a bag its items. Of anything else the value of each partition: of
            delayed their values, of an array its blocks. A value is let go when the
            next one is asked for.

        Raises
        ------
        ArgumentError
            If it is no collection. Nothing has been started.
        BaseException
            From the iterator: as from calling the scheduler. What was there by then is
            yielded first.

        Examples
        --------
        >>> import dask.bag as db
        >>> with AmorsizeScheduler() as scheduler:
        ...     list(scheduler.stream(db.range(4, npartitions=2)))
        [0, 1, 2, 3]
        """
        dsk, keys = find_partitions(collection)
        values = closed_at_exit(self._stream(dsk, keys, bool(ordered)))
        return _chain_items(values) if is_bag(collection) else values

    def _stream(
        self, dsk: Any, keys: list[Key], is_ordered: bool
    ) -> Generator[Any, None, None]:
        with observe(None) as observers:
            start_bytes = self._read_start_bytes()
            tasks = self._lower(dsk, keys, observers, {})
            del dsk
            delivery = Delivery(keys, tasks, is_ordered=is_ordered)
            with (
                self._recorded(
                    tasks, {}, observers, is_streamed=True, start_bytes=start_bytes
                ) as execution,
                closing(execution.stream(delivery)) as values,
            ):
                yield from values

    @contextmanager
    def open_run(
        self, tasks: TaskGraph, known: Mapping[int, Experience] = NOTHING_KNOWN
    ) -> Iterator[Execution]:
        """Prepare the run of a graph that is open.

        Parameters
        ----------
        tasks : TaskGraph
            One without tasks; what is streamed of it adds them.
        known : mapping of int to Experience, optional
            What is known of its stages, by number.
        """
        self._check_annotated_lanes(tasks)
        nobody = Observers([])
        with self._recorded(
            tasks, {}, nobody, is_streamed=True, known=known
        ) as execution:
            yield execution

    def run_tasks(
        self,
        tasks: TaskGraph,
        keys: Any,
        known: Mapping[int, Experience] = NOTHING_KNOWN,
        **kwargs: Any,
    ) -> Any:
        """Run a graph that has been lowered; as from calling the scheduler.

        Callbacks aren't told of it: there is no graph of Dask's to show to them.

        Parameters
        ----------
        tasks : TaskGraph
            What to run.
        keys : key or list of these, nested
            What to return.
        known : mapping of int to Experience, optional
            What is known of its stages, by number. By default what earlier runs have
            shown.
        **kwargs
            As for calling it.
        """
        nobody = Observers([])
        with self._recorded(tasks, kwargs, nobody, known=known) as execution:
            execution.run()
        return nest(keys, execution.store.find)

    def stream_tasks(
        self,
        tasks: TaskGraph,
        keys: list[Key],
        known: Mapping[int, Experience] = NOTHING_KNOWN,
        **kwargs: Any,
    ) -> Generator[Any, None, None]:
        """Run a graph that has been lowered, and yield the values of keys in order."""
        return closed_at_exit(self._stream_tasks(tasks, keys, known, kwargs))

    def _stream_tasks(
        self,
        tasks: TaskGraph,
        keys: list[Key],
        known: Mapping[int, Experience],
        kwargs: dict[str, Any],
    ) -> Generator[Any, None, None]:
        nobody = Observers([])
        delivery = Delivery(keys, tasks, is_ordered=True)
        with (
            self._recorded(
                tasks, kwargs, nobody, is_streamed=True, known=known
            ) as execution,
            closing(execution.stream(delivery)) as values,
        ):
            yield from values

    def limits_on(self, machine: Machine) -> Limits:
        """Return what runs on a machine are allowed."""
        return self._policy.limit_memory(self._policy.limits, machine)

    @property
    def n_idle_workers(self) -> int:
        """How many worker processes are up and have nothing to do."""
        return self._pool.n_idle

    def close(self) -> None:
        """End the worker processes; a later compute starts new ones."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes are this process's; elsewhere it starts its own.
        return AmorsizeScheduler, self._arguments

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Configurations are copied with the scheduler in them; its workers can't be.
        return self

    def __repr__(self) -> str:
        lanes = ", ".join(self._policy.limits.lanes)
        return f"<{type(self).__name__} lanes={lanes} idle={self._pool.n_idle}>"

    @contextmanager
    def _recorded(
        self,
        tasks: TaskGraph,
        kwargs: dict[str, Any],
        observers: Observers,
        *,
        is_streamed: bool = False,
        known: Mapping[int, Experience] = NOTHING_KNOWN,
        start_bytes: int | None = None,
    ) -> Iterator[Execution]:
        """Prepare the run of a graph, and keep a record of how it went.

        `start_bytes` is what this process had before the graph was lowered, if the
        graph counts.
        """
        limits = self._policy.limit_call(kwargs, is_observed=observers.has_posttask)
        n_warm = self._pool.n_idle
        may_boot = not n_warm and Lane.PROCESSES in limits.allowed_lanes
        modules = find_modules(tasks) if may_boot else ()
        resources = self._policy.find_resources(limits, self._calibration, modules)
        firsts = find_firsts(tasks)
        recollection = recollect(tasks, firsts)
        with PausedCollector():
            scheduling = Scheduling(
                tasks.graph,
                resources.machine,
                resources.limits,
                n_warm=n_warm,
                is_streamed=is_streamed,
                recalled={**recollection.experiences, **known},
                lone_stages=find_lone_stages(tasks, firsts),
            )
            execution = Execution(
                tasks,
                scheduling,
                self._pool,
                observer=observers if observers.wants_tasks else None,
                on_worker_ready=self._calibration.note_ready,
                rerun_failed=_wants_rerun(kwargs),
                retries=check_retries_of(kwargs.get("retries", self._retries))[0],
                timeout_s=self._timeout_s,
                modules=modules,
                margin_bytes=resources.margin_bytes,
                connection=resources.connection,
                start_bytes=start_bytes,
            )
        start = perf_counter()
        error: BaseException | None = None
        try:
            with SparedGraph(len(tasks.graph), is_open=tasks.graph.is_open):
                yield execution
        except GeneratorExit:
            # Its traceback would keep all that was there when the iterator was closed.
            error = GeneratorExit()
            raise
        except BaseException as failure:
            error = failure
            raise
        finally:
            actual_s = perf_counter() - start
            self.last_run = make_record(
                tasks,
                scheduling,
                execution,
                actual_s,
                error,
                resources.machine.n_cores,
                resources.load,
            )
            del error
        recollection.learn(scheduling.experiences(), actual_s)
        if may_boot and not execution.n_workers[Lane.PROCESSES]:
            self._calibration.note_regret(scheduling.regret_s())
        if not self._calibration.is_complete:
            for idle in self._pool.take(1):
                self._calibration.complete(idle)
                self._pool.give_back(idle)
                self._calibration.probe(self._pool)

    def _read_start_bytes(self) -> int | None:
        """Return what this process has, where a graph counts against the limit.

        By what the machine has left when it has been lowered it has been paid for.
        """
        is_set = isinstance(self._policy.memory_limit, int)
        return read_private_rss() if is_set else None

    def _lower(
        self, dsk: Any, keys: Any, observers: Observers, kwargs: dict[str, Any]
    ) -> TaskGraph:
        """Lower what Dask hands over, in the way that those who watch need."""
        _, retries = check_retries_of(kwargs.get("retries", self._retries))
        annotations = find_annotations(dsk, retries)
        if observers.is_empty:
            tasks = read(dsk, keys, annotations)
        else:
            graph = materialize(dsk, may_fuse=not annotations)
            observers.start(graph)
            fuse = not observers.wants_tasks
            tasks = lower(graph, keys, fuse=fuse, annotations=annotations)
            observers.start_state(tasks)
        self._check_annotated_lanes(tasks)
        return tasks

    def _check_annotated_lanes(self, tasks: TaskGraph) -> None:
        """Refuse lanes that were asked for by annotations, and that are not allowed."""
        if not tasks.graph.stage_lanes:
            return
        if is_nested() or not has_processes():
            return  # There any lane of the caller has to do.
        allowed = self._policy.limits.allowed_lanes
        for stage, lanes in tasks.graph.stage_lanes.items():
            if lanes is not STORE_LANES and not set(lanes) & set(allowed):
                expected = (
                    f"of stage {tasks.stages[stage]!r}, where the scheduler may use "
                    f"{', '.join(allowed)}"
                )
                raise ArgumentError("annotation lane", tuple(map(str, lanes)), expected)
            if lanes == (Lane.CLUSTER,) and not self._policy.has_client:
                expected = (
                    f"of stage {tasks.stages[stage]!r}: no distributed.Client is "
                    "active, and none was given"
                )
                raise ArgumentError("annotation lane", ("cluster",), expected)


def _chain_items(
    partitions: Generator[Iterable[Any], None, None],
) -> Generator[Any, None, None]:
    with closing(partitions):
        for items in partitions:
            yield from items
            # Not while the next one is made.
            del items


def _wants_rerun(kwargs: dict[str, Any]) -> bool:
    rerun = kwargs.get("rerun_exceptions_locally")
    if rerun is None:
        rerun = dask.config.get("rerun_exceptions_locally", False)
    return bool(rerun)


#: The ready instance.
amorsize_scheduler = AmorsizeScheduler()


def check_scheduler(value: Any) -> AmorsizeScheduler:
    """Return a scheduler of this package's; the ready instance for ``None``.

    Raises
    ------
    ArgumentError
        For others, such as the names of Dask's.
    """
    if value is None:
        return amorsize_scheduler
    if not isinstance(value, AmorsizeScheduler):
        raise ArgumentError("scheduler", value, "expected an AmorsizeScheduler")
    return value
