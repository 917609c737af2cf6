"""How means fade: what new items weigh beside those that were counted before."""

from __future__ import annotations

#: Tasks over which means are taken: older ones fade. Smaller: noise moves work
#: about; larger: a stage whose tail differs from its head is noticed late.
WINDOW = 50


def weigh(n_items: int, n_items_so_far: int) -> float:
    """Return what new items weigh in a mean over all so far, these included."""
    return max(n_items / n_items_so_far, 1 / WINDOW)
