"""Many small choices from one draw, which is what makes long random runs fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices:
    """A stream of choices. When it is used up, the first is always taken."""

    def __init__(self, content: bytes) -> None:
        self._content = iter(content)

    def below(self, n: int) -> int:
        """Choose a number from 0 to ``n - 1``."""
        return next(self._content, 0) % n

    def of(self, options: Sequence[T]) -> T:
        """Choose one of several."""
        return options[self.below(len(options))]

    def some_below(self, n: int, most: int) -> list[int]:
        """Choose up to `most` different numbers from 0 to ``n - 1``, in order."""
        wanted = min(n, self.below(most + 1))
        return sorted({self.below(n) for _ in range(wanted)})


def choices(size: int) -> st.SearchStrategy[Choices]:
    """Draw a stream of `size` choices, each among up to 256 options."""
    return st.binary(min_size=size, max_size=size).map(Choices)
