"""What pickling takes, going by what the items themselves take."""

from __future__ import annotations

from amorsize_dask.core.fading import weigh


class Packing:
    """Fading means of the seconds of pickling, and of the items that were pickled.

    It is known of few where a stage runs in the caller, and these may be short ones:
    those that a task merges at the end of a tree are larger than the first. So it is
    taken to grow with what an item takes.

    Parameters
    ----------
    pack_s, item_s : float, optional
        Seconds of pickling an item and of the item itself, as far as they are known.
    n_items : int, optional
        Items that this rests on.
    """

    __slots__ = ("_item_s", "_n_items", "_pack_s")

    def __init__(
        self, pack_s: float = 0.0, item_s: float = 0.0, n_items: int = 0
    ) -> None:
        self._pack_s = pack_s
        self._item_s = item_s
        self._n_items = n_items

    def add(self, pack_s: float, seconds: float, n_items: int) -> None:
        """Count what pickling took for items that took so many seconds themselves."""
        self._n_items += n_items
        weight = weigh(n_items, self._n_items)
        self._pack_s += weight * (pack_s / n_items - self._pack_s)
        self._item_s += weight * (seconds / n_items - self._item_s)

    def expect_s(self, item_s: float) -> float:
        """Return what pickling takes for an item that takes so long; 0: not known."""
        return item_s * self._pack_s / self._item_s if self._item_s else 0.0
