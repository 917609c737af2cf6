"""What a worker process does with what it is sent, seen from inside."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask import config
from worker_calls import HEAD

from amorsize_dask.execute import batch, worker
from amorsize_dask.execute.answer import Answer, Parts, Report, read_answer
from amorsize_dask.execute.channel import WorkerChannel
from amorsize_dask.execute.failure import load_failure
from amorsize_dask.execute.spool import SpoolPlace
from amorsize_dask.execute.wire import count_bytes, dump, load
from amorsize_dask.execute.worker import RunHead, WorkerState, apply_state
from amorsize_dask.measure.clock import RunDelay

Node = Callable[[Mapping[Any, Any]], Any]


def run(*nodes: Node, values: Mapping[str, Any] | None = None) -> tuple[Report, Answer]:
    """Run a batch of tasks that all need all values; return what is answered."""
    values = values or {}
    items = [(number, node, list(values)) for number, node in enumerate(nodes)]
    batch = [bytearray(part) for part in dump((items, values))]
    with RunDelay(threading.get_native_id()) as delay:
        head, *parts = worker.run(
            RunHead(True, [], SpoolPlace(), 10**6), batch, delay, worker.Kept()
        )
    kind, report = load([head])
    assert kind == "done"
    parts = [bytearray(part) for part in parts]
    return report, read_answer(report, parts, range(len(nodes)))


def warn(text: str, category: type[Warning] = UserWarning) -> Node:
    return lambda values: warnings.warn(text, category, stacklevel=1)


class UnloadableError(Exception):
    pass


def refuse() -> None:
    raise UnloadableError("not here")


class Unloadable:
    def __reduce__(self) -> Any:
        return refuse, ()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise UnloadableError("not there")


class LocalWarning(UserWarning):
    pass


# -- batches ---------------------------------------------------------------------------


def test_results_follow_the_report() -> None:
    """Small ones as one piece, large ones as parts, and their bytes are counted."""
    large = np.arange(10_000)
    report, answer = run(
        lambda values: values["x"], lambda _: [large, large + 1], lambda _: None,
        values={"x": 3},
    )  # fmt: skip
    assert [outcome.task for outcome in answer.outcomes] == [0, 1, 2]
    assert [type(payload) for payload in report.payloads] == [int, Parts, int]
    three, (first, second), none = answer.values
    assert (three, none) == (3, None)
    np.testing.assert_array_equal(first + 1, second)
    assert answer.outcomes[1].out_bytes == count_bytes(dump([large, large + 1]))
    assert report.failure is None
    assert report.unloadable is None
    assert answer.unshippable == []
    assert report.peak_rss_bytes > 0


def test_arguments_are_writable() -> None:
    """A task may change a large argument in place, as it could in the caller."""

    def double(values: Mapping[str, Any]) -> Any:
        values["x"][:] *= 2
        return values["x"].sum()

    array = np.ones(10_000)
    _, answer = run(double, values={"x": array})
    assert answer.values == [20_000]
    assert array.sum() == 10_000


@pytest.mark.parametrize(("peak", "told"), [(1500, 0), (1000, None)])
def test_what_is_taken_and_kept_is_measured_as_nothing(
    monkeypatch: pytest.MonkeyPatch, peak: int, told: int | None
) -> None:
    """Else what earlier runs have measured would be taken for it."""
    peaks = iter([1000, peak])
    monkeypatch.setattr(batch, "read_peak_rss", lambda: next(peaks))
    monkeypatch.setattr(batch, "read_rss", lambda: 1500)
    report, answer = run(lambda _: 1)
    assert report.peak_bytes == answer.outcomes[0].peak_bytes == told


def test_failure() -> None:
    """What came before a failure is sent, and the exception itself."""
    _, answer = run(lambda _: 1, lambda _: [][3], lambda _: 2)
    assert [outcome.task for outcome in answer.outcomes] == [0]
    assert answer.values == [1]
    assert answer.failure is not None
    task, failure = answer.failure
    error = load_failure("key", [bytearray(part) for part in failure])
    assert task == 1
    assert isinstance(error, IndexError)


def test_result_that_cannot_be_pickled() -> None:
    """It is named with the reason, and the others are sent."""
    _, answer = run(lambda _: 1, lambda _: Unpicklable(), lambda _: 2)
    assert [outcome.task for outcome in answer.outcomes] == [0, 2]
    assert answer.values == [1, 2]
    assert answer.unshippable == [(1, "UnloadableError: not there")]


def test_batch_that_cannot_be_loaded() -> None:
    """Nothing is run, and the reason is told."""
    report, answer = run(lambda _: 1, values={"x": Unloadable()})
    assert report.unloadable == "UnloadableError: not there".replace("there", "here")
    assert answer.outcomes == []
    assert answer.values == []


def test_warning_is_reported_once() -> None:
    """Equal warnings of a batch are one; others are told with category and place."""
    report, _ = run(warn("a"), warn("a"), warn("b"), warn("a", RuntimeWarning))
    found = {(category, text) for category, text, _, _ in report.warnings}
    assert found == {
        (UserWarning, "a"),
        (UserWarning, "b"),
        (RuntimeWarning, "a"),
    }
    assert len(report.warnings) == 3
    _, _, filename, lineno = report.warnings[0]
    assert Path(filename).samefile(__file__)
    assert lineno > 0


def test_warnings_of_batches_before_are_reported_again() -> None:
    """Whether one is shown again is for the caller to say."""
    for _ in range(2):
        report, _ = run(warn("a"))
        assert [text for _, text, _, _ in report.warnings] == ["a"]


def test_warnings_that_the_caller_may_ignore() -> None:
    """All are reported, also those that are ignored by default."""
    report, _ = run(warn("a", DeprecationWarning), warn("b", LocalWarning))
    assert [category for category, *_ in report.warnings] == [
        DeprecationWarning,
        LocalWarning,
    ]


def test_warning_while_a_result_is_pickled() -> None:
    """Warnings are noted until the answer is ready."""

    class Warns:
        def __reduce__(self) -> Any:
            warnings.warn("while pickling", stacklevel=1)
            return int, ()

    report, _ = run(lambda _: Warns())
    assert "while pickling" in [text for _, text, _, _ in report.warnings]


# -- state -----------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WorkerState]:
    """Return the state of this process, which is as it was afterwards."""
    path, folder, environ = list(sys.path), os.getcwd(), dict(os.environ)
    with config.set({}):
        settings = dict(config.config)
        dumped = {
            name: [bytes(part) for part in dump(value)]
            for name, value in settings.items()
        }
        yield WorkerState(list(path), folder, dict(environ), dumped, {})
        config.config.clear()
        config.config.update(settings)
    sys.path[:] = path
    os.chdir(folder)
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)


def test_state_is_applied(state: WorkerState, tmp_path: Path) -> None:
    """Import path, folder, environment and Dask's settings become the caller's."""
    state.sys_path.insert(0, str(tmp_path))
    state = state._replace(folder=str(tmp_path))
    state.environ["AMORSIZE_TEST"] = "set"
    state.dask_config["amorsize-test"] = [bytes(part) for part in dump({"a": 3})]
    apply_state(state)
    assert sys.path == state.sys_path
    assert Path.cwd() == tmp_path
    assert os.environ["AMORSIZE_TEST"] == "set"
    assert config.get("amorsize-test.a") == 3


def test_what_the_caller_removed_is_removed(
    state: WorkerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables and settings that the caller no longer has are gone."""
    monkeypatch.setenv("AMORSIZE_TEST", "set")
    config.config["amorsize-test"] = 3
    apply_state(state)
    assert "AMORSIZE_TEST" not in os.environ
    assert "amorsize-test" not in config.config


def test_unknown_folder(state: WorkerState, tmp_path: Path) -> None:
    """If the caller's folder is gone a worker stays where it is."""
    os.chdir(tmp_path)
    apply_state(state._replace(folder=None))
    assert Path.cwd() == tmp_path


def test_setting_that_cannot_be_loaded(state: WorkerState) -> None:
    """It is left out; the others are applied."""
    state.dask_config["first"] = [bytes(part) for part in dump(Unloadable())]
    state.dask_config["second"] = [bytes(part) for part in dump(3)]
    apply_state(state)
    assert "first" not in config.config
    assert config.get("second") == 3


def test_setting_of_a_module_on_the_new_path(
    state: WorkerState, tmp_path: Path
) -> None:
    """A setting may be of a class that is found on the caller's new path alone."""
    (tmp_path / "new_module.py").write_text("class Thing:\n    number = 3\n")
    sys.path.insert(0, str(tmp_path))
    from new_module import Thing  # type: ignore[import-not-found]

    state.dask_config["thing"] = [bytes(part) for part in dump(Thing())]
    del sys.modules["new_module"]
    sys.path.remove(str(tmp_path))
    state.sys_path.insert(0, str(tmp_path))
    apply_state(state)
    assert config.get("thing").number == 3
    del sys.modules["new_module"]


# -- the process -----------------------------------------------------------------------


def test_seeds() -> None:
    """After a fork equal random states become different ones."""
    before = random.getstate(), np.random.get_state()
    drawn = []
    try:
        for _ in range(2):
            random.setstate(before[0])
            np.random.set_state(before[1])
            worker.seed()
            drawn.append((random.random(), np.random.random()))
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_output_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was printed is written out, where there is something to write to."""

    class Stream(StringIO):
        n_flushed = 0

        def flush(self) -> None:
            super().flush()
            self.n_flushed += 1

    stream, closed = Stream(), Stream()
    closed.close()
    for out, err in ((stream, closed), (None, stream)):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        worker.flush()
    assert stream.n_flushed == 2


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A worker says that it is ready, echoes, runs, and ends when the pipe closes."""
    ours, theirs = sockets
    caller = WorkerChannel(ours)
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(worker.serve, WorkerChannel(theirs), None)
        try:
            kind, pid, ready_at, rss_bytes = load(caller.receive() or [])
            assert (kind, pid) == ("ready", os.getpid())
            assert ready_at > 0
            assert rss_bytes > 0
            caller.send(dump(("echo", b"a" * 100_000)))
            assert load(caller.receive() or []) == ("echo", b"a" * 100_000)
            items = [(0, lambda values: values["x"] + 1, ["x"])]
            caller.send([HEAD, *dump((items, {"x": 1}))])
            head, *parts = caller.receive() or []
            assert read_answer(load([head])[1], parts, [0]).values == [2]
        finally:
            ours.close()
        ended.result()


def test_silent_caller(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A worker ends when the caller has been silent for a time."""
    thread = threading.Thread(
        target=worker.serve, args=(WorkerChannel(sockets[1]), 0.001)
    )
    thread.start()
    thread.join()


def test_caller_that_has_gone_at_once(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gets up after its caller has let go of it ends quietly."""
    monkeypatch.setattr(worker, "seed", lambda: None)
    monkeypatch.setattr(worker, "is_worker", False)
    monkeypatch.setattr(worker.WorkerLog, "install", lambda self: None)
    sockets[0].close()
    worker.main(sockets[1], None)
    assert worker.is_worker
