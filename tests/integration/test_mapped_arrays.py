"""Arrays that map a file, used by tasks in worker processes."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
from mapping_calls import add_up

from amorsize_dask import AmorsizeScheduler


def test_workers_map_the_file_themselves(tmp_path: Path) -> None:
    """A hundred billion bytes are there for functions and for items alike."""
    path = tmp_path / "data.bin"
    with path.open("wb") as file:
        np.arange(100.0).tofile(file)
        file.truncate(100_000_000_000)
    array = np.memmap(path, "f8", mode="r")
    with AmorsizeScheduler(lanes=("processes",), isolate=True) as scheduler:
        # Not a bag: Dask keeps its functions, and reads its items to name it by them.
        graph = {
            "whole": (add_up, "array"),
            "array": array,
            "rest": (add_up, array[50:]),
            "inside": (lambda i, array=array: add_up(array[i:]), 50),
        }
        sums = scheduler(graph, ["whole", "rest", "inside"])
    assert [value for value, _ in sums] == [4950.0, 3725.0, 3725.0]
    del graph, array
    gc.collect()
    assert os.getpid() not in {pid for _, pid in sums}
