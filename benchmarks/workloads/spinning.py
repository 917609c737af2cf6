"""Computing for a known time, in Python, holding the GIL."""

from __future__ import annotations

from time import perf_counter


def spin(n_steps: int) -> int:
    """Compute for a time that is proportional to `n_steps`."""
    total = 0
    for i in range(n_steps):
        total += i % 7  # small numbers, so that all steps take as long
    return total


def steps_of_1_ms() -> int:
    """Return how many steps of `spin` take a millisecond on this machine."""
    n_steps = 200_000
    times = []
    for _ in range(5):
        start_s = perf_counter()
        spin(n_steps)
        times.append(perf_counter() - start_s)
    return max(1, round(n_steps * 1e-3 / min(times)))
