"""Which records of `logging` the caller wants, so that workers send no others."""

from __future__ import annotations

import logging
from collections.abc import Mapping

#: The level that no record has.
NEVER = 1_000_000


def find_levels() -> dict[str, int]:
    """Return from which level on this process does anything with records, by logger.

    The root logger's name is empty. Those that are as what they are below aren't told.
    """
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: _find_level(logger)
        for name, logger in sorted(loggers.items())
        if isinstance(logger, logging.Logger)
        and (
            logger is logging.root
            or logger.level
            or logger.handlers
            or logger.disabled
            or not logger.propagate
        )
    }


def _find_level(logger: logging.Logger) -> int:
    if logger.disabled:
        return NEVER
    found: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        found += above.handlers
        above = above.parent if above.propagate else None
    if not found and logging.lastResort is not None:
        found = [logging.lastResort]
    levels = [h.level for h in found if not isinstance(h, logging.NullHandler)]
    level = max(logger.getEffectiveLevel(), min(levels, default=NEVER))
    # 0 would mean that of the logger above.
    return max(level, logging.root.manager.disable + 1, 1)


def follow_levels(levels: Mapping[str, int]) -> None:
    """Let loggers of this process make what another one wants, and no more."""
    global _followed
    for name in _followed - levels.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    _followed = set(levels)


#: The loggers whose levels are another process's.
_followed: set[str] = set()
