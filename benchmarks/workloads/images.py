"""Images that a package ships, cut into tiles, blurred and counted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from by_hand import loop, pool, threads
from dask.system import CPU_COUNT
from limits import NOT_SLOWER_THAN_STOCK
from workload import Job, Setting, Workload

#: Pixels of a tile's side.
TILE = 500

#: Pixels to each side that a blur takes the mean of.
RADIUS = 2


def blur(tile: np.ndarray) -> np.ndarray:
    """Return each pixel's mean with its neighbours."""
    width = 2 * RADIUS + 1
    rows = np.lib.stride_tricks.sliding_window_view(tile, width, axis=0).mean(-1)
    both = np.lib.stride_tricks.sliding_window_view(rows, width, axis=1).mean(-1)
    return both.astype(np.uint8)


def count_levels(tile: np.ndarray) -> np.ndarray:
    """Return how many values of a tile have each of 256 levels."""
    return np.bincount(tile.ravel(), minlength=256)


def blur_and_count(tile: np.ndarray) -> np.ndarray:
    """Do both."""
    return count_levels(blur(tile))


def add_up(counts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the counts of all tiles."""
    return sum(counts)


def make_tiles(setting: Setting, variant: int) -> list[np.ndarray]:
    """Return 50 tiles of the images that distributed ships, the plainest left out."""
    tiles = [
        image[row : row + TILE, column : column + TILE]
        for image in load_images()
        for row in range(variant, image.shape[0] - TILE, TILE)
        for column in range(variant, image.shape[1] - TILE, TILE)
    ]
    tiles.sort(key=np.std, reverse=True)
    return [np.ascontiguousarray(tile) for tile in tiles[: setting.size(50, 3)]]


@cache
def load_images() -> list[np.ndarray]:
    """Return images, or made ones where Pillow isn't there to read them."""
    try:
        from PIL import Image
    except ImportError:
        return [np.random.default_rng(0).integers(0, 256, (5_000, 5_000, 3), np.uint8)]
    folder = Path(str(files("distributed") / "http" / "static" / "images"))
    paths = sorted(folder.glob("*.png"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def histogram(data: list[np.ndarray]) -> Any:
    """Return the delayed sum of all tiles' counts, a task for each step."""
    from dask import delayed

    counts = [delayed(count_levels)(delayed(blur)(tile)) for tile in data]
    return delayed(add_up)(counts)


WORKLOADS = (
    Workload(
        name="images",
        title="50 tiles of distributed's images blurred and counted, delayed",
        make=make_tiles,
        collection=histogram,
        job=lambda data: Job(blur_and_count, data, add_up),
        by_hand={
            "loop": loop,
            "a thread for each core": threads(CPU_COUNT),
            "pool, one by one": pool(1),
        },
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
