"""Talking to worker processes without the loop, for tests."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Any

import psutil

from amorsize_dask.execute.answer import Answer, Report, read_answer
from amorsize_dask.execute.caller_state import dump_caller_state
from amorsize_dask.execute.failure import load_failure
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.spool import SpoolPlace
from amorsize_dask.execute.wire import dump, load
from amorsize_dask.execute.worker import RunHead

#: Seconds after which something that should happen is taken never to. Only a test
#: that fails takes so long.
PATIENCE_S = 60.0


def wait_until(condition: Callable[[], object]) -> None:
    """Poll until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.002)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if no one has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def receive(worker: ProcessWorker) -> list[bytearray]:
    """Wait for the next message; EOFError if there will be none."""
    channel = worker.channel
    end = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while channel.is_open:
            is_writing = channel.wants_to_write
            selector.modify(
                channel, selectors.EVENT_READ | is_writing * selectors.EVENT_WRITE
            )
            assert selector.select(end - time.monotonic()), "the worker is silent"
            channel.flush()
            for message in channel.receive():
                return message
    raise EOFError


def boot(pool: WorkerPool, n: int) -> list[ProcessWorker]:
    """Start workers and wait until they are up."""
    workers = pool.boot(n)
    for worker in workers:
        kind, *content = load(receive(worker))
        assert kind == "ready"
        worker.set_up(*content)
    return workers


def send_state(worker: ProcessWorker) -> None:
    """Have a worker look at the world as this process does."""
    worker.channel.send(dump_caller_state())


def send_call(worker: ProcessWorker, function: Callable[..., Any], *args: Any) -> None:
    """Have a worker call a function, as its one task."""
    items = [(0, lambda values: function(*values["args"]), ["args"])]
    worker.channel.send([HEAD, *dump((items, {"args": args}))])


#: What goes before a batch, where nothing is shared and nothing spooled.
HEAD = dump(("run", RunHead(False, [], SpoolPlace(), 10**6)))[0]


def receive_report(worker: ProcessWorker) -> tuple[Report, Answer]:
    """Wait for the answer to a batch of one task."""
    head, *parts = receive(worker)
    kind, report = load([head])
    assert kind == "done"
    return report, read_answer(report, parts, [0])


def call(worker: ProcessWorker, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a worker; return what it returns, or raise what it raises."""
    send_call(worker, function, *args)
    report, answer = receive_report(worker)
    if report.failure is not None:
        raise load_failure(0, [bytearray(part) for part in report.failure[1]])
    assert report.unloadable is None
    assert not answer.unshippable
    (value,) = answer.values
    return value
