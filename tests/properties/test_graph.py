"""The state of random graphs under random operations."""

from __future__ import annotations

from choices import Choices, choices
from hypothesis import given, settings
from hypothesis import strategies as st

from amorsize_dask.core.graph import CUT_SLACK, Graph, GraphState
from amorsize_dask.core.ready import ReadyTasks


def choose_graph(chosen: Choices, *, may_cut: bool = False) -> Graph:
    """Choose any graph of up to 30 tasks in up to 4 stages."""
    n, n_stages = chosen.below(31), 1 + chosen.below(4)
    return Graph(
        dependencies=[chosen.some_below(task, 4) if task else [] for task in range(n)],
        stage_of=[chosen.below(n_stages) for _ in range(n)],
        n_stages=n_stages + may_cut,
        wanted=frozenset(task for task in range(n) if chosen.below(2)),
        n_items=[1 + chosen.below(2) * chosen.below(9) for _ in range(n * may_cut)],
        rest_stage=n_stages if may_cut else None,
    )


class Run:
    """A run in which all that happens is chosen, and checked."""

    def __init__(self, graph: Graph, chosen: Choices) -> None:
        self.graph = graph
        self.state = GraphState(graph)
        self.chosen = chosen
        self.finished: set[int] = set()
        self.in_flight: set[int] = set()
        self.dropped: list[int] = []
        self.n_put_back = 0
        #: Items of each task that have been done, its parts' included.
        self.n_items_done = dict.fromkeys(range(len(graph)), 0)
        #: For each part the task that it was cut off.
        self.whole: dict[int, int] = {}

    def step(self) -> None:
        """Let something happen."""
        state, chosen = self.state, self.chosen
        stages = sorted(state.ready_stages)
        kinds = ["take"] * bool(stages) + ["finish"] * bool(self.in_flight)
        if self.in_flight and self.n_put_back < 10:
            kinds.append("put back")
        kind = chosen.of(kinds)
        if kind == "take":
            self.take(chosen.of(stages))
        else:
            task = chosen.of(sorted(self.in_flight))
            self.in_flight.remove(task)
            if kind == "put back":
                self.n_put_back += 1
                state.put_back([task])
            else:
                self.finish(task)
        state.validate()

    def take(self, stage: int) -> None:
        """Take tasks, of any number of items."""
        lowest = list(self.state.ready[stage])
        if self.graph.rest_stage is None:
            n = 1 + self.chosen.below(len(lowest) + 1)
            taken = self.state.take(stage, n)
            assert taken == lowest[:n]
        else:
            taken = self.take_items(stage, lowest)
        for task in taken:
            assert task not in self.in_flight | self.finished
            # What it needs has been made, and is still there.
            assert self.finished.issuperset(self.state.dependencies[task])
            assert not set(self.dropped).intersection(self.state.dependencies[task])
        self.in_flight.update(taken)

    def take_items(self, stage: int, lowest: list[int]) -> list[int]:
        """Take items, by cutting or not."""
        cuts: list[tuple[int, int, int]] = []
        may_cut = bool(self.chosen.below(2))
        n = 1 + self.chosen.below(12)
        most = 1 + self.chosen.below(5)
        taken = self.state.take_items(stage, n, cuts, most=most, may_cut=may_cut)
        assert 1 <= len(taken) <= most
        parts = {part: (task, size) for task, part, size in cuts}
        assert set(parts) <= set(taken)
        sources = [parts[task][0] if task in parts else task for task in taken]
        assert sources == lowest[: len(sources)]
        for part, (task, size) in parts.items():
            assert self.state.n_items(part) == size >= 1
            self.whole[part] = task
        n_before_last = sum(self.state.n_items(task) for task in taken[:-1])
        assert n_before_last < n
        if may_cut and taken[-1] not in self.whole.keys() - parts.keys():
            assert n_before_last + self.state.n_items(taken[-1]) <= (1 + CUT_SLACK) * n
        return taken

    def finish(self, task: int) -> None:
        """Finish a task; all that no one needs is dropped at once."""
        self.finished.add(task)
        whole = self.whole.get(task, task)
        self.n_items_done[whole] += self.state.n_items(task)
        self.dropped += self.state.finish([task])
        assert self.state.has_finished(task)
        assert len(self.dropped) == len(set(self.dropped))
        needed = {
            needed
            for other, dependencies in enumerate(self.state.dependencies)
            if other not in self.finished
            for needed in dependencies
        }
        assert set(self.dropped) == self.finished - self.graph.wanted - needed


@given(choices(250), choices(250), st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_order_of_operations(
    for_graph: Choices, chosen: Choices, may_cut: bool
) -> None:
    """Each task runs once, after its dependencies; values live as long as needed."""
    graph = choose_graph(for_graph, may_cut=may_cut)
    run = Run(graph, chosen)
    run.state.validate()
    while not run.state.is_finished:
        run.step()
    assert run.finished >= set(range(len(graph)))
    assert not run.state.ready_stages
    assert run.state.n_in_flight == 0
    for task, n_items in enumerate(graph.n_items):
        # What has only parts to put together counts as one.
        is_rest = run.state.stage_of[task] == graph.rest_stage
        assert run.n_items_done[task] == n_items + is_rest


@given(st.lists(st.integers(0, 40) | st.tuples(st.integers(1, 9), st.integers(0, 40))))
def test_ready_tasks_are_given_out_in_order(steps: list[int | tuple[int, int]]) -> None:
    """Whatever the order in which they come."""
    ready = ReadyTasks()
    known: list[int] = []
    for step in steps:
        if isinstance(step, tuple):
            n, until = step
            assert ready.lowest(n) == known[:n]
            assert ready.count_below(until, n) == sum(t < until for t in known[:n])
            assert ready.take(n) == known[:n]
            del known[:n]
        elif step not in known:
            ready.push(step)
            known = sorted([*known, step])
        assert list(ready) == known
        assert len(ready) == len(known)
        if known:
            assert ready.head == known[0]
