"""Runs in turn: each in a fresh process, round by round, results compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from limits import HAND, OURS, STOCK
from runners import HAND_PREFIX
from workload import Workload

#: A runner that takes so many times as long as the quickest of its kind in the first
#: round sits out the others: it won't be the quickest. Smaller: a round that was
#: disturbed decides; larger: the suite takes longer and says nothing more.
SIT_OUT_RATIO = 2.0

#: Times the limit that a process may take in all, and seconds for its start. Its own
#: timer should end it; this is for one that hangs where no signal reaches it.
#: Smaller: long inputs are ended; larger: a hang takes longer to be seen.
PATIENCE_RATIO, PATIENCE_S = 3.0, 60.0

#: Characters of a process's errors that are kept.
ERROR_LENGTH = 2_000

RUN_ONE = Path(__file__).with_name("run_one.py")

#: What one process has printed, by the names of the workload and the runner.
Run = Callable[[str, str], Mapping[str, Any]]


@dataclass(slots=True)
class Entry:
    """What one runner did with one workload."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[float] = field(default_factory=list)
    n_processes: list[int] = field(default_factory=list)
    n_tasks: int | None = None
    #: The seconds that it was given and that weren't enough.
    over_s: float | None = None
    #: Why there is no figure: it failed, or its result was wrong.
    error: str = ""

    @property
    def median_s(self) -> float | None:
        """Return the median, or the time that wasn't enough; ``None`` after an error.

        What wasn't enough is less than it would have taken.
        """
        if self.error:
            return None
        return median(self.seconds) if self.seconds else self.over_s


def take_turns(
    workload: Workload,
    runners: list[str],
    n_rounds: int,
    run: Run,
    report: Callable[[str], None],
) -> dict[str, Entry]:
    """Run a workload with all runners in turn, each round beginning with another.

    Parameters
    ----------
    workload : Workload
        What to run.
    runners : list of str
        Who runs it. The first that has a result is whom the others must agree with.
    n_rounds : int
        How often, >= 1.
    run : callable
        Runs one of them.
    report : callable
        Told about each run.

    Returns
    -------
    dict of str to Entry
        By runner.
    """
    entries = {runner: Entry() for runner in runners}
    expected: tuple[str, Mapping[str, Any]] | None = None
    n_rounds = 1 if workload.is_long else n_rounds
    for i in range(n_rounds):
        shift = i % len(runners)
        for runner in runners[shift:] + runners[:shift]:
            if i and sits_out(runner, workload, entries):
                continue
            found = run(workload.name, runner)
            if "digests" in found:
                expected = expected or (runner, found)
            _enter(entries[runner], found, expected)
            report(f"round {i + 1}  {workload.name}  {runner}  {describe(found)}")
            if entries[runner].error:
                report(entries[runner].error)
    return entries


def sits_out(runner: str, workload: Workload, entries: Mapping[str, Entry]) -> bool:
    """Return whether another run of a runner would change nothing that counts."""
    entry = entries[runner]
    if entry.median_s is None or entry.over_s is not None:
        return True
    if runner in OURS or runner in _named_by_limits(workload):
        return False
    rivals = [
        other.median_s
        for name, other in entries.items()
        if _kind(name) == _kind(runner) and other.median_s is not None
    ]
    return entry.median_s > SIT_OUT_RATIO * min(rivals)


def _named_by_limits(workload: Workload) -> set[str]:
    """Return the runners whose own time a limit needs, not just the best of all."""
    return {
        runner
        for limit in workload.limits
        if not limit.runners.issuperset(STOCK)
        for runner in limit.runners
    }


def _kind(runner: str) -> str:
    return HAND if runner.startswith(HAND_PREFIX) else "scheduler"


def _enter(
    entry: Entry, found: Mapping[str, Any], expected: tuple[str, Mapping[str, Any]]
) -> None:
    """Add what one process has printed."""
    entry.over_s = found.get("over_s")
    entry.error = found.get("error", "")
    if "digests" not in found:
        return
    other, right = expected
    # A new scheduler computes once, others perhaps several inputs of which the first
    # is the same.
    for mine, its in zip(found["digests"], right["digests"], strict=False):
        if mine != its:
            entry.error = (
                f"another result than {other}: {found['preview']} "
                f"instead of {right['preview']}"
            )
            return
    entry.seconds.append(found["seconds"])
    entry.peak_bytes.append(found["peak_bytes"])
    entry.n_processes.append(found["n_processes"])
    entry.n_tasks = found["n_tasks"]


def describe(found: Mapping[str, Any]) -> str:
    """Say in a few words what a process has printed."""
    if "error" in found:
        return "failed"
    if "over_s" in found:
        return f"> {found['over_s']:g} s"
    return f"{found['seconds']:.4f} s"


def run_in_process(
    workload: str,
    runner: str,
    *,
    is_quick: bool,
    steps_per_ms: int,
    limit_s: float,
    folder: Path,
) -> Mapping[str, Any]:
    """Run one workload with one runner in a fresh process.

    Parameters
    ----------
    workload, runner : str
        Their names.
    is_quick : bool
        Whether inputs are small.
    steps_per_ms : int
        Steps of `spin` in a millisecond.
    limit_s : float
        Seconds that one compute may take.
    folder : Path
        For inputs, caches and temporary files of all runs.

    Returns
    -------
    mapping
        What the process has printed, or ``error``.
    """
    command = [sys.executable, str(RUN_ONE), workload, runner]
    command += ["--steps-per-ms", str(steps_per_ms), "--limit-s", str(limit_s)]
    command += ["--folder", str(folder)] + ["--quick"] * is_quick
    environment = {
        **os.environ,
        # The costs that are measured here are those of this suite's machine, now.
        "XDG_CACHE_HOME": str(folder),
        # What a process leaves that was ended goes with the folder.
        "TMPDIR": str(folder),
        "PYTHONHASHSEED": "1",
    }
    # Files, not pipes: a pipe stays open for as long as any orphan has it.
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            process.wait(PATIENCE_RATIO * limit_s + PATIENCE_S)
        except subprocess.TimeoutExpired:
            return {"over_s": limit_s}
        finally:
            # Its workers, if it was ended while they worked.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        errors.seek(0)
        lines = output.read().splitlines()
        if process.returncode != 0 or not lines:
            return {"error": f"failed: {errors.read()[-ERROR_LENGTH:]}"}
        return json.loads(lines[-1])
