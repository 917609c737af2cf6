"""Whether threads that run tasks of a stage at once are in each other's way."""

from __future__ import annotations

from collections.abc import Sequence

from amorsize_dask.core.model import GIL_HANDOVER, WAITING_FRACTION
from amorsize_dask.core.outcome import Outcome

#: Seconds of tasks in threads that show whether threads help. Smaller: one that others
#: have held up moves a stage; larger: threads that are in each other's way stay so for
#: longer.
SHARED_S = 0.05

#: Share of the speed that each of several threads keeps if they aren't in each other's
#: way. Smaller: a stage stays in threads that gain half of what was predicted; larger:
#: noise moves stages out of threads.
FREE_FRACTION = 0.75


class Sharing:
    """What threads do to each other, going by the last ones of a stage.

    A task that lets go of the GIL for moments seems to leave it free to one that
    watches it alone. Beside others like it, each such moment may cost it several
    milliseconds until it has the GIL again.

    It is about tasks that compute: waiting for the GIL is lost among other waiting.

    Attributes
    ----------
    is_known : bool
        Whether threads have shown what they do to each other.
    """

    __slots__ = (
        "_is_hindered",
        "_n_items",
        "_n_threads",
        "_seconds",
        "_shared_n",
        "_shared_s",
        "is_known",
    )

    def __init__(self) -> None:
        # Of tasks beside others: their seconds, their items, and for each item the
        # threads that were busy; and the means by item of the last ones.
        self._seconds, self._n_items, self._n_threads = 0.0, 0, 0
        self._shared_s = self._shared_n = 0.0
        self.is_known = self._is_hindered = False

    def add(
        self,
        outcomes: Sequence[Outcome],
        n_items: int,
        n_threads: int,
        n_cores: int,
        mean_s: float,
    ) -> bool:
        """Count tasks that have finished in a thread.

        Parameters
        ----------
        outcomes : sequence of Outcome
            The tasks.
        n_items : int
            Items that they had.
        n_threads : int
            Threads that were busy then, this one included.
        n_cores : int
            Cores for them.
        mean_s : float
            Mean seconds of an item by itself.

        Returns
        -------
        bool
            Whether there is news.
        """
        if n_threads < 2:
            return False
        self._seconds += sum(out.seconds for out in outcomes)
        self._n_items += n_items
        # Threads beyond the cores can't help.
        self._n_threads += n_items * min(n_threads, n_cores)
        if self._seconds < SHARED_S:
            return False
        needed = self._find_need(mean_s)
        self._shared_s = self._seconds / self._n_items
        self._shared_n = self._n_threads / self._n_items
        self._seconds, self._n_items, self._n_threads = 0.0, 0, 0
        self.is_known = True
        self._is_hindered = 0 < mean_s < FREE_FRACTION * self._shared_s
        return needed != self._find_need(mean_s)

    def forget(self) -> None:
        """Forget what threads have shown."""
        self.is_known = self._is_hindered = False

    def limit(
        self, gil_fraction: float, cpu_fraction: float, mean_s: float
    ) -> tuple[float, float]:
        """Return what is known of the GIL, with what threads have shown of it.

        Parameters
        ----------
        gil_fraction : float
            Share of its time in which one holds it, going by what else is known.
        cpu_fraction : float
            Share in which it computes: it can't hold it for longer.
        mean_s : float
            Mean seconds of an item by itself.

        Returns
        -------
        gil_fraction, gil_handover : float
            As in `Workload`.
        """
        need = self._find_need(mean_s)
        if not need or cpu_fraction < WAITING_FRACTION:
            return gil_fraction, GIL_HANDOVER
        held = need / (1 + GIL_HANDOVER)
        gil_fraction = min(cpu_fraction, max(gil_fraction, held))
        return gil_fraction, max(GIL_HANDOVER, need / gil_fraction - 1)

    def _find_need(self, mean_s: float) -> float:
        """Return the seconds for which a second of work needs the GIL.

        Of ``k`` threads each took ``s`` seconds for what takes one alone ``t``: an item
        every ``s / k`` seconds. If they were in each other's way, that is the limit.
        Items of a tail may take longer by themselves, which shows when one of them runs
        alone: then it is less. 0 if there is nothing to tell.
        """
        if not self._is_hindered or not 0 < mean_s < self._shared_s:
            return 0.0
        return self._shared_s / self._shared_n / mean_s
