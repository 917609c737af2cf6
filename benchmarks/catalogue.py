"""All workloads, in the order of the table."""

from __future__ import annotations

from workload import Workload
from workloads import (
    cheap_items,
    computing,
    gil_free,
    graphs,
    images,
    json_lines,
    large_values,
    pages,
    shuffles,
    sources,
    trivial_tasks,
    waiting,
)

FAMILIES = (
    cheap_items,
    computing,
    waiting,
    gil_free,
    large_values,
    graphs,
    sources,
    json_lines,
    shuffles,
    images,
    pages,
    trivial_tasks,
)

WORKLOADS: dict[str, Workload] = {
    workload.name: workload for family in FAMILIES for workload in family.WORKLOADS
}
