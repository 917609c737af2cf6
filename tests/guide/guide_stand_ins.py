"""What the guide leaves undefined: small, but real work on real data.

Worker processes import this, so it imports little.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

# -- work ------------------------------------------------------------------------------


def burn(seconds: float, x: float = 1.0) -> float:
    """Compute for a time, holding the GIL."""
    end = perf_counter() + seconds
    while perf_counter() < end:
        x = (x * 1.000001 + 1.0) % 1000.0
    return x


def work_long(x: int) -> int:
    """Compute for a millisecond."""
    burn(0.001)
    return x * x


def work_shortly(x: int) -> int:
    """Do next to nothing."""
    return x * x


def work_briefly(x: int) -> int:
    """Compute for a tenth of a millisecond."""
    burn(0.0001)
    return x * x


def wait(x: int) -> int:
    """Wait for ten milliseconds."""
    sleep(0.01)
    return x


# -- customers -------------------------------------------------------------------------


def get_purchases(customer_id: int) -> list[float]:
    """Return what a customer has spent, from a generator of their own."""
    state, found = customer_id * 2654435761 % 2**32, []
    for _ in range(200):
        state = (1103515245 * state + 12345) % 2**31
        found.append(state % 10_000 / 100)
    return found


def calculate_lifetime_value(purchases: list[float]) -> float:
    """Return what they have spent, later purchases counting more."""
    return sum(value * 1.01**age for age, value in enumerate(purchases))


def predict_churn(purchases: list[float]) -> float:
    """Return the share of purchases below the last one."""
    return sum(value < purchases[-1] for value in purchases) / len(purchases)


def classify_segment(purchases: list[float]) -> str:
    """Say what kind of customer it is."""
    return "large" if max(purchases) > 99 else "small"


# -- markets ---------------------------------------------------------------------------


def calculate_returns(prices: list[float]) -> float:
    """Return the last price over the first."""
    return prices[-1] / prices[0]


def calculate_portfolio_value(prices: list[float]) -> list[float]:
    """Return what ten shares are worth."""
    return [10 * price for price in prices]


def calculate_drawdown(values: list[float]) -> float:
    """Return the deepest fall from a peak before it, as a share."""
    peak, worst = values[0], 0.0
    for value in values:
        peak = max(peak, value)
        worst = max(worst, 1 - value / peak)
    return worst


def calculate_sharpe(values: list[float]) -> float:
    """Return the mean of the changes over their spread."""
    changes = [b - a for a, b in itertools.pairwise(values)]
    mean = sum(changes) / len(changes)
    spread = sum((change - mean) ** 2 for change in changes) ** 0.5
    return mean / spread if spread else 0.0


# -- documents -------------------------------------------------------------------------

TEXT = (
    "the parser reads a graph and Alice sends it to Berlin where Bob waits for good "
    "results but bad weather keeps the train in Paris"
)


def make_text(number: int, n_words: int = 400) -> str:
    """Return a text that a number decides."""
    words = TEXT.split()
    return " ".join(words[(number + i * i) % len(words)] for i in range(n_words)) + "."


def tokenize(text: str) -> list[str]:
    """Return the words of a text."""
    return re.findall(r"\w+", text.lower())


def analyze_sentiment(text: str) -> float:
    """Return good words less bad ones, per word."""
    words = tokenize(text)
    return (words.count("good") - words.count("bad")) / len(words)


def find_names(text: str) -> list[str]:
    """Return what begins with a capital letter, each once."""
    return sorted(set(re.findall(r"\b[A-Z]\w+", text)))


def calculate_complexity(text: str) -> float:
    """Return the share of different words, over all windows of fifty."""
    words = tokenize(text)
    windows = [words[i : i + 50] for i in range(0, len(words), 10)]
    return sum(len(set(window)) / len(window) for window in windows) / len(windows)


def extract_entities(document: Any) -> list[str]:
    """Return the names in what a model of spaCy's has read."""
    return sorted({entity.text for entity in document.ents})


def open_text(path: str) -> io.StringIO:
    """Open a text so that nobody needs to close it: the guide doesn't."""
    return io.StringIO(Path(path).read_text(encoding="utf-8"))


def parse_product(text: str) -> int:
    """Return the number in a product's page."""
    found = re.search(r"\d+", text)
    assert found is not None
    return int(found[0])


# -- items -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """What the guide calls an item."""

    id: int
    score: float = 0.0
    category: str = ""
    size: int = 0


def get_id(item: Item) -> int:
    """Return what an item is known by."""
    return item.id


def is_even(x: int) -> bool:
    """Whether it can be halved."""
    return x % 2 == 0


def expensive_computation(item: Item) -> list[float]:
    """Compute something of an item."""
    return [burn(0.001, item.id)]


def process_sized(item: Item) -> int:
    """Compute for as long as an item is large: a microsecond for each unit."""
    burn(item.size * 1e-6)
    return item.id


def process_category(item: Item) -> tuple[str, int]:
    """Compute for a while, and say what was done."""
    burn(0.0002)
    return item.category, item.id


def square_or_raise(item: int) -> int:
    """Compute, but not with multiples of ten."""
    burn(0.0002)
    if item % 10 == 0:
        raise ValueError(f"{item} is a multiple of ten")
    return item * item


# -- models ----------------------------------------------------------------------------


def add_up(values: Any) -> float:
    """Return the sum."""
    return float(values.sum())


def take_first(values: Any) -> float:
    """Return the first one."""
    return float(values[0])


def save_to_disk(value: Any, name: str) -> None:
    """Keep a value in a file."""
    Path(name).write_bytes(pickle.dumps(value))


class Model:
    """What takes long to load and little to ask."""

    def __init__(self) -> None:
        burn(0.001)

    def predict(self, item: int) -> int:
        """Return twice the item."""
        return 2 * item


def make_loader(folder: Path) -> Callable[[], Model]:
    """Return a function that loads a model and leaves a file for each time it did."""
    return Loader(folder)


class Loader:
    """Loads a model, and leaves a file for each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self) -> Model:
        (self._folder / f"{os.getpid()}-{os.urandom(8).hex()}.loaded").touch()
        return Model()

    def count(self) -> int:
        """Return how often that was."""
        return len(list(self._folder.glob("*.loaded")))
