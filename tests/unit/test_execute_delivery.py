"""Values are handed over once each, in their order or as they come."""

from __future__ import annotations

from amorsize_dask.core.graph import Graph
from amorsize_dask.execute.delivery import Delivery
from amorsize_dask.execute.graph import TaskGraph


def make_tasks() -> TaskGraph:
    """Return three tasks, of which the last isn't wanted, a constant and an alias."""
    return TaskGraph(
        graph=Graph(
            dependencies=[(), (), ()],
            stage_of=[0, 0, 0],
            n_stages=1,
            wanted=frozenset({0, 1}),
        ),
        keys=["a", "b", "c"],
        nodes=[dict, dict, dict],
        arguments=[(), (), ()],
        constants={"x": 5},
        aliases={"also-b": "b", "also-x": "x"},
        stages=["s"],
    )


def test_in_order() -> None:
    """A value waits for those before it, a constant as well."""
    delivery = Delivery(["a", "x", "b"], make_tasks(), is_ordered=True)
    delivery.note([2, 1])
    assert delivery.next_key() is None
    delivery.note([0])
    assert [delivery.next_key() for _ in range(3)] == ["a", "x", "b"]
    assert delivery.is_done
    assert delivery.next_key() is None


def test_as_they_come() -> None:
    """What is there at the start comes first."""
    delivery = Delivery(["a", "also-x", "b"], make_tasks(), is_ordered=False)
    assert delivery.next_key() == "x"
    assert delivery.next_key() is None
    delivery.note([1])
    assert delivery.next_key() == "b"
    assert not delivery.is_done
    delivery.note([0])
    assert delivery.next_key() == "a"
    assert delivery.is_done


def test_keys_that_stand_for_one_value() -> None:
    """It is handed over for each, and let go after the last."""
    keys = ["b", "a", "also-b", "b", "x"]
    delivery = Delivery(keys, make_tasks(), is_ordered=True)
    delivery.note([0, 1])
    released = []
    while (key := delivery.next_key()) is not None:
        released.append((key, delivery.release(key)))
    assert released == [("b", None), ("a", 0), ("b", None), ("b", 1), ("x", None)]


def test_nothing() -> None:
    """No keys are done at once."""
    assert Delivery([], make_tasks(), is_ordered=True).is_done
