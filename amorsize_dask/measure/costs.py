"""What moving work costs on this machine: measuring it, and keeping it on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import cache
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import dask

from amorsize_dask.core.model import Costs
from amorsize_dask.measure.cgroup import read_lines
from amorsize_dask.measure.kept_file import cache_folder, read_json, write_json
from amorsize_dask.measure.rss import trim_rss

logger = logging.getLogger(__name__)

#: Version of the file's form; files of other versions are not read.
VERSION = 7

#: Characters of a file that are read. Smaller: more costs than today's don't fit;
#: larger: a file that is none of ours is read to its end.
MAX_CHARACTERS = 100_000

#: Rounds of a measurement that takes microseconds, and of one that moves many bytes.
#: The quickest counts: what makes the others slower is not the machine's doing.
#: Smaller: none may be quick while the machine is busy; larger: more than the few
#: milliseconds that it may take.
N_ROUNDS = 9
N_BULK_ROUNDS = 5
N_NEW_ROUNDS = 3

#: Bytes of the block that is echoed to measure the speed of a pipe. Smaller: the round
#: trip, which is taken off, is most of it; larger: it takes longer than it is worth.
ECHO_BYTES = 500_000

#: Bytes that are copied to measure how fast that goes. Smaller: making the file is most
#: of it; larger: it takes longer than it is worth.
COPY_BYTES = 4_000_000

#: What names the processor in ``/proc/cpuinfo``, on one architecture or another.
_MODEL_FIELDS = ("model name", "cpu model", "cpu", "CPU implementer", "CPU part")


@cache
def fingerprint() -> str:
    """Return a name for this machine, Python and Dask: their costs are their own."""
    facts = (
        platform.node(),
        platform.machine(),
        find_processor(),
        os.cpu_count(),
        sys.implementation.name,
        sys.version,
        dask.__version__,  # type: ignore[attr-defined]  # Dask doesn't declare it
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def find_processor() -> list[str]:
    """Return what the system says of the processor, if there is a file to read.

    `platform.processor` would start a process to ask, and that at the first compute.
    """
    # Each core has a paragraph, and they may be of several kinds: the first has to do.
    lines = read_lines(Path("/proc/cpuinfo"))
    paragraph = lines[: lines.index("")] if "" in lines else lines
    return [line for line in paragraph if line.partition("\t")[0] in _MODEL_FIELDS]


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
    try:
        return _check(read_json(_path(folder), MAX_CHARACTERS))
    except (
        OSError,
        ValueError,
        TypeError,
        OverflowError,  # a whole number that no float can hold
        RecursionError,  # brackets within brackets
    ) as error:
        logger.debug("no costs are read: %r", error)
        return None


def save_costs(costs: Costs, folder: Path | None = None) -> None:
    """Keep the costs of this machine; if that can't be done, nothing happens."""
    content = {"version": VERSION, "costs": asdict(costs)}
    try:
        write_json(_path(folder), content, indent=2)
    except OSError as error:
        logger.debug("the costs are not kept: %r", error)


def _path(folder: Path | None) -> Path:
    return (folder or cache_folder("costs")) / f"{fingerprint()}.json"


def _check(content: object) -> Costs:
    """Build costs from what was read; raises for whatever isn't as it should be."""
    if not isinstance(content, dict) or not isinstance(content.get("costs"), dict):
        raise TypeError("costs are not a table")
    if content.get("version") != VERSION:
        raise ValueError(f"version {content.get('version')!r} instead of {VERSION}")
    numbers = content["costs"]
    names = {field.name for field in fields(Costs)}
    if numbers.keys() != names:
        raise ValueError(f"costs {sorted(numbers)} instead of {sorted(names)}")
    for name, number in numbers.items():
        # What is no number at all makes `isfinite` raise.
        if isinstance(number, bool) or not isfinite(number):
            raise ValueError(f"{name} is {number!r}")
    return Costs(**numbers)


def measure_echo_s(echo: Callable[[bytes], bytes]) -> float:
    """Return the seconds until a few bytes are back from a worker.

    Parameters
    ----------
    echo : callable
        Sends bytes to a worker and returns them when they are back. What it raises is
        not caught.
    """
    return _measure_echo(echo, b"!", N_ROUNDS)


def measure_bytes_per_s(echo: Callable[[bytes], bytes]) -> float:
    """Return the bytes per second that pass to a worker, or back from it.

    Parameters
    ----------
    echo : callable
        As for `measure_echo_s`.
    """
    bulk_s = _measure_echo(echo, bytes(ECHO_BYTES), N_BULK_ROUNDS)
    empty_s = _measure_echo(echo, b"!", N_BULK_ROUNDS)
    # Where few bytes take as long as many, the machine was disturbed meanwhile.
    return 2 * ECHO_BYTES / (bulk_s - min(empty_s, bulk_s / 2))


def measure_copy_bytes_per_s(copy: Callable[[bytes], bytes]) -> float:
    """Return the bytes per second that are copied; 0 if they can't be.

    Parameters
    ----------
    copy : callable
        Returns what it was given, in other memory. Where it raises `OSError` there is
        no such way.
    """
    data = bytes(COPY_BYTES)
    try:
        copy_s = _measure_echo(copy, data, N_BULK_ROUNDS)
    except OSError:
        return 0.0
    return COPY_BYTES / copy_s


def measure_load_bytes_per_s(
    write: Callable[[bytes], Any], load: Callable[[Any], bytes]
) -> float:
    """Return the bytes per second that are loaded into memory that is new.

    Parameters
    ----------
    write : callable
        Called with what is to be loaded; what it returns goes to `load`. If it raises
        `OSError`, what is loaded is in memory.
    load : callable
        Returns it in other memory.
    """
    data = bytes(COPY_BYTES)
    # What was freed would be taken again, be it here or before: then it seems to be
    # twice as quick, and later programs go by it.
    kept: list[bytes] = []
    seconds = []
    for _ in range(N_NEW_ROUNDS):
        try:
            written = write(data)
        except OSError:
            load, written = bytes, memoryview(data)
        trim_rss()
        start = perf_counter()
        kept.append(load(written))
        seconds.append(perf_counter() - start)
    return COPY_BYTES / min(seconds)


def _measure_echo(echo: Callable[[bytes], bytes], data: bytes, n_rounds: int) -> float:
    seconds = []
    for _ in range(n_rounds):
        start = perf_counter()
        echo(data)
        seconds.append(perf_counter() - start)
    return min(seconds)
