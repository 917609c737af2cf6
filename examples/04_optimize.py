"""Choosing before running: what a function is, and how the rest of it is best run.

The three functions below want three different things. `optimize` tries each on a few
items and says what that is; `compute` does it, without calling those again.
"""

import time

from amorsize_dask import optimize


def double(x):
    return 2 * x


def fetch(x):
    time.sleep(0.005)
    return x


n_drawn = 0


def draw(x):
    global n_drawn
    n_drawn += 1
    return n_drawn


plan = optimize(double, range(10_000))
print(plan.explain())
assert plan.n_jobs == 1
assert plan.lane == "inline"
assert plan.compute() == [2 * x for x in range(10_000)]

plan = optimize(fetch, range(500))
print(plan.explain())
assert plan.n_jobs == 1
assert plan.lane == "threads"
start = time.perf_counter()
assert plan.compute() == list(range(500))
print(f"  a loop sleeps 2.5 s, this took {time.perf_counter() - start:.2f} s")

plan = optimize(draw, range(100))
print(plan.explain())
assert plan.n_jobs == 1
assert "n_drawn" in plan.reason
assert plan.compute() == list(range(1, 101))
