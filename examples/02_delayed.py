"""Delayed functions with a value that several tasks share, by the scheduler's name."""

import dask
from dask import delayed

import amorsize_dask


@delayed
def load(year):
    return [(year * day) % 97 for day in range(1, 366)]


@delayed
def mean(days):
    return sum(days) / len(days)


@delayed
def hottest(days):
    return max(range(len(days)), key=days.__getitem__)


@delayed
def summarise(means):
    return max(means) - min(means)


def main():
    years = [load(year) for year in range(1990, 2020)]
    spread = summarise([mean(days) for days in years])
    days = [hottest(days) for days in years]

    # Importing amorsize_dask has made its name known to Dask.
    with dask.config.set(scheduler="amorsize"):
        found = dask.compute(spread, days)

    assert found == dask.compute(spread, days, scheduler="sync")
    lanes = amorsize_dask.amorsize_scheduler.last_run.lanes
    # These tasks take microseconds: they aren't worth a worker process.
    assert set(lanes) <= {"inline", "threads"}, lanes
    print(f"The yearly means differ by up to {found[0]:.2f}.")
    print(f"Nothing of it was worth a process: it ran in {', '.join(lanes)}.")


if __name__ == "__main__":
    main()
