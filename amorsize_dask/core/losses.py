"""How many workers a task may lose before it is taken for what kills them."""

from __future__ import annotations

from math import ceil, log

#: Losses of a worker at which a task is taken for the cause, where nothing else is
#: known. Smaller: a stray kill or two end a run; larger: a task that crashes takes as
#: many workers with it. It is Dask's `distributed.scheduler.allowed-failures`.
ALLOWED_FAILURES = 3

#: Chance that bad luck alone ends a run, where workers are killed all the time.
#: Smaller: a task that does it itself is tried more often there; larger: runs end for
#: nothing.
MISTAKE_FRACTION = 0.01

#: What a try is taken to be lost by there. It isn't measured, for tries differ: where a
#: worker takes about as long to boot as it lives, the first task that each new one gets
#: is lost nearly every time. Smaller: runs end for nothing; larger: a task that kills
#: is tried more often.
LOST_FRACTION = 0.5

#: Tasks that have lost workers while they were alone, and were none the worse for it,
#: from which on something outside is known to kill. Smaller: one task that crashes now
#: and then is enough; larger: runs end for nothing before it is known.
N_WITNESSES = 2


class Losses:
    """Tells bad luck from a task that kills."""

    def __init__(self) -> None:
        self._n_witnesses = 0

    def note_survivor(self, n_losses: int) -> None:
        """Take note of a suspect that has finished.

        Parameters
        ----------
        n_losses : int
            How many workers it has lost before while it was alone.
        """
        if n_losses:
            self._n_witnesses += 1

    def count_allowed(self, n_tasks: int) -> int:
        """Return the losses of one of `n_tasks` tasks, >= 1, at which the run ends.

        Where something outside kills workers, the smallest `k` for which
        ``n_tasks * LOST_FRACTION ** k <= MISTAKE_FRACTION``: so many in a row hardly
        come to any of the tasks by chance.
        """
        if self._n_witnesses < N_WITNESSES:
            return ALLOWED_FAILURES
        n = ceil(log(MISTAKE_FRACTION / n_tasks) / log(LOST_FRACTION))
        return max(ALLOWED_FAILURES, n)
