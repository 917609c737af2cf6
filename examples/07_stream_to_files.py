"""More results than memory has room for, written to files as they finish.

`stream` makes no more of them than fit, however slow the loop that takes them is.
"""

import os
import tempfile
from pathlib import Path

import dask.bag as db

from amorsize_dask import AmorsizeScheduler

N_IMAGES = 60
IMAGE_BYTES = 2_000_000
LIMIT_BYTES = 40_000_000


def render(number):
    return number, os.urandom(16) * (IMAGE_BYTES // 16)


images = db.from_sequence(range(N_IMAGES), npartitions=N_IMAGES).map(render)
with (
    tempfile.TemporaryDirectory() as folder,
    AmorsizeScheduler(memory_limit=LIMIT_BYTES) as scheduler,
):
    for number, image in scheduler.stream(images, ordered=False):
        path = Path(folder, f"{number}.raw")
        path.write_bytes(image)
    record = scheduler.last_run
    written = sorted(int(path.stem) for path in Path(folder).iterdir())
    n_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())

print(record)
assert written == list(range(N_IMAGES))
assert n_bytes == N_IMAGES * IMAGE_BYTES > 2 * LIMIT_BYTES
print(f"{n_bytes / 1e6:.0f} MB were written with room for {LIMIT_BYTES / 1e6:.0f} MB.")
