"""A bag, computed by amorsize_dask.

There is no `if __name__ == "__main__"` here, and none is needed: worker processes don't
import this script, so its body runs once, whichever lane is taken.
"""

import dask.bag as db

from amorsize_dask import amorsize_scheduler

print("the body runs")


def count_primes(bounds):
    start, stop = bounds
    return sum(
        all(n % divisor for divisor in range(2, int(n**0.5) + 1))
        for n in range(max(start, 2), stop)
    )


ranges = [(start, start + 2_000) for start in range(0, 100_000, 2_000)]
bag = db.from_sequence(ranges).map(count_primes)
counts = bag.compute(scheduler=amorsize_scheduler)

print(sum(counts), "primes below 100,000")
print(amorsize_scheduler.last_run)

assert counts == [count_primes(bounds) for bounds in ranges]
assert sum(counts) == 9592
