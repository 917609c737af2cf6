"""What a run knows from earlier ones, and what later ones will know from it."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from amorsize_dask import config
from amorsize_dask.core.experience import Experience
from amorsize_dask.execute import worker
from amorsize_dask.execute.graph import TaskGraph
from amorsize_dask.execute.identity import (
    fingerprint_calls,
    fingerprint_items,
    fingerprint_stages,
)
from amorsize_dask.execute.item_call import ItemCall
from amorsize_dask.measure.history import History, shared

#: Seconds of a run after which what it has shown is written to disk at once, and not
#: when the process ends. Smaller: many short runs write a file each, 2 ms; larger: what
#: a long run has shown is lost if the process is killed.
SAVE_S = 1.0


class Recollection:
    """What is known of the stages of one graph.

    Parameters
    ----------
    history : History
        Where it comes from and goes to.
    fingerprints : mapping of int to str
        Those of the stages, by number.
    names : sequence of str
        Those of the stages.

    Attributes
    ----------
    experiences : dict of int to Experience
        What earlier runs have shown, by stage.
    """

    def __init__(
        self, history: History, fingerprints: Mapping[int, str], names: Sequence[str]
    ) -> None:
        self._history = history
        self._fingerprints = fingerprints
        self._names = names
        recalled = {
            number: history.recall(fingerprint)
            for number, fingerprint in fingerprints.items()
        }
        self.experiences = {
            number: seen for number, seen in recalled.items() if seen is not None
        }

    def learn(
        self,
        experiences: Mapping[int, Experience],
        seconds: float,
        *,
        is_whole: bool = True,
    ) -> None:
        """Keep what a run of so many seconds has shown, by stage.

        Of one that isn't `is_whole`, for its user has left it, the items are the least
        that there were: it doesn't make less of those of the run before it.
        """
        for number, experience in experiences.items():
            known = self.experiences.get(number)
            if not is_whole and known is not None:
                n_items = max(known.n_items, experience.n_items)
                experience = replace(experience, n_items=n_items)
            fingerprint = self._fingerprints.get(number)
            if fingerprint is not None:
                self._history.note(fingerprint, self._names[number], experience)
        if self._fingerprints and seconds >= SAVE_S:
            self._history.save()


def recollect(tasks: TaskGraph, firsts: Mapping[int, int]) -> Recollection:
    """Look up what is known of a graph's stages, of which these tasks are first.

    Nothing is, if that isn't wanted.
    """
    if not _remembers():
        return NO_RECOLLECTION
    _save_at_exit()
    return Recollection(shared, fingerprint_stages(tasks, firsts), tasks.stages)


def recollect_items(calls: Sequence[ItemCall], sizes: Sequence[int]) -> Recollection:
    """Look up what is known of stages that items go through one after the other.

    Parameters
    ----------
    calls : sequence of ItemCall
        What the stages do.
    sizes : sequence of int
        Most items of a task, by stage; 0: one that isn't in a list.

    Returns
    -------
    Recollection
        Its stages are numbered as they are here. It knows nothing if that isn't wanted.
    """
    if not _remembers():
        return NO_RECOLLECTION
    _save_at_exit()
    found = fingerprint_items(
        [
            (call.functions, f"{call.shape.value} {size}")
            for call, size in zip(calls, sizes, strict=True)
        ]
    )
    return Recollection(shared, dict(enumerate(found)), [call.name for call in calls])


def recall_calls(functions: Iterable[Any]) -> Experience | None:
    """Look up a stage of which no more is known than what its tasks call."""
    fingerprint = fingerprint_calls(functions, ()) if _remembers() else None
    return None if fingerprint is None else shared.recall(fingerprint)


def _remembers() -> bool:
    # Workers are many, and what their tasks compute has its place in the caller's runs.
    return bool(config.get("history")) and not worker.is_worker


@cache
def _save_at_exit() -> None:
    atexit.register(shared.save)


NO_RECOLLECTION = Recollection(shared, {}, ())
