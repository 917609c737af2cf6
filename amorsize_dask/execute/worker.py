"""A worker process: takes batches from its pipe, runs them, sends results back.

Imported in every worker, and in the process that workers are forked from, so it
imports little: NumPy, Dask, `logging` and cloudpickle only come with a task that needs
them. A boot takes longer by all that is imported here.

What the caller sends, and what is answered; each is a pickle, its buffers beside it::

    ("state", WorkerState)      -
    ("import", names)           ("imported", what was warned of)
    ("echo", bytes)             the same bytes
    ("end",)                    -
    ("run", RunHead) + tasks    ("loaded",), if asked for,
                                ("log", DumpedRecord) for each record of `logging`,
                                ("left out", n) if there were too many, and
                                ("done", Report) + the results
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from time import perf_counter
from typing import Any, NamedTuple

from amorsize_dask.execute.answer import CaughtWarning, make_answer
from amorsize_dask.execute.batch import BatchResult, Item, flush, run_batch
from amorsize_dask.execute.channel import WorkerChannel
from amorsize_dask.execute.recipe import received
from amorsize_dask.execute.spool import Spooled, SpoolPlace, read, remove
from amorsize_dask.execute.wire import Buffer, Part, dump, load
from amorsize_dask.execute.worker_log import WorkerLog, debug
from amorsize_dask.imported import when_imported
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.rss import read_rss, reset_peak_rss, trim_rss

#: Values from files that a worker keeps for its next batches. Smaller: what many tasks
#: share is loaded for each batch; larger: what no one needs any more takes memory.
MAX_SHARED = 8

#: Set in a worker: computes that its tasks start must not start processes again.
is_worker = False


class WorkerState(NamedTuple):
    """What a worker shares with the caller, so that tasks run as they would there."""

    sys_path: list[str]
    folder: str | None
    environ: dict[str, str]
    #: Each setting as a pickle, since it may only load with the new `sys_path`.
    dask_config: dict[str, list[bytes]]
    #: From which level on records are wanted, by logger.
    log_levels: dict[str, int]


class RunHead(NamedTuple):
    """What goes before the tasks of a batch and the values that they need."""

    #: Whether the worker has had no batch of this run so far.
    is_first: bool
    #: Numbers and pickles of recipes that the worker doesn't have.
    recipes: list[tuple[Hashable, list[bytes]]]
    #: Where large results may be written.
    place: SpoolPlace
    #: Bytes that the worker may keep beside what tasks are running.
    kept_bytes: int
    #: Where tasks and values are, if they don't follow.
    spooled: Spooled | None = None
    #: Whether that file is the caller's, who is going to write it again.
    keeps_file: bool = False
    #: Whether the caller wants to know when they have been loaded.
    tells_loaded: bool = False


class _Caught:
    """Warnings caught while a batch runs, each once."""

    def __init__(self) -> None:
        self._seen: set[CaughtWarning] = set()
        self.found: list[CaughtWarning] = []

    def note(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        warning = (category, str(message), filename, lineno)
        if warning not in self._seen:
            self._seen.add(warning)
            self.found.append(warning)


def main(sock: socket.socket, idle_s: float | None) -> None:
    """Serve the caller until it closes the pipe or is silent for `idle_s` seconds."""
    global is_worker
    is_worker = True
    # Programs that a task starts must not hold the pipe open.
    sock.set_inheritable(False)
    seed()
    # When the caller has closed the pipe, no one waits for an answer.
    with suppress(BrokenPipeError, ConnectionResetError):
        log = WorkerLog()
        log.install()
        serve(WorkerChannel(sock), idle_s, log)


def preload(modules: Sequence[str]) -> None:
    """Import what the tasks of the first run need; what can't be is left to them."""
    # What batches are unpickled into.
    import amorsize_dask.execute.fused
    import amorsize_dask.execute.parts
    import amorsize_dask.execute.stand_ins  # noqa: F401

    for module in modules:
        with suppress(Exception):
            import_module(module)


def import_all(modules: Sequence[str]) -> list[CaughtWarning]:
    """Import what tasks are going to need; return what was warned of.

    What can't be imported fails again when a task needs it, and is told then.
    """
    caught = _Caught()
    with _warnings_noted(caught):
        for module in modules:
            with suppress(BaseException):
                import_module(module)
    flush()
    return caught.found


def serve(
    channel: WorkerChannel, idle_s: float | None, log: WorkerLog | None = None
) -> None:
    """Answer messages until the pipe closes or is silent for `idle_s` seconds."""
    global _place
    channel.send(dump(("ready", os.getpid(), perf_counter(), read_rss())))
    kept, folder = Kept(), _find_folder()
    try:
        with RunDelay(threading.get_native_id()) as delay:
            while (parts := channel.receive(idle_s)) is not None:
                kind, *rest = pickle.loads(parts[0])
                if kind == "run":
                    _place = rest[0].place
                    answer = run(rest[0], parts[1:], delay, kept, channel, log)
                    flush()
                    if log is not None:
                        log.close_batch(channel)
                    channel.send(answer)
                    del answer
                    if folder is not None and _find_folder() != folder:
                        _enter(folder)
                    kept.settle(rest[0].kept_bytes)
                elif kind == "state":
                    apply_state(rest[0])
                    folder = _find_folder()
                elif kind == "import":
                    channel.send(dump(("imported", import_all(rest[0]))))
                elif kind == "end":
                    return
                else:
                    channel.send(parts)
                # What a batch had must not stay until the next one comes.
                del parts, rest
    finally:
        if not channel.is_open:
            remove_place()


#: Where the run's spool files are.
_place = SpoolPlace()


def remove_place() -> None:
    """Remove the run's spool files: a caller that was killed doesn't any more."""
    _place.remove()


def _find_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # someone has removed it


def _enter(folder: str) -> None:
    """Go to a folder: the caller's, to which a task comes whatever others did."""
    try:
        os.chdir(folder)
    except OSError as error:
        debug(__name__, "a worker stays in its folder: %r", error)


def seed() -> None:
    """Give this process random states of its own, as Dask's workers have."""
    random, numpy = sys.modules.get("random"), sys.modules.get("numpy")
    if random is not None:
        random.seed()
    if numpy is not None:
        numpy.random.seed()


def apply_state(state: WorkerState) -> None:
    """Make this process look at the world as the caller does."""
    global _state
    sys.path[:] = state.sys_path
    if state.folder is not None:
        _enter(state.folder)
    for name in os.environ.keys() - state.environ.keys():
        del os.environ[name]
    os.environ.update(state.environ)
    is_first, _state = _state is None, state
    for module, configure in _CONFIGURED.items():
        if is_first:
            when_imported(module, configure)
        elif module in sys.modules:
            configure()


#: What the caller has told last.
_state: WorkerState | None = None


def _configure_logging() -> None:
    from amorsize_dask.execute.log_levels import follow_levels

    if _state is not None:
        follow_levels(_state.log_levels)


def _configure_dask() -> None:
    from dask import config

    config.config.clear()
    for name, parts in (_state.dask_config if _state is not None else {}).items():
        try:
            config.config[name] = load(parts)
        except Exception as error:
            debug(__name__, "Dask's setting %r can't be had: %r", name, error)


#: Modules that are made to see the world so, once there is a use for them.
_CONFIGURED: dict[str, Callable[[], None]] = {
    "logging": _configure_logging,
    "dask.config": _configure_dask,
}


class Kept:
    """What this process keeps between batches."""

    def __init__(self) -> None:
        self._rss_bytes = read_rss()

    def settle(self, kept_bytes: int) -> int:
        """Give freed memory back if more than this came to it; return what is left."""
        rss_bytes = read_rss()
        if rss_bytes > self._rss_bytes + kept_bytes:
            trim_rss()
            rss_bytes = self._rss_bytes = read_rss()
        return rss_bytes


def run(
    head: RunHead,
    parts: Sequence[Buffer],
    delay: RunDelay,
    kept: Kept,
    channel: WorkerChannel | None = None,
    log: WorkerLog | None = None,
) -> list[Part]:
    """Run a batch; return the answer to be sent.

    That it has been loaded is told over the channel, if the caller wants to know, and
    what is logged meanwhile.
    """
    caught = _Caught()
    load_s = 0.0
    unloadable = None
    with _warnings_noted(caught):
        try:
            items, values, load_s = _load_batch(head, parts)
        except BaseException as error:
            unloadable = f"{type(error).__name__}: {error}"
            result = BatchResult()
        else:
            # In a process that is our own: what each batch takes is seen then.
            reset_peak_rss()
            if channel is not None and head.tells_loaded:
                channel.send(dump(("loaded",)))
            if channel is not None and log is not None:
                log.open(channel)
            result = run_batch(items, values, delay)
            del items, values
        # Pickling the results may warn as well.
        return make_answer(
            result,
            caught.found,
            unloadable,
            head.place,
            # Without what is only held back, or it would be taken for a leak.
            lambda: kept.settle(head.kept_bytes),
            load_s,
        )


def _load_batch(
    head: RunHead, parts: Sequence[Buffer]
) -> tuple[list[Item], dict[Any, Any], float]:
    """Return tasks and values, and the seconds that those in files took."""
    if head.is_first:
        received.clear()
        _shared.clear()
    for number, recipe in head.recipes:
        received[number] = load(recipe)
    if head.spooled is not None:
        parts = read(head.spooled)
        if not head.keeps_file:
            remove(head.spooled)
    items, values = load(parts)
    start = perf_counter()
    for key, value in values.items():
        if isinstance(value, Spooled):
            values[key] = _load_spooled(value, head.kept_bytes)
    return items, values, perf_counter() - start


def _load_spooled(spooled: Spooled, kept_bytes: int) -> Any:
    """Load a value from its file, or take it from those that were loaded last."""
    if spooled not in _shared:
        before_bytes = read_rss()
        value = load(read(spooled))
        # Objects may take many times what their pickles do.
        n_bytes = max(spooled.n_bytes, read_rss() - before_bytes)
        _shared[spooled] = _Shared(value, n_bytes)
        while len(_shared) > MAX_SHARED or (
            len(_shared) > 1 and sum(s.n_bytes for s in _shared.values()) > kept_bytes
        ):
            del _shared[next(iter(_shared))]
    return _shared[spooled].value


class _Shared(NamedTuple):
    """A value that was loaded from a file, and the bytes that it takes."""

    value: Any
    n_bytes: int


#: Those of which later batches may need the same.
_shared: dict[Spooled, _Shared] = {}


@contextmanager
def _warnings_noted(caught: _Caught) -> Iterator[None]:
    with warnings.catch_warnings():
        # All of them: which ones are shown is for the caller's filters to say.
        warnings.simplefilter("always")
        warnings.showwarning = caught.note
        yield


def reset_signals() -> None:
    """Undo what a process that forks workers has set for itself."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
