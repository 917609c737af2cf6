"""Simulations whose random numbers are seeded, for all threads of a process."""

from __future__ import annotations

import random
import time


def simulate(seed: int) -> float:
    random.seed(seed)
    # Others could seed meanwhile: the GIL is given away here.
    time.sleep(0.001)
    return random.random()
