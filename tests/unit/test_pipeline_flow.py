"""How many items are expected of a source, and what comes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from amorsize_dask.core.events import Added
from amorsize_dask.execute.item_call import ItemCall, Mark, Shape
from amorsize_dask.pipeline.flow import FIRST_INTAKE, MIN_EXPECTED, Flow
from amorsize_dask.pipeline.pipeline import _open_graph
from amorsize_dask.pipeline.reader import SequenceReader
from amorsize_dask.pipeline.stage import Stage

BUDGET: Any = SimpleNamespace(limit_bytes=1e9, taken_bytes=0.0)
ONE = (Shape.ONE, Shape.ONE)


class EndlessReader(SequenceReader):
    """Reads a source of which no one knows how long it is."""

    def __init__(self) -> None:
        super().__init__(range(10_000))
        self.n_left = None

    is_exhausted = False

    def take(
        self, n: int, room_bytes: float, n_ahead: int = 0
    ) -> list[tuple[Any, int]]:
        return [(0, 0)] * n


class Values:
    """Has the same result for all tasks, as a store has them."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.values = defaultdict(lambda: value)

    def read(self, task: int) -> Any:
        return self.value


def open_flow(
    n_recalled: Mapping[int, int],
    shapes: Sequence[Shape] = ONE,
    reader: SequenceReader | None = None,
    sizes: Sequence[int] = (0, 0),
) -> Flow:
    stages = tuple(Stage(abs) for _ in shapes)
    return Flow(
        [ItemCall("abs", abs, shape) for shape in shapes],
        sizes,
        shapes,
        reader or EndlessReader(),
        _open_graph(stages),
        n_seen=0,
        is_ordered=False,
        max_items=1000,
        most_tasks=1000,
        n_recalled=n_recalled,
    )


def grow(flow: Flow, store: Any = None) -> dict[int, int]:
    """Take items in; return how many tasks are expected beside those there are."""
    (added,) = [e for e in flow.grow(store, BUDGET) if isinstance(e, Added)]
    return dict(added.n_more)


def test_of_an_unknown_source_a_hundred_more_are_expected() -> None:
    more = grow(open_flow({}))
    assert more == {0: MIN_EXPECTED, 1: MIN_EXPECTED + FIRST_INTAKE}


def test_as_many_items_are_expected_as_there_were() -> None:
    assert grow(open_flow({0: 500, 1: 500})) == {0: 500 - FIRST_INTAKE, 1: 500}


def test_a_source_that_goes_on_has_more_than_there_were() -> None:
    assert grow(open_flow({0: 10})) == {0: MIN_EXPECTED, 1: MIN_EXPECTED + FIRST_INTAKE}


def test_a_length_that_is_known_counts() -> None:
    """Whatever there was in the earlier run."""
    assert grow(open_flow({0: 500}, reader=SequenceReader(range(20)))) == {0: 4, 1: 20}


def test_batches_are_what_is_remembered() -> None:
    """Of a stage that takes eight at a time, 100 tasks had 800 items."""
    flow = open_flow({0: 100, 1: 800}, (Shape.BATCH, Shape.ONE), sizes=(8, 0))
    assert grow(flow) == {0: (800 - FIRST_INTAKE) // 8, 1: 800}


@pytest.mark.parametrize(
    ("shape", "n_each"), [(Shape.FILTER, 0.1), (Shape.FLATTEN, 5.0)]
)
def test_what_came_of_an_item_is_remembered(shape: Shape, n_each: float) -> None:
    flow = open_flow({0: 1000, 1: int(1000 * n_each)}, (shape, Shape.ONE))
    assert grow(flow)[1] == 1000 * n_each


def test_what_comes_of_an_item_now_counts_soon() -> None:
    """The filter that let all through lets none: little is left of what was thought."""
    flow = open_flow({0: 1000, 1: 1000}, (Shape.FILTER, Shape.ONE))
    assert grow(flow)[1] == 1000
    flow.note(list(range(FIRST_INTAKE)))
    assert grow(flow, Values(Mark.DROPPED))[1] < 500
