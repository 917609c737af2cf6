"""Tasks that hang, in a module that workers import quickly: that counts as theirs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def count(folder: Path, name: Any) -> int:
    """Note a call on disk, and return how many there were."""
    path = folder / str(name)
    with path.open("a") as file:
        file.write("!")
    return path.stat().st_size


def hang_at(x: int, where: int, folder: Path, n_times: int) -> int:
    if x == where and count(folder, x) <= n_times:
        time.sleep(60)
    return x
