"""A worker process: takes batches from its pipe, runs them, sends results back.

Imported in every worker, and in the process that workers are forked from, so it
imports little: NumPy, `dask.bag` and `distributed` only come with a task that needs
them.

What the caller sends, and what is answered; each is a pickle, its buffers beside it::

    ("state", WorkerState)      -
    ("echo", bytes)             the same bytes
    ("run",)  + tasks, values   ("done", Report) + the results, each a pickle
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from amorsize_dask.core.events import Outcome
from amorsize_dask.execute.batch import BatchResult, run_batch
from amorsize_dask.execute.channel import WorkerChannel
from amorsize_dask.execute.failure import dump_failure
from amorsize_dask.execute.wire import Part, count_bytes, dump, load
from amorsize_dask.measure.clock import RunDelay
from amorsize_dask.measure.memory import read_peak_rss

logger = logging.getLogger(__name__)

#: Set in a worker: computes that its tasks start must not start processes again.
is_worker = False


@dataclass(slots=True)
class WorkerState:
    """What a worker shares with the caller, so that tasks run as they would there."""

    sys_path: list[str]
    folder: str | None
    environ: dict[str, str]
    #: Each setting as a pickle, since it may only load with the new `sys_path`.
    dask_config: dict[str, list[bytes]]


@dataclass(slots=True)
class Report:
    """What came of a batch. The results follow it, each in `n_parts` parts."""

    outcomes: list[Outcome]
    n_parts: list[int]
    #: Task number and reason for each result that can't be pickled.
    unshippable: list[tuple[int, str]]
    #: Task number and parts of the exception, if a task raised.
    failure: tuple[int, list[bytes]] | None
    #: Why the batch couldn't be unpickled; nothing was run then.
    unloadable: str | None
    #: Category, text, file and line of each warning.
    warnings: list[tuple[type[Warning], str, str, int]]
    #: Highest resident bytes of this process so far.
    peak_rss_bytes: int


@dataclass(slots=True)
class _Caught:
    """Warnings caught while a batch runs, each once."""

    seen: set[tuple[type[Warning], str, str, int]] = field(default_factory=set)
    found: list[tuple[type[Warning], str, str, int]] = field(default_factory=list)

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
        if warning not in self.seen:
            self.seen.add(warning)
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
        serve(WorkerChannel(sock), idle_s)


def serve(channel: WorkerChannel, idle_s: float | None) -> None:
    """Answer messages until the pipe closes or is silent for `idle_s` seconds."""
    channel.send(dump(("ready", os.getpid(), perf_counter())))
    with RunDelay(threading.get_native_id()) as delay:
        while (parts := channel.receive(idle_s)) is not None:
            kind, *rest = pickle.loads(parts[0])
            if kind == "run":
                answer = run(parts[1:], delay)
                flush()
                channel.send(answer)
                del answer
            elif kind == "state":
                apply_state(rest[0])
            else:
                channel.send(parts)
            # Arguments and results of a batch must not stay until the next one comes.
            del parts, rest


def seed() -> None:
    """Give this process random states of its own, as Dask's workers have."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def flush() -> None:
    """Write out what tasks have printed: a worker may be killed at any time."""
    for stream in (sys.stdout, sys.stderr):
        # There may be none, or a task has closed it, or no one reads it any more.
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()


def apply_state(state: WorkerState) -> None:
    """Make this process look at the world as the caller does."""
    from dask import config

    sys.path[:] = state.sys_path
    if state.folder is not None:
        os.chdir(state.folder)
    for name in os.environ.keys() - state.environ.keys():
        del os.environ[name]
    os.environ.update(state.environ)
    config.config.clear()
    for name, parts in state.dask_config.items():
        try:
            config.config[name] = load(parts)
        except Exception as error:
            logger.debug("Dask's setting %r can't be had here: %r", name, error)


def run(parts: list[bytearray], delay: RunDelay) -> list[Part]:
    """Run a batch; return the answer to be sent."""
    caught = _Caught()
    unloadable = None
    with _warnings_noted(caught):
        try:
            items, values = load(parts)
        except BaseException as error:
            unloadable = f"{type(error).__name__}: {error}"
            result = BatchResult()
        else:
            result = run_batch(items, values, delay)
            del items, values
        return _answer(result, caught, unloadable)


def _answer(result: BatchResult, caught: _Caught, unloadable: str | None) -> list[Part]:
    report = Report([], [], [], None, unloadable, caught.found, 0)
    payload: list[Part] = []
    for outcome, value in zip(result.outcomes, result.values, strict=True):
        try:
            parts = dump(value)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            report.unshippable.append((outcome.task, reason))
            continue
        report.outcomes.append(outcome._replace(out_bytes=count_bytes(parts)))
        report.n_parts.append(len(parts))
        payload += parts
    if result.failure is not None:
        task, failure = result.failure
        report.failure = (task, [bytes(part) for part in dump_failure(failure)])
    report.peak_rss_bytes = read_peak_rss()
    return [dump(("done", report))[0], *payload]


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
