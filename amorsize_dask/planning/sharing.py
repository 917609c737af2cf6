"""Whether calls get into each other's way in two threads, which no single call shows.

A call that lets go of the GIL often and for moments seems to leave it free to one that
watches it. Beside another one like it, each such moment may cost it a switch interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import thread_time
from typing import Any

from amorsize_dask.core.outcome import Outcome
from amorsize_dask.planning.trial import Trial, call_all

#: Threads that are tried at once.
N_THREADS = 2

#: Times longer that calls must take together to be in each other's way. Two that need
#: the GIL all the time take 2, and 1.5 if one has all it wants first. Smaller: two that
#: meet now and then are kept apart; larger: threads that gain little are taken.
LEAST_STRETCH = 1.35


@dataclass(slots=True)
class Shared:
    """What came of calls in several threads at once, by their places."""

    outcomes: list[Outcome] = field(default_factory=list)
    values: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, BaseException] = field(default_factory=dict)

    #: Seconds for which the threads had a core.
    cpu_s: float = 0.0

    @property
    def stretch(self) -> float:
        """Seconds over those for which threads had a core, without waiting for one.

        What others do with the cores doesn't matter to it, but waiting for the GIL
        does.
        """
        if self.cpu_s <= 0:
            return 1.0
        seconds = sum(outcome.seconds for outcome in self.outcomes)
        # With the time in which they could have run but had no core.
        wanted_s = sum(outcome.cpu_s or 0.0 for outcome in self.outcomes)
        return 1 + max(0.0, seconds - wanted_s) / self.cpu_s


def try_sharing(
    func: Callable[[Any], Any], places: Sequence[int], items: Sequence[Any]
) -> Shared:
    """Call a function with items in two threads at once, half of them in each.

    Parameters
    ----------
    func : callable
        What to call. A thread ends with the first item that it raises for.
    places : sequence of int
        The numbers that results go by.
    items : sequence
        As many items, two or more.

    Raises
    ------
    RuntimeError
        If the system can't start that many threads.
    """
    shared = Shared()
    with ExitStack() as stack:
        trials = [stack.enter_context(Trial(func)) for _ in range(N_THREADS)]
        made: list[list[Any]] = [[] for _ in trials]
        cpu_s = [0.0] * N_THREADS

        def call_some(i: int) -> None:
            start_s = thread_time()
            call_all(func, items[i::N_THREADS], made[i])
            cpu_s[i] = thread_time() - start_s

        for i, trial in enumerate(trials):
            trial.begin_other(call_some, i)
        for i, trial in enumerate(trials):
            found = trial.wait()
            assert found is not None
            own = places[i::N_THREADS]
            shared.values.update(zip(own, made[i], strict=False))
            shared.outcomes += found.outcomes
            if found.failure is not None:
                shared.failures[own[len(made[i])]] = found.failure[1]
    shared.cpu_s = sum(cpu_s)
    return shared
