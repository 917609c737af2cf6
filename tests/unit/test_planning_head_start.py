"""What `execute` does in the calling thread before it asks a scheduler, or instead."""

from __future__ import annotations

import time
from typing import Any

import dask
import pytest

from amorsize_dask import AmorsizeScheduler, execute
from amorsize_dask.core.experience import Experience
from amorsize_dask.execute import recollection
from amorsize_dask.measure.history import History
from amorsize_dask.planning.execution import called_by_pieces, run_all
from amorsize_dask.planning.head_start import begin_here

#: More than is done before the rest is looked at, by far.
ITEMS = list(range(100))


def wait(x: int) -> int:
    """Take some time, so that a hundred are much work."""
    time.sleep(0.002)
    return x


def seen(**fields: Any) -> Experience:
    """Return what is known of a function that computes, and holds the GIL."""
    found: dict[str, Any] = {
        "n_items": len(ITEMS),
        "mean_s": 1.0,
        "std_s": 0.0,
        "cpu_fraction": 1.0,
        "gil_fraction": 1.0,
    }
    return Experience(**(found | fields))


@pytest.mark.parametrize(
    ("known", "lanes", "is_all"),
    [
        (seen(out_bytes=1e4, pack_s=1.0), ("inline", "processes"), True),
        (seen(out_bytes=1e4, pack_s=1.0), ("processes",), False),
        # It takes far longer now than it did.
        (seen(out_bytes=1e4, pack_s=1.0, mean_s=1e-5), ("inline", "processes"), False),
        (seen(out_bytes=1e15, pack_s=1.0), ("inline", "processes"), False),
        (seen(cpu_fraction=0.01), ("inline", "threads"), False),
        (seen(gil_fraction=None, pack_s=1.0), ("inline", "processes"), False),
        (None, ("inline", "processes"), False),
    ],
)
def test_all_is_done_here_where_that_is_known_to_be_best(
    known: Experience | None, lanes: tuple[str, ...], is_all: bool
) -> None:
    """The rest is left to a scheduler if that could help, or if nothing is known."""
    values: list[int] = []
    with AmorsizeScheduler(lanes=lanes) as scheduler:
        begin_here(wait, ITEMS, values, scheduler, known=known)
    assert values == ITEMS[: len(values)]
    assert (len(values) == len(ITEMS)) is is_all


def test_what_a_run_has_shown_is_found_by_the_function(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A later `execute` knows it, and does what can't be sent for less by itself."""
    history = History(tmp_path)
    monkeypatch.setattr(recollection, "shared", history)
    # However busy the machine is, a first call is one that is over soon.
    monkeypatch.setattr("amorsize_dask.planning.execute.FIRST_S", 10.0)
    functions = called_by_pieces(wait)
    with AmorsizeScheduler() as scheduler:
        assert recollection.recall_calls(functions) is None
        with dask.config.set({"amorsize.history": True}):
            run_all(scheduler, wait, ITEMS)
            known = recollection.recall_calls(functions)
            assert known is not None
            assert known.n_items == len(ITEMS)
            (stage,) = history.entries()
            history.note(stage, "wait", seen(out_bytes=1e4, pack_s=1.0))
            run = scheduler.last_run
            assert execute(wait, ITEMS, scheduler=scheduler) == ITEMS
            assert scheduler.last_run is run  # it wasn't asked again
        assert recollection.recall_calls(functions) is None
