"""A module that worker processes take long to import, if the environment says so."""

from __future__ import annotations

import os
import time
import warnings

IMPORT_S = float(os.environ.get("SLOW_MODULE_S", "0"))
if IMPORT_S:
    time.sleep(IMPORT_S)
    warnings.warn("slow to import", FutureWarning, stacklevel=1)


def spin(x: int) -> int:
    """Compute for about two milliseconds, and return the argument."""
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    return x
