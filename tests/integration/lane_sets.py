"""Lanes that a scheduler may be given: each alone, and all."""

from __future__ import annotations

LANE_SETS = [
    ("inline",),
    ("threads",),
    ("processes",),
    ("inline", "threads", "processes"),
]
