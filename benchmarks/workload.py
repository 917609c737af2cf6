"""What a workload is: the same work as a Dask collection and in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from limits import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the inputs of a run depend on."""

    #: Take small inputs: for a smoke test, not for figures.
    is_quick: bool
    #: Steps of `spin` that take a millisecond, the same for all runs of a suite.
    steps_per_ms: int
    #: Where inputs are written that all runs of a suite read.
    folder: Path
    #: Ends what an input needs, such as a server, when the run is over.
    stack: ExitStack

    def size(self, full: int, quick: int) -> int:
        """Return one of two sizes of an input."""
        return quick if self.is_quick else full


class Job(NamedTuple):
    """Work in plain Python: a function of each item, and one of all its results."""

    function: Callable[[Any], Any]
    items: Sequence[Any]
    #: Takes the results in the order of the items, perhaps while they come.
    finish: Callable[[Iterable[Any]], Any] = list


class Graph(NamedTuple):
    """A graph that is handed to a scheduler as it is, without a collection."""

    dsk: Mapping[Any, Any]
    keys: list[Any]


#: A way to do a job by hand: a context, since pools are started before the clock, of a
#: function that takes the job and returns its result.
ByHand = Callable[[], AbstractContextManager[Callable[[Job], Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table."""

    name: str
    #: What is done, in one line.
    title: str
    #: Makes the input. Other numbers give other data of the same size, so that what a
    #: scheduler has seen in its rehearsal doesn't have the keys of what is timed.
    make: Callable[[Setting, int], Any]
    #: Makes a bag, a delayed, a list of them or a `Graph` of an input.
    collection: Callable[[Any], Any]
    #: Makes the job in plain Python of an input.
    job: Callable[[Any], Job]
    #: The ways to do it by hand that an expert would try. The quickest counts.
    by_hand: Mapping[str, ByHand]
    #: What the scheduler must reach.
    limits: tuple[Limit, ...]
    #: Runners that make no sense here, and why.
    left_out: Mapping[str, str] = field(default_factory=dict)
    #: Arguments of `AmorsizeScheduler`.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Makes results comparable where their order is free.
    normalise: Callable[[Any], Any] = lambda result: result
    #: Computes that are timed in one process, of which the median counts. More than
    #: one where a single one is so short that it can't be told from noise.
    n_repeats: int = 1
    #: Whether it takes so long that it is rehearsed in small and run in one round.
    is_long: bool = False
    #: Whether it counts in the geometric means. A forced lane and a workload that no
    #: stock scheduler runs don't: they would flatter the scheduler.
    is_counted: bool = True
    #: How many tasks an input makes, where the time of one is of interest.
    n_tasks: Callable[[Any], int] | None = None
