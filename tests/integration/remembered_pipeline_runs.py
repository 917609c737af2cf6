"""A program that runs a pipeline, run more than once.

`python remembered_pipeline_runs.py <number of items>` prints whether the results are
right, and for each stage what was decided of it first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from operator import sub
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline_functions import nap, spin

from amorsize_dask import AmorsizeScheduler, Pipeline, Stage


class Writer:
    """Writes items into a folder, which is another one in each run."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __call__(self, x: int) -> int:
        (self._folder / str(x)).touch()
        return x


def make_stages(folder: str) -> list[Stage | Callable[[Any], Any]]:
    return [
        nap,
        Stage(spin, name=folder),
        Writer(folder),
        Stage(lambda x: x % 2, filter=True),
        partial(sub, 1),
    ]


def main(n_items: int) -> None:
    with TemporaryDirectory() as folder, AmorsizeScheduler() as scheduler:
        pipeline = Pipeline(make_stages(folder), scheduler=scheduler)
        results = list(pipeline.run(iter(range(n_items))))
        print(results == [1 - x for x in range(1, n_items, 2)])
        record = scheduler.last_run
        assert record is not None
        firsts = {d.stage: d for d in reversed(record.decisions)}
        for name in (stage.name for stage in pipeline.report().stages):
            print(firsts[name].lane, firsts[name].reason)


if __name__ == "__main__":
    main(int(sys.argv[1]))
