"""Every error that amorsize_dask itself raises, in one tree.

An exception raised by a user's task is not here: it arrives as itself. Errors
carry their numbers as attributes, not only as text, and survive pickling.
"""

from __future__ import annotations

from typing import Any


class AmorsizeError(Exception):
    """Base of all errors of amorsize_dask.

    Subclasses take keyword arguments only; each becomes an attribute, and
    pickling passes them through the constructor again.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self._facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._facts)


def _rebuild(
    kind: type[AmorsizeError], message: str, facts: dict[str, Any]
) -> AmorsizeError:
    error = kind.__new__(kind)
    AmorsizeError.__init__(error, message, **facts)
    return error


def describe_error(error: BaseException) -> str:
    """Return any error's type and its text, which may fail in turn."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        return name  # it can't even say what it is
    return f"{name}: {text}" if text else name


class ArgumentError(AmorsizeError, ValueError):
    """An argument that can't be used. Raised before anything has started."""

    name: str
    value: Any

    def __init__(self, name: str, value: Any, expected: str) -> None:
        super().__init__(
            f"{name}={value!r} can't be used: {expected}.", name=name, value=value
        )


class BatchLengthError(AmorsizeError):
    """A stage of a pipeline gave more or fewer results than its batch had items."""

    stage: str
    n_items: int
    n_results: int

    def __init__(self, stage: str, n_items: int, n_results: int) -> None:
        super().__init__(
            f"Stage {stage!r} was given a batch of {n_items} items and returned "
            f"{n_results} results. A function of batches returns one result for each "
            "item, in order.",
            stage=stage,
            n_items=n_items,
            n_results=n_results,
        )


class ClusterError(AmorsizeError):
    """A Dask cluster that can't be used, or that is gone with what was left on it.

    Raised before anything is sent where the cluster is the only lane that is allowed;
    later only where results were on it that someone needs.
    """

    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(f"The cluster can't be used: {reason}", reason=reason)


class ConfigError(AmorsizeError):
    """A saved plan that can't be kept, read or trusted. No part of it is used."""

    path: str

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"The saved plan {path} {reason}.", path=str(path))


class ConfigNotFoundError(ConfigError, FileNotFoundError):
    """There is no saved plan of that name."""


class ConfigChangedWarning(UserWarning):
    """A saved plan was made for another function, or another machine."""


class LaneError(AmorsizeError):
    """No lane is left in which a stage could run.

    Raised when every lane that the user allows has turned out to be unusable:
    worker processes can't be started, or the stage can't be sent to them.
    """

    stage: str
    reason: str

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(
            f"Stage {stage!r} can't run in any of the allowed lanes: {reason}. "
            "Allow a lane in the calling process, for example "
            "AmorsizeScheduler(lanes=('inline', 'processes')) without isolate=True.",
            stage=stage,
            reason=reason,
        )


class MemoryBudgetError(AmorsizeError):
    """A task that takes more memory than the run was given.

    Raised before such a task is started again, by what the first one took.
    """

    key: Any
    reason: str

    def __init__(self, key: Any, reason: str) -> None:
        super().__init__(
            f"Task {key!r} doesn't fit into memory: {reason}. Make partitions smaller, "
            "raise memory_limit, or let such tasks run one at a time with "
            "AmorsizeScheduler(allow_oversized=True).",
            key=key,
            reason=reason,
        )


class ResultLostError(AmorsizeError):
    """A result that was in a spool file which someone has removed or cut short."""

    key: Any
    path: str

    def __init__(self, key: Any, path: str, reason: str) -> None:
        super().__init__(
            f"The result of task {key!r} was in {path}, which can't be read any more: "
            f"{reason}. Let Dask's setting temporary-directory name a folder that "
            "nothing cleans up while a run lasts.",
            key=key,
            path=path,
        )


class SerializationError(AmorsizeError):
    """A task or its error can't cross the border between two processes.

    Only raised where no lane in the caller may take over (``isolate=True``), or
    for an exception of a task that can't be rebuilt in the caller.
    """

    key: Any
    what: str

    def __init__(self, key: Any, what: str, reason: str) -> None:
        super().__init__(
            f"The {what} of task {key!r} can't be sent between processes: {reason}",
            key=key,
            what=what,
        )


class TaskTimeoutError(AmorsizeError, TimeoutError):
    """A task that ran for longer than `task_timeout`. Its worker was killed."""

    key: Any
    timeout_s: float

    def __init__(self, key: Any, timeout_s: float) -> None:
        super().__init__(
            f"Task {key!r} took longer than {timeout_s:g} seconds and was ended with "
            "its worker process. Allow more with task_timeout, or another try with "
            "retries.",
            key=key,
            timeout_s=timeout_s,
        )


class WorkerLostError(AmorsizeError):
    """A task whose workers died each time that it was tried.

    Attributes
    ----------
    key
        The task's.
    ending : str
        How the last worker ended: the signal's name or the exit code.
    n_attempts : int
        How often it was tried.
    story : tuple of str
        What is known of each of these workers: how it ended, and what it took when it
        was last heard of.
    """

    key: Any
    ending: str
    n_attempts: int
    story: tuple[str, ...]

    def __init__(
        self, key: Any, ending: str, n_attempts: int, story: tuple[str, ...] = ()
    ) -> None:
        lines = "".join(f"\n  {line}" for line in story)
        super().__init__(
            f"Task {key!r} lost its worker {n_attempts} times; the last one ended by "
            f"{ending}. SIGKILL often means that the system ran out of memory; "
            f"SIGSEGV means that native code crashed.{lines}",
            key=key,
            ending=ending,
            n_attempts=n_attempts,
            story=story,
        )


class WorkerStartError(AmorsizeError):
    """Worker processes can't be started on this machine."""
