"""Functions over arrays that map a file."""

from __future__ import annotations

import os
from typing import Any


def add_up(array: Any) -> tuple[float, int]:
    return float(array[:100].sum()), os.getpid()
