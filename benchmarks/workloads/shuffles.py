"""What moves items between partitions: grouping, and a join."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

from by_hand import loop
from limits import NOT_SLOWER_THAN_STOCK
from workload import Job, Setting, Workload

#: Partitions of each bag. Smaller: fewer than there may be cores; larger: what is
#: measured is how long the disk takes, as partd syncs a file for each pair of them.
N_PARTITIONS = 8
N_GROUPS = 200
N_CUSTOMERS = 1_000


class Trade(NamedTuple):
    """What is joined."""

    #: Number of the customer, cents.
    orders: list[tuple[int, int]]
    #: Number of the customer, percent.
    customers: list[tuple[int, int]]


def group_of(number: int) -> int:
    """Return the group of a number."""
    return number * 7919 % N_GROUPS


def summarise(group: tuple[int, list[int]]) -> tuple[int, int, int]:
    """Return a group's name, size and sum."""
    name, members = group
    return name, len(members), sum(members)


def group_by_hand(data: range) -> list[tuple[int, int, int]]:
    """Group in a dict."""
    groups = defaultdict(list)
    for number in data:
        groups[group_of(number)].append(number)
    return list(map(summarise, groups.items()))


def make_numbers(setting: Setting, variant: int) -> range:
    """Return 200,000 numbers."""
    return range(variant, variant + setting.size(200_000, 400))


def grouped(shuffle: str) -> Any:
    """Return what makes a bag of groups, moved on the disk or by tasks."""

    def collection(data: range) -> Any:
        from dask.bag import from_sequence

        numbers = from_sequence(data, npartitions=N_PARTITIONS)
        return numbers.groupby(group_of, shuffle=shuffle).map(summarise)

    return collection


def customer_of(row: tuple[int, int]) -> int:
    """Return the number of the customer, which rows of both kinds begin with."""
    return row[0]


def share(pair: tuple[tuple[int, int], tuple[int, int]]) -> int:
    """Return the customer's percent of the order's cents."""
    one, other = pair
    return one[1] * other[1]


def make_trade(setting: Setting, variant: int) -> Trade:
    """Return 200,000 orders and 1,000 customers."""
    random = Random(variant)
    n_orders = setting.size(200_000, 200)
    return Trade(
        [(random.randrange(N_CUSTOMERS), i) for i in range(n_orders)],
        [(i, random.randrange(100)) for i in range(N_CUSTOMERS)],
    )


def joined(data: Trade) -> Any:
    """Return the sum of all shares."""
    from dask.bag import from_sequence

    orders = from_sequence(data.orders, npartitions=N_PARTITIONS)
    return orders.join(data.customers, customer_of).map(share).sum()


def join_by_hand(data: Trade) -> int:
    """Join through a dict."""
    percent = dict(data.customers)
    return sum(percent[customer] * cents for customer, cents in data.orders)


def whole(function: Any) -> Any:
    """Return what makes a job of one item: the whole input."""

    def job(data: Any) -> Job:
        return Job(function, [data], _only)

    return job


def _only(results: Iterable[Any]) -> Any:
    (result,) = results
    return result


def grouping(shuffle: str, title: str) -> Workload:
    """Return the workload of one way to group."""
    return Workload(
        name=f"groupby_{shuffle}",
        title=title,
        make=make_numbers,
        collection=grouped(shuffle),
        job=whole(group_by_hand),
        by_hand={"loop": loop},
        limits=(NOT_SLOWER_THAN_STOCK,),
        left_out={"joblib": "it can't move items between tasks"},
        normalise=sorted,
    )


WORKLOADS = (
    grouping("disk", "200,000 items grouped by way of the disk"),
    grouping("tasks", "200,000 items grouped by tasks"),
    Workload(
        name="join",
        title="200,000 orders joined with 1,000 customers and summed",
        make=make_trade,
        collection=joined,
        job=whole(join_by_hand),
        by_hand={"loop": loop},
        limits=(NOT_SLOWER_THAN_STOCK,),
        left_out={"joblib": "the loop takes less time than sending the orders"},
    ),
)
