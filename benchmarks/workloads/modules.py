"""The files of the standard library, looked for once in a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from amorsize_dask import demo


@cache
def find_modules() -> tuple[Path, ...]:
    """Return all modules of the standard library, its tests among them, sorted."""
    return tuple(demo.find_modules())
