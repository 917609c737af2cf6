"""Files of JSON lines: read, filtered and folded."""

from __future__ import annotations

import json
from operator import add
from random import Random
from typing import Any

from by_hand import loop, pool
from limits import NOT_SLOWER_THAN_STOCK
from workload import Job, Setting, Workload

N_FILES = 24
N_CUSTOMERS = 1_000


def is_paid(order: dict[str, Any]) -> bool:
    """Return whether an order counts."""
    return order["state"] == "paid"


def add_cents(total: int, order: dict[str, Any]) -> int:
    """Return the total with an order's cents."""
    return total + order["cents"]


def paid_cents(path: str) -> int:
    """Return the cents of a file's orders that count."""
    total = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            if is_paid(order):
                total = add_cents(total, order)
    return total


def make_files(setting: Setting, variant: int) -> list[str]:
    """Write files of JSON lines, unless another run has."""
    n_lines = setting.size(5_000, 20)
    folder = setting.folder / f"orders-{variant}-{n_lines}"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.json" for i in range(setting.size(N_FILES, 3))]
    for i, path in enumerate(paths):
        if not path.exists():
            random = Random(variant * N_FILES + i)
            lines = [json.dumps(_make_order(random)) for _ in range(n_lines)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(path) for path in paths]


def _make_order(random: Random) -> dict[str, Any]:
    return {
        "customer": random.randrange(N_CUSTOMERS),
        "cents": random.randrange(100, 100_000),
        "state": random.choice(["new", "paid", "sent", "returned"]),
        "items": [random.randrange(10_000) for _ in range(5)],
    }


def paid(data: list[str]) -> Any:
    """Return the sum of what is paid."""
    from dask.bag import read_text

    orders = read_text(data, encoding="utf-8").map(json.loads).filter(is_paid)
    return orders.fold(add_cents, add, initial=0)


WORKLOADS = (
    Workload(
        name="json_lines",
        title=f"{N_FILES} files of 5,000 JSON lines: read_text, loads, filter, fold",
        make=make_files,
        collection=paid,
        job=lambda data: Job(paid_cents, data, sum),
        by_hand={"loop": loop, "pool, one by one": pool(1)},
        limits=(NOT_SLOWER_THAN_STOCK,),
    ),
)
