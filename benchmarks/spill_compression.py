"""Whether it pays to compress what goes to disk.

Values of several kinds are pickled, written to a folder and read again, as they are and
compressed with zlib at its fastest, turn about. With ``--sync`` a write only counts as
done when the disk has it, as it is once the system's page cache is full.

    python benchmarks/spill_compression.py [--folder FOLDER] [--sync]
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

N_ROUNDS = 3

#: The fastest level: others take several times as long for a few percent.
LEVEL = 1

#: Bytes of the pieces in which is compressed, so that little more is held meanwhile.
PIECE_BYTES = 1 << 20


def make_texts() -> list[str]:
    """Return texts of a few thousand words."""
    words = [f"{random.getrandbits(30):x}" for _ in range(3000)]
    return [" ".join(random.choices(words, k=12)) for _ in range(200_000)]


def make_records() -> list[dict[str, Any]]:
    """Return what was read from JSON, say."""
    return [
        {
            "id": i,
            "name": f"user{i % 977}",
            "score": random.random(),
            "tags": ["a", "b"],
        }
        for i in range(200_000)
    ]


KINDS: dict[str, Callable[[], Any]] = {
    "random floats": lambda: np.random.default_rng(0).random(2_500_000),
    "rounded floats": lambda: np.random.default_rng(0).random(2_500_000).round(2),
    "counts": lambda: np.random.default_rng(0).poisson(5, 2_500_000),
    "zeros": lambda: np.zeros(2_500_000),
    "texts": make_texts,
    "records": make_records,
}


def dump(value: Any) -> list[memoryview]:
    """Return the parts of a pickle, large buffers apart."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [memoryview(head), *(buffer.raw() for buffer in buffers)]


def write(path: Path, parts: list[memoryview], *, packs: bool, syncs: bool) -> None:
    """Write a payload, compressed or as it is."""
    with path.open("wb", buffering=0) as file:
        for part in parts:
            packer = zlib.compressobj(LEVEL)
            for start in range(0, len(part), PIECE_BYTES):
                piece: Any = part[start : start + PIECE_BYTES]
                _write_all(file, packer.compress(piece) if packs else piece)
            if packs:
                _write_all(file, packer.flush())
        if syncs:
            os.fsync(file.fileno())


def _write_all(file: Any, data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read(path: Path, *, packs: bool) -> int:
    """Read a payload and return its bytes."""
    data = path.read_bytes()
    n_bytes = 0
    while packs and data:
        unpacker = zlib.decompressobj()
        n_bytes += len(unpacker.decompress(data))
        data = unpacker.unused_data
    return n_bytes or len(data)


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--sync", action="store_true")
    arguments = parser.parse_args()
    random.seed(0)
    print(f"{'':>15} {'MB':>6} {'left':>6} {'as it is':>14} {'compressed':>14}")
    for name, make in KINDS.items():
        parts = dump(make())
        n_bytes = sum(map(len, parts))
        seconds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = Path(folder) / "value"
            for _ in range(N_ROUNDS):
                for packs in seconds:
                    start = perf_counter()
                    write(path, parts, packs=packs, syncs=arguments.sync)
                    middle = perf_counter()
                    assert read(path, packs=packs) == n_bytes
                    seconds[packs].append((middle - start, perf_counter() - middle))
                    size = path.stat().st_size
                    path.unlink()
        texts = [
            " + ".join(f"{median(column):.3f}" for column in zip(*s, strict=True))
            for s in seconds.values()
        ]
        print(
            f"{name:>15} {n_bytes / 1e6:>6.1f} {size / n_bytes:>6.0%} "
            f"{texts[0]:>14} {texts[1]:>14}",
            flush=True,
        )


if __name__ == "__main__":
    main()
