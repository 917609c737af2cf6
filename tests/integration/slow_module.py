"""A module that workers take long to import, or that ends them, if they are told."""

from __future__ import annotations

import os
import time
import warnings

if "SLOW_MODULE_EXIT" in os.environ:
    os._exit(7)
IMPORT_S = float(os.environ.get("SLOW_MODULE_S", "0"))
time.sleep(IMPORT_S)
if "SLOW_MODULE_WARNS" in os.environ:
    warnings.warn("slow to import", FutureWarning, stacklevel=1)


def spin(x: int) -> int:
    """Compute for about two milliseconds, and return the argument."""
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    return x
