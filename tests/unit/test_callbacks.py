from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from operator import add, mul
from typing import Any

import dask
import dask.bag as db
import pytest
from dask._task_spec import Alias, DataNode, Task
from dask.cache import Cache
from dask.callbacks import Callback
from dask.delayed import delayed
from dask.diagnostics import CacheProfiler, Profiler, ProgressBar, ResourceProfiler
from dask.local import get_sync
from dask.utils_test import inc

from amorsize_dask.callbacks import observe
from amorsize_dask.lowering import lower, materialize, nest

Graph = dict[Any, Any]

DSK: Graph = {"a": 1, "b": 2, "c": (add, "a", "b"), "d": (mul, "a", "b")}
DSK["e"] = (mul, "c", "d")

#: What is in the state, and with what kind of key or as what.
STATE = {
    "dependencies",
    "dependents",
    "waiting",
    "waiting_data",
    "cache",
    "ready",
    "running",
    "finished",
    "released",
}


def get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Run a graph as the scheduler does, one task after the other."""
    with observe(kwargs.get("callbacks")) as observers:
        graph = materialize(dsk)
        observers.start(graph)
        tasks = lower(graph, keys, fuse=not observers.wants_tasks)
        observers.start_state(tasks)
        values = dict(tasks.constants)
        for task, node in enumerate(tasks.nodes):
            if observers.wants_tasks:
                observers.pretask(task)
            value = node({key: values[key] for key in tasks.arguments[task]})
            values[tasks.keys[task]] = value
            if observers.wants_tasks:
                observers.posttask(task, value, "caller")
        return nest(keys, lambda key: values[tasks.aliases.get(key, key)])


class Recorder(Callback):
    """Writes down all that it is told, with a copy of the state."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.states: list[dict[str, Any]] = []

    def _note(self, state: dict[str, Any], *event: Any) -> None:
        self.events.append(event)
        self.states.append(
            {
                name: {k: set(v) for k, v in part.items()}
                if name in ("dependencies", "dependents", "waiting", "waiting_data")
                else (dict(part) if name == "cache" else set(part))
                for name, part in state.items()
            }
        )

    def _start(self, dsk: Graph) -> None:
        self.dsk = dsk
        self.events.append(("start", set(dsk)))

    def _start_state(self, dsk: Graph, state: dict[str, Any]) -> None:
        assert dsk is self.dsk
        self._note(state, "start_state")

    def _pretask(self, key: Any, dsk: Graph, state: dict[str, Any]) -> None:
        assert key in dsk
        self._note(state, "pretask", key)

    def _posttask(
        self, key: Any, value: Any, dsk: Graph, state: dict[str, Any], worker_id: Any
    ) -> None:
        assert worker_id in ("caller", None)
        self._note(state, "posttask", key, value)

    def _finish(self, dsk: Graph, state: dict[str, Any], errored: bool) -> None:
        self._note(state, "finish", errored)


def record(
    getter: Callable[..., Any], dsk: Graph, keys: Any
) -> tuple[list[Any], list[Any]]:
    """Return the events and the states of one run."""
    with Recorder() as recorder:
        getter(dsk, keys)
    return recorder.events, recorder.states


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    yield
    assert not Callback.active


# -- what is told ----------------------------------------------------------------------


def test_all_is_told_in_order() -> None:
    """Each task of the graph once, no data, and the values."""
    events, _ = record(get, DSK, "e")
    assert events == [
        ("start", {"a", "b", "c", "d", "e"}),
        ("start_state",),
        ("pretask", "c"),
        ("posttask", "c", 3),
        ("pretask", "d"),
        ("posttask", "d", 2),
        ("pretask", "e"),
        ("posttask", "e", 6),
        ("finish", False),
    ]


def test_tasks_that_would_be_fused_are_told_one_by_one() -> None:
    """A chain is one task only where no one looks."""
    dsk = {"x": (inc, 1), "y": (inc, "x"), "z": (inc, "y")}
    events, _ = record(get, dsk, "z")
    assert [event[1] for event in events if event[0] == "pretask"] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("dsk", "keys"),
    [
        (DSK, ["e", ["a"]]),
        ({"a": 1, "b": "a"}, "b"),
        ({"a": 1, "b": "a", "c": "b", "d": (inc, "c")}, ["d", "b"]),
        ({"a": (inc, 1), "b": "a", "c": (inc, "b"), "d": ["b", "c"]}, ["d", "b"]),
        ({"x": 1}, "x"),
        ({"x": (inc, 1), "unused": (inc, "x")}, "x"),
    ],
)
def test_the_same_is_told_as_by_dask(dsk: Graph, keys: Any) -> None:
    """As many tasks under the same keys, aliases among them, data not."""
    ours, our_states = record(get, dsk, keys)
    theirs, their_states = record(get_sync, dsk, keys)
    for name in ("pretask", "posttask"):
        assert sorted(event[1:] for event in ours if event[0] == name) == sorted(
            event[1:] for event in theirs if event[0] == name
        )
    for state, other in (
        (our_states[0], their_states[0]),
        (our_states[-1], their_states[-1]),
    ):
        assert state.keys() == other.keys() == STATE
        n_all = [
            sum(len(part[name]) for name in ("waiting", "ready", "running", "finished"))
            for part in (state, other)
        ]
        assert n_all[0] == n_all[1]
    assert our_states[-1]["finished"] == their_states[-1]["finished"]


def test_the_state_is_true_at_each_step() -> None:
    """What is ready, running, waiting, finished, held and let go."""
    events, states = record(get, DSK, "e")
    told = dict(zip([event[:2] for event in events[1:]], states, strict=True))
    start = told[("start_state",)]
    assert start["cache"] == {"a": 1, "b": 2}
    assert start["ready"] == {"c", "d"}
    assert start["waiting"] == {"e": {"c", "d"}}
    assert start["dependencies"]["e"] == {"c", "d"}
    assert start["dependents"]["a"] == {"c", "d"}
    running = told["pretask", "d"]
    assert running["running"] == {"d"}
    assert running["finished"] == {"c"}
    assert running["ready"] == set()
    assert running["waiting"] == {"e": {"d"}}
    assert running["cache"] == {"a": 1, "b": 2, "c": 3}
    after = told["posttask", "d"]
    assert after["ready"] == {"e"}
    assert after["released"] == {"a", "b"}
    end = told["finish", False]
    assert end["cache"] == {"e": 6}
    assert end["finished"] == {"c", "d", "e"}
    assert end["released"] == {"a", "b", "c", "d"}
    assert not end["ready"] | end["running"] | end["waiting"].keys()


def test_what_was_asked_for_stays_in_the_cache() -> None:
    """Also if other tasks have used it up."""
    _, states = record(get, DSK, ["e", "c"])
    assert states[-1]["cache"] == {"c": 3, "e": 6}
    assert states[-1]["released"] == {"a", "b", "d"}


def test_a_task_may_be_started_twice() -> None:
    """As after the loss of a worker."""
    with Recorder() as recorder, observe() as observers:
        graph = materialize(DSK)
        observers.start(graph)
        observers.start_state(lower(graph, "e", fuse=False))
        observers.pretask(0)
        observers.pretask(0)
        observers.posttask(0, 3, "caller")
    assert recorder.states[-1]["running"] == set()
    assert recorder.states[-1]["finished"] == {"c"}


# -- who is told -----------------------------------------------------------------------


def test_without_callbacks_nothing_is_kept() -> None:
    """And tasks are fused."""
    with observe() as observers:
        assert observers.is_empty
        assert not observers.wants_tasks
        assert not observers.has_posttask
        graph: Graph = {"x": (inc, 1)}
        observers.start(graph)
        assert graph == {"x": (inc, 1)}
        observers.start_state(lower(graph, "x"))


@pytest.mark.parametrize(
    ("name", "wants_tasks", "has_posttask"),
    [
        ("start", False, False),
        ("start_state", True, False),
        ("pretask", True, False),
        ("posttask", True, True),
        ("finish", False, False),
    ],
)
def test_tasks_are_told_only_if_someone_listens(
    name: str, wants_tasks: bool, has_posttask: bool
) -> None:
    """Whoever is only told of start and end doesn't keep chains apart."""
    with Callback(**{name: lambda *_: None}), observe() as observers:
        assert not observers.is_empty
        assert observers.wants_tasks == wants_tasks
        assert observers.has_posttask == has_posttask


def test_one_who_sees_the_end_alone_sees_all_finished() -> None:
    """Though no one has told of single tasks."""
    seen: list[Any] = []
    with Callback(finish=lambda dsk, state, errored: seen.append((state, errored))):
        assert get(DSK, "e") == 6
    ((state, errored),) = seen
    assert not errored
    assert state["finished"] == {"c", "d", "e"}
    assert not state["ready"] | state["running"] | state["waiting"].keys()


def test_callbacks_can_be_passed() -> None:
    """As one, as several, or as tuples of functions; others aren't told then."""
    told: list[str] = []

    def note(name: str) -> Callback:
        return Callback(start=lambda dsk: told.append(name))

    with note("active"):
        get(DSK, "e", callbacks=note("passed"))
        get(DSK, "e", callbacks=[note("one"), note("two")._callback])
        get(DSK, "e", callbacks=[])
        get(DSK, "e")
    assert told == ["passed", "one", "two", "active"]


def test_runs_inside_of_tasks_are_not_told_of() -> None:
    """Unless they bring callbacks of their own."""
    inner, outer = Recorder(), Recorder()

    def nested(x: int) -> int:
        assert not Callback.active
        get({"u": (inc, 1)}, "u")
        with inner:
            value: int = get({"v": (inc, x)}, "v")
            return value

    with outer:
        assert get({"x": (nested, 1), "y": (inc, "x")}, "y") == 3
    assert [e[1] for e in outer.events if e[0] == "pretask"] == ["x", "y"]
    assert [e[1] for e in inner.events if e[0] == "pretask"] == ["v"]


def test_runs_in_other_threads_do_not_lose_callbacks() -> None:
    """A run that began while another one had taken them has nothing to put back."""
    entered, leave = threading.Event(), threading.Event()

    def run() -> None:
        with observe() as observers:
            assert observers.is_empty
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=run)
    with Recorder() as recorder:
        with observe() as observers:
            assert not observers.is_empty
            thread.start()
            entered.wait(10)
        leave.set()
        thread.join()
        assert recorder._callback in Callback.active


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_fails_is_told_as_such(error: type[BaseException]) -> None:
    """Whatever it fails by."""

    def fail() -> None:
        raise error

    with Recorder() as recorder, pytest.raises(error):
        get({"x": (fail,), "y": (inc, "x")}, "y")
    assert recorder.events[-2:] == [("pretask", "x"), ("finish", True)]


def test_only_those_who_saw_the_start_see_the_end() -> None:
    """One whose start fails isn't told of the end, nor are those after it."""
    told: list[str] = []

    def fail(dsk: Graph) -> None:
        raise RuntimeError("start")

    callbacks = [
        Callback(
            start=lambda dsk: told.append("start"), finish=lambda *_: told.append("end")
        ),
        Callback(start=fail, finish=lambda *_: told.append("wrong")),
        Callback(finish=lambda *_: told.append("wrong")),
    ]
    with pytest.raises(RuntimeError, match="start"):
        get(DSK, "e", callbacks=callbacks)
    assert told == ["start", "end"]


def test_all_see_the_end_even_if_one_fails_there() -> None:
    """In the order in which they saw the start."""
    told: list[int] = []

    def fail(*_: Any) -> None:
        told.append(1)
        raise RuntimeError("finish")

    callbacks = [Callback(finish=fail), Callback(finish=lambda *_: told.append(2))]
    with pytest.raises(RuntimeError, match="finish"):
        get(DSK, "e", callbacks=callbacks)
    assert told == [1, 2]


def test_a_key_that_is_missing_ends_the_run() -> None:
    """Those who saw the start are told, with what there was of a state."""
    seen: list[Any] = []
    with (
        Callback(finish=lambda dsk, state, errored: seen.append((state, errored))),
        pytest.raises(KeyError),
    ):
        get(DSK, "missing")
    assert seen == [({}, True)]


# -- Dask's own ------------------------------------------------------------------------


def test_a_callback_may_change_the_graph() -> None:
    """What it puts there is used; the user's own graph stays as it is."""
    ran: list[int] = []
    dsk = {"x": (ran.append, 1), "y": (inc, "x")}

    def start(graph: Graph) -> None:
        assert isinstance(graph["x"], Task)
        graph["x"] = 5

    with Callback(start=start):
        assert get(dsk, "y") == 6
    assert ran == []
    assert dsk["x"] == (ran.append, 1)


def test_a_result_that_a_callback_brings_back_is_a_result() -> None:
    """Even if it is the name of a key."""
    cache = Cache(1e6)
    for _ in range(2):
        with cache:
            assert get({"x": (str.lower, "Y"), "y": (inc, 1)}, ["x", "y"]) == ("y", 2)


def test_a_progress_bar_reaches_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where there is nothing to do, or nothing but aliases."""
    for dsk, key in ((DSK, "e"), ({"x": 1}, "x"), ({"x": 1, "y": "x"}, "y")):
        with ProgressBar():
            get(dsk, key)
        out, _ = capsys.readouterr()
        assert out.count("100% Completed") == 1


def test_the_profiler_sees_all_tasks() -> None:
    """With their keys, nodes, times and where they ran."""
    with Profiler() as profiler:
        assert get(DSK, "e") == 6
    assert [entry.key for entry in profiler.results] == ["c", "d", "e"]
    assert all(isinstance(entry.task, Task) for entry in profiler.results)
    assert all(entry.start_time <= entry.end_time for entry in profiler.results)
    assert {entry.worker_id for entry in profiler.results} == {"caller"}


def test_the_resource_profiler_has_samples() -> None:
    """It looks on from the start of a run to its end."""
    with ResourceProfiler(dt=0.01) as profiler:
        get(DSK, "e")
    assert profiler.results
    assert not profiler._is_running()


def test_the_cache_profiler_sees_when_values_go() -> None:
    """Those that are needed no more before the end."""
    with CacheProfiler() as profiler:
        get(DSK, "e")
    assert {entry.key for entry in profiler.results} == {"c", "d", "e"}
    times = {
        entry.key: (entry.cache_time, entry.free_time) for entry in profiler.results
    }
    assert times["c"][1] <= times["e"][1]
    assert all(begin <= end for begin, end in times.values())


def test_the_cache_saves_work() -> None:
    """What one run has found another one doesn't compute; keys of aliases count."""
    ran: list[int] = []

    def note(x: int) -> int:
        ran.append(x)
        return x + 1

    cache = Cache(1e6)
    with cache:
        assert get({"x": (note, 1)}, "x") == 2
        assert get({"x": (note, 1), "y": (note, 2), "z": (add, "x", "y")}, "z") == 5
        assert get({"x": (note, 1), "a": "x", "w": (note, "a")}, "w") == 3
    assert ran == [1, 2, 2]
    assert cache.cache.data["w"] == 3
    assert not cache.starttimes


def test_collections_are_told_of() -> None:
    """A bag's tasks are those that Dask has made of it, aliases included."""
    bag = db.from_sequence(range(6), npartitions=3).map(inc)
    value = delayed(sum)(bag)
    with Profiler() as ours:
        assert dask.compute(bag, value, scheduler=get) == ([1, 2, 3, 4, 5, 6], 21)
    with Profiler() as theirs:
        dask.compute(bag, value, scheduler="sync")
    kinds = [
        sorted(type(entry.task).__name__ for entry in profiler.results)
        for profiler in (ours, theirs)
    ]
    assert kinds[0].count(Alias.__name__) > 0
    assert DataNode.__name__ not in kinds[0]
    assert len(kinds[0]) == len(kinds[1])
