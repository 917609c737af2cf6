"""The rule for how many tasks go to a worker at once."""

from __future__ import annotations

from math import ceil, isfinite

#: Share of a batch's seconds that its round trip may cost. Smaller: large batches
#: that end unevenly; larger: workers wait for messages. With the batches of small
#: tasks that `benchmarks/overhead.py` sends, 5 % keeps workers busy.
OVERHEAD_FRACTION = 0.05


def choose_batch_size(
    n_tasks: int,
    n_workers: int,
    mean_s: float,
    overhead_s: float,
    target_batch_s: float = float("inf"),
) -> int:
    """Choose how many of the tasks left one batch should have.

    Factoring (Hummel, Schonberg and Flynn, 1992): each round hands out half of what
    is left, ``R / (2 n)`` tasks to each of n workers, so that batches shrink to the
    end and one slow batch can't hold it up. Bounded below by what makes a batch worth
    its cost, and above by `target_batch_s` and by an even share.

    Parameters
    ----------
    n_tasks : int
        Tasks left that no worker has yet, >= 0.
    n_workers : int
        Workers that share them, >= 1.
    mean_s : float
        Mean seconds of a task, >= 0; 0 means "too short to tell".
    overhead_s : float
        Seconds that a batch costs beside its tasks.
    target_batch_s : float, optional
        Seconds that a batch should take at most.

    Returns
    -------
    int
        At least 1 and at most ``ceil(n_tasks / n_workers)`` (if that is >= 1).
    """
    share = max(1, ceil(n_tasks / n_workers))
    worth_s = OVERHEAD_FRACTION * mean_s
    if worth_s <= 0:
        return share
    size = ceil(n_tasks / (2 * n_workers))
    if isfinite(target_batch_s):
        size = min(size, int(min(target_batch_s / mean_s, share)))
    worth_it = ceil(min(overhead_s / worth_s, share))
    return max(1, min(share, max(size, worth_it)))
