"""What moving work costs on this machine: measuring it, and keeping it on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile
from time import perf_counter

import platformdirs

from amorsize_dask.core.model import Costs

logger = logging.getLogger(__name__)

#: Version of the file's form; files of other versions are not read.
VERSION = 1

#: Rounds of each measurement, of which the quickest counts: what makes the others
#: slower is not the machine's doing. Smaller: none may be quick while the machine is
#: busy; larger: more than the few milliseconds that it may take.
N_ROUNDS = 9

#: Bytes of the block that is echoed to measure the speed of a pipe. Smaller: the round
#: trip is a part of it; larger: it takes longer than it is worth.
ECHO_BYTES = 1_000_000


def fingerprint() -> str:
    """Return a name for this machine, Python and Dask: their costs are their own."""
    facts = (
        platform.node(),
        platform.machine(),
        platform.processor(),
        os.cpu_count(),
        sys.implementation.name,
        sys.version,
        version("dask"),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def load_costs(folder: Path | None = None) -> Costs | None:
    """Read the costs of this machine.

    Parameters
    ----------
    folder : Path, optional
        Where they are kept; the user's cache folder by default.

    Returns
    -------
    Costs or None
        ``None`` if there are none yet, or the file is broken, of another version or
        another user's.
    """
    path = _path(folder)
    try:
        with path.open(encoding="utf-8") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            content = json.load(file)
        return _check(content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.debug("no costs are read from %s: %r", path, error)
        return None


def save_costs(costs: Costs, folder: Path | None = None) -> None:
    """Keep the costs of this machine; if that can't be done, nothing happens."""
    path = _path(folder)
    content = {"version": VERSION, "costs": asdict(costs)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.stem, delete=False, encoding="utf-8"
        ) as file:
            json.dump(content, file, indent=2)
        Path(file.name).replace(path)
    except OSError as error:
        logger.debug("the costs are not kept in %s: %r", path, error)


def measure_thread_costs() -> tuple[float, float]:
    """Measure starting a thread and handing something to one.

    Returns
    -------
    thread_start_s, hand_off_s : float
        Seconds until a new thread has run, and until a waiting one has answered.
    """
    starts = []
    for _ in range(N_ROUNDS):
        start = perf_counter()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        starts.append(perf_counter() - start)
    return min(starts), _measure_hand_off()


def _measure_hand_off() -> float:
    asked: SimpleQueue[int | None] = SimpleQueue()
    answered: SimpleQueue[int] = SimpleQueue()

    def answer() -> None:
        while (number := asked.get()) is not None:
            answered.put(number)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    hand_offs = []
    for number in range(2 * N_ROUNDS):
        start = perf_counter()
        asked.put(number)
        answered.get()
        hand_offs.append(perf_counter() - start)
    asked.put(None)
    thread.join()
    return min(hand_offs)


def measure_round_trip_s(echo: Callable[[bytes], bytes]) -> float:
    """Return the seconds until a few bytes are back from a worker."""
    return _measure_echo(echo, b"!")


def measure_bytes_per_s(echo: Callable[[bytes], bytes]) -> float:
    """Return the bytes per second that pass to a worker and back."""
    return 2 * ECHO_BYTES / _measure_echo(echo, bytes(ECHO_BYTES))


def _measure_echo(echo: Callable[[bytes], bytes], data: bytes) -> float:
    seconds = []
    for _ in range(N_ROUNDS):
        start = perf_counter()
        echo(data)
        seconds.append(perf_counter() - start)
    return min(seconds)


def _path(folder: Path | None) -> Path:
    if folder is None:
        folder = Path(platformdirs.user_cache_dir("amorsize")) / "costs"
    return folder / f"{fingerprint()}.json"


def _check(content: dict[str, object]) -> Costs:
    """Build costs from what was read; raises for whatever isn't as it should be."""
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']} instead of {VERSION}")
    numbers = content["costs"]
    if not isinstance(numbers, dict):
        raise TypeError("costs are not a table")
    names = {field.name for field in fields(Costs)}
    if numbers.keys() != names:
        raise ValueError(f"costs {sorted(numbers)} instead of {sorted(names)}")
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"{name} is {number!r}")
        if not isfinite(number):
            raise ValueError(f"{name} is {number!r}")
    return Costs(**numbers)
