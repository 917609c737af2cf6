"""What the environment says of cores and threads.

``PYTHON_CPU_COUNT`` says how many cores a Python program may assume, and that holds.
The others say how many threads a library starts within one process. They say nothing
of how many processes there may be: the most common value is 1, set so that there can be
one process for each core. So they don't limit a run; tasks keep to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Libraries read these when they are loaded. In worker processes they are set to one
#: thread each, since the lane already has a worker for each core; what the user has set
#: is kept.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)

#: The same, but not set for workers: it is the most that Numba allows, so that a task
#: which asks for more threads would fail in a worker and nowhere else.
HINT_VARIABLES = (*THREAD_VARIABLES, "NUMBA_NUM_THREADS")


def find_python_cores(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Return the cores that the user lets Python programs assume, by its variable.

    From Python 3.13 on it is what `os.cpu_count` returns; here it counts in any.
    """
    return _read_counts(environ, ("PYTHON_CPU_COUNT",))


def find_thread_hints(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Return the threads that libraries may start in a process, by their variables."""
    return _read_counts(environ, HINT_VARIABLES)


def _read_counts(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, int]:
    """Return those that are whole numbers above 0."""
    found = {}
    for name in names:
        # Of OpenMP's "4,2" the second is for threads that start threads.
        text = environ.get(name, "").partition(",")[0].strip()
        if text.isdecimal() and int(text):
            found[name] = int(text)
    return found
