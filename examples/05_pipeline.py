"""A bag goes through a pipeline that downloads, parses and writes.

All stages run at the same time, each in its own lane, and the report tells of each.
"""

import json
import tempfile
import time
from pathlib import Path

import dask.bag as db

from amorsize_dask import AmorsizeScheduler, Pipeline, Stage


def fetch(number):
    time.sleep(0.02)  # a server that takes its time
    return json.dumps({"number": number, "words": ["spam", "eggs"] * 50})


def parse(text):
    record = json.loads(text)
    end = time.perf_counter() + 0.002  # something that computes
    while time.perf_counter() < end:
        pass
    return record["number"], len(record["words"])


def write(record, folder):
    number, n_words = record
    path = folder / f"{number}.txt"
    path.write_text(str(n_words))
    return path


folder = Path(tempfile.mkdtemp())


def find_folder():
    return folder


numbers = db.from_sequence(range(300), npartitions=10)
with AmorsizeScheduler() as scheduler:
    pipeline = Pipeline(
        [fetch, parse, Stage(write, set_up=find_folder)], scheduler=scheduler
    )
    paths = list(pipeline.run(numbers))

assert [path.stem for path in paths] == [str(number) for number in range(300)]
assert all(path.read_text() == "100" for path in paths)
report = pipeline.report()
print(report)
assert report.stages[0].lane == "threads"
