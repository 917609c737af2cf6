"""A pipeline that downloads, parses and writes, each stage in its own lane."""

import json
import tempfile
import time
from pathlib import Path

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


with AmorsizeScheduler() as scheduler:
    pipeline = Pipeline(
        [fetch, parse, Stage(write, set_up=find_folder)], scheduler=scheduler
    )
    paths = list(pipeline.run(range(300)))

assert [path.stem for path in paths] == [str(number) for number in range(300)]
assert all(path.read_text() == "100" for path in paths)
report = pipeline.report()
print(report)
assert report.stages[0].lane == "threads"
