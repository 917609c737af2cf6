"""Pages of a server that takes its time, downloaded and parsed."""

from __future__ import annotations

import json
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from by_hand import pool, threads, threads_into_pool
from limits import NOT_SLOWER_THAN_STOCK
from workload import Job, Setting, Workload

#: Seconds after which the server answers.
DELAY_S = 0.02

SERVER = Path(__file__).parents[1] / "page_server.py"


class Page(NamedTuple):
    """Where a page is."""

    port: int
    number: int


def download(page: Page) -> bytes:
    """Return what the server answers."""
    # Unlike urllib's, this goes through no proxy that the environment may name.
    connection = HTTPConnection("127.0.0.1", page.port)
    try:
        connection.request("GET", f"/{page.number}")
        return connection.getresponse().read()
    finally:
        connection.close()


def parse(content: bytes) -> int:
    """Return the sum of all values of all records."""
    return sum(sum(record["values"]) for record in json.loads(content))


def download_and_parse(page: Page) -> int:
    """Do both."""
    return parse(download(page))


def make_pages(setting: Setting, variant: int) -> list[Page]:
    """Start a server, and return 150 pages of it."""
    server = setting.stack.enter_context(
        subprocess.Popen(
            [sys.executable, str(SERVER), str(DELAY_S)], stdout=subprocess.PIPE
        )
    )
    setting.stack.callback(server.kill)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    return [Page(port, variant + i) for i in range(setting.size(150, 6))]


def parsed_pages(data: list[Page]) -> Any:
    """Return delayed sums, each of a task that downloads and one that parses."""
    from dask import delayed

    return [delayed(parse)(delayed(download)(page)) for page in data]


WORKLOADS = (
    Workload(
        name="pages",
        title="150 pages of a local server that waits 20 ms, parsed, delayed",
        make=make_pages,
        collection=parsed_pages,
        job=lambda data: Job(download_and_parse, data),
        by_hand={
            "50 threads": threads(50),
            "150 threads": threads(150),
            "50 threads into a pool": threads_into_pool(50, download, parse),
            "pool of 16 a core": pool(1, n_times_cores=16),
        },
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
