"""A task that imports `logging` when it runs, in a module that doesn't."""

from __future__ import annotations

import sys


def say_late(i: int) -> bool:
    """Log; return whether that could be done without importing anything."""
    was_there = "logging" in sys.modules
    import logging

    logging.getLogger("tasks.of.tests").info("late %d", i)
    return was_there
