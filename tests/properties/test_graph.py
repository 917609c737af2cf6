"""The state of random graphs under random operations."""

from __future__ import annotations

from choices import Choices, choices
from hypothesis import given, settings

from amorsize_dask.core.graph import Graph, GraphState


def choose_graph(chosen: Choices) -> Graph:
    """Choose any graph of up to 30 tasks in up to 4 stages."""
    n, n_stages = chosen.below(31), 1 + chosen.below(4)
    return Graph(
        dependencies=[chosen.some_below(task, 4) if task else [] for task in range(n)],
        stage_of=[chosen.below(n_stages) for _ in range(n)],
        n_stages=n_stages,
        wanted=frozenset(task for task in range(n) if chosen.below(2)),
    )


@given(choices(250), choices(250))
@settings(max_examples=300, deadline=None)
def test_any_order_of_operations(for_graph: Choices, chosen: Choices) -> None:
    """Each task runs once, after its dependencies; values live as long as needed."""
    graph = choose_graph(for_graph)
    state = GraphState(graph)
    finished: set[int] = set()
    dropped: list[int] = []
    in_flight: set[int] = set()
    n_put_back = 0
    state.validate()
    while not state.is_finished:
        stages = sorted(state.ready_stages)
        kinds = ["take"] * bool(stages) + ["finish"] * bool(in_flight)
        if in_flight and n_put_back < 10:
            kinds.append("put back")
        kind = chosen.of(kinds)
        if kind == "take":
            stage = chosen.of(stages)
            lowest = sorted(state.ready[stage])
            n = 1 + chosen.below(len(lowest) + 1)
            taken = state.take(stage, n)
            assert taken == lowest[:n]
            for task in taken:
                assert task not in in_flight | finished
                # What it needs has been made, and is still there.
                assert finished.issuperset(graph.dependencies[task])
                assert not set(dropped).intersection(graph.dependencies[task])
            in_flight.update(taken)
        else:
            task = chosen.of(sorted(in_flight))
            in_flight.remove(task)
            if kind == "put back":
                n_put_back += 1
                state.put_back([task])
            else:
                finished.add(task)
                state.finish(task, dropped)
                assert state.has_finished(task)
        state.validate()
        assert len(dropped) == len(set(dropped))
        assert set(dropped) == {
            task
            for task in finished - graph.wanted
            if not any(
                task in graph.dependencies[other]
                for other in range(len(graph))
                if other not in finished
            )
        }
    assert finished == set(range(len(graph)))
    assert not state.ready_stages
    assert state.n_in_flight == 0
