"""What the guide leaves undefined, as far as it takes NumPy or Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

# -- signals ---------------------------------------------------------------------------

N_SAMPLES = 4096


def load_signals() -> list[Any]:
    """Return 1000 signals, cut from one long noise with a tone in it."""
    rng = np.random.default_rng(1)
    t = np.arange(N_SAMPLES + 1000)
    noise = np.sin(t / 50) + rng.standard_normal(len(t))
    return [noise[i : i + N_SAMPLES] for i in range(1000)]


def apply_bandpass_filter(spectrum: Any) -> Any:
    """Keep a band of the spectrum, with soft edges."""
    band = np.zeros(len(spectrum))
    band[20:60] = 1.0
    edge = np.hanning(129)
    smooth = np.convolve(band, edge / edge.sum(), mode="same")
    return np.convolve(spectrum * smooth, edge, mode="same")[:128]


# -- images ----------------------------------------------------------------------------


def make_photos(folder: Path, n: int, size: tuple[int, int]) -> list[str]:
    """Write JPEG files, and return their names."""
    from PIL import Image

    rng = np.random.default_rng(2)
    small = rng.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size).save(buffer, "JPEG")
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / f"{i:03d}.jpg").write_bytes(buffer.getvalue())
    return [str(path) for path in sorted(folder.glob("*.jpg"))]


def optimize_quality(image: Any) -> bytes:
    """Return an image as the bytes of a small JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60, optimize=True)
    return buffer.getvalue()


def add_watermark(image: Any) -> Any:
    """Return an image with a bright corner."""
    from PIL import Image

    pixels = np.asarray(image).copy()
    pixels[:20, :20] = 255
    return Image.fromarray(pixels)


# -- markets ---------------------------------------------------------------------------


def simulate_market(days: int, volatility: float = 0.1) -> list[float]:
    """Return prices of a few moments, by a random walk that NumPy's seed decides."""
    price, prices = 100.0, []
    scale = volatility * (days / 252 / 4) ** 0.5
    for step in np.random.standard_normal(4).tolist():
        price *= 1 + scale * step
        prices.append(price)
    return prices


def simulate_long_market(days: int) -> list[float]:
    """Return prices of each day, for a market with many traders."""
    shocks = np.random.standard_normal(days).tolist()
    price, prices = 100.0, []
    for shock in shocks:
        for trader in range(4):
            price *= 1 + 0.001 * shock * (trader + 1) / 4
        prices.append(price)
    return prices


# -- large data ------------------------------------------------------------------------

#: How many times smaller than in the guide tables are.
SCALE = 1000


class SmallRandom:
    """NumPy's random numbers, for tables that are a thousand times shorter.

    They are ten rows, repeated: what takes long about a table of 800 MB is sending it.
    """

    def rand(self, n_rows: int, n_columns: int) -> Any:
        """Return a table of random numbers."""
        return np.tile(np.random.rand(10, n_columns), (n_rows // SCALE // 10, 1))


class SmallNumpy:
    """NumPy, with `SmallRandom`."""

    random = SmallRandom()

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def load_image(path: str) -> Any:
    """Return the pixels that a file's name says how many there are of, in MB."""
    return np.ones(int(float(Path(path).stem.split("_")[1]) * 1_000_000 / 8))


def keep_half(pixels: Any) -> Any:
    """Return every second pixel."""
    return pixels[::2].copy()
