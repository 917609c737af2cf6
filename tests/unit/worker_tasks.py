"""What tests have worker processes run.

In a module of its own, since a worker imports what it is sent by name: this imports
little, and so workers get up in no time.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from amorsize_dask.execute import worker


def touch_and_loop(path: Path) -> None:
    """Run for ever, and leave a file to tell that it has begun."""
    path.touch()
    while True:
        pass


def die(how: str | int) -> None:
    """End the process with an exit code, or by the signal of that name."""
    if isinstance(how, int):
        os._exit(how)
    os.kill(os.getpid(), signal.Signals[how])


def recurse() -> None:
    """Recurse without end."""
    recurse()


def describe_process() -> dict[str, Any]:
    """Return what tasks may ask of the process that they run in."""
    return {
        "sid": os.getsid(0),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGCHLD)],
        "wakeup": signal.set_wakeup_fd(-1),
        "inheritable": [fd for fd in _open_descriptors() if os.get_inheritable(fd)],
        "is_worker": worker.is_worker,
    }


def _open_descriptors() -> list[int]:
    found = []
    for fd in range(3, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def list_loaded(names: tuple[str, ...]) -> list[str]:
    """Return which of these modules are imported."""
    return [name for name in names if name in sys.modules]


def draw_by_python() -> float:
    """Draw from Python's random state."""
    return random.random()


def draw_by_numpy() -> float:
    """Draw from NumPy's random state."""
    import numpy as np

    return float(np.random.random())


def read_environ() -> dict[str, str]:
    """Return the environment."""
    return dict(os.environ)


def import_and_call(module: str, function: str) -> Any:
    """Import a function by name and call it."""
    return getattr(__import__(module), function)()


class SlowToPickle:
    """A value that takes some time to be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(0.02)
        return SlowToPickle, ()
