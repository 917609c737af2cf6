"""Plans kept on disk, so that what was found out once needn't be found out again.

A file is data and nothing else: reading it runs no code, and whatever isn't as it was
written is refused. With the plan it has fingerprints of the function and of the machine
that it was made for; where one has changed meanwhile, there is a warning.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import dask
import platformdirs

from amorsize_dask.core.model import Lane
from amorsize_dask.errors import (
    ArgumentError,
    ConfigChangedWarning,
    ConfigError,
    ConfigNotFoundError,
)
from amorsize_dask.measure.costs import find_processor
from amorsize_dask.measure.fingerprint import fingerprint_function
from amorsize_dask.measure.kept_file import read_json, write_json
from amorsize_dask.measure.machine import measure_machine
from amorsize_dask.planning.plan import Plan

#: Version of the files' form; files of other versions are not read.
VERSION = 1

#: Characters of a file that are read. Smaller: plans with long reasons don't fit;
#: larger: a file that is none of ours is read to its end.
MAX_CHARACTERS = 100_000

#: What a file that isn't as it should be makes reading it raise.
_BREAKAGES = (ValueError, TypeError, KeyError, OverflowError, RecursionError)

#: What a name may be: it is that of a file on any system.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


class Planned(Protocol):
    """What `optimize` and `optimize_streaming` return."""

    @property
    def n_jobs(self) -> int:
        """Processes of a pool, >= 1."""

    @property
    def chunksize(self) -> int:
        """Items that it sends at once, >= 1."""


def save_config(
    name: str | os.PathLike[str],
    result: Planned,
    func: Callable[..., Any] | None = None,
) -> Path:
    """Keep a plan on disk, for `load_config`.

    The file is this user's alone, and takes the place of an older one in one step.

    Parameters
    ----------
    name : str or path
        A name of up to 100 letters, digits and ``_.-``: the file is in the user's
        configuration folder then. Or a `pathlib.Path`: the file itself.
    result : Plan or StreamingPlan
        What `optimize` or `optimize_streaming` has returned. Its data isn't kept.
    func : callable, optional
        The function that it is for, if it doesn't say so itself.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ArgumentError
        For arguments that can't be used.
    ConfigError
        If the file can't be written. An older one stays as it is.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from amorsize_dask import Plan
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sizes.json"
    ...     _ = save_config(path, Plan(n_jobs=2, chunksize=50))
    ...     load_config(path).chunksize
    50
    """
    if func is None:
        func = getattr(result, "func", None)
    elif not callable(func):
        raise ArgumentError("func", func, "expected a function")
    path = _find_path(name)
    content = {
        "version": VERSION,
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "function": None if func is None else _describe_function(func),
        "machine": _describe_machine(),
        "plan": _describe_plan(result),
    }
    try:
        if path.is_symlink():
            raise PermissionError("there is a link, which could lead anywhere")
        write_json(path, content, indent=2)
    except OSError as error:
        raise ConfigError(path, f"can't be written: {_tell(error)}") from error
    return path


def load_config(
    name: str | os.PathLike[str], func: Callable[..., Any] | None = None
) -> Plan:
    """Read a plan that `save_config` has kept.

    Nothing that is in the file is run, or imported.

    Parameters
    ----------
    name : str or path
        As for `save_config`.
    func : callable, optional
        The function that the plan is to be used for. By default the one that has the
        name now of the one that it was made for, if its module has been imported.

    Returns
    -------
    Plan
        As it was, with `func` as its function, and without data: to have it run itself,
        add these by ``dataclasses.replace(plan, data=data)``.

    Raises
    ------
    ArgumentError
        For arguments that can't be used.
    ConfigNotFoundError
        If there is no such file.
    ConfigError
        If it can't be read, is broken, of another version, a link, another user's, or
        could have been written by others.

    Warns
    -----
    ConfigChangedWarning
        If the function has changed since, or the machine: its processor, the cores that
        may be used, Python or Dask.
    """
    if func is not None and not callable(func):
        raise ArgumentError("func", func, "expected a function")
    path = _find_path(name)
    try:
        content: Any = read_json(path, MAX_CHARACTERS)
        plan = _read_plan(content, func)
        changes = _find_changes(content, func)
    except FileNotFoundError as error:
        raise ConfigNotFoundError(path, f"doesn't exist{_list_others(path)}") from error
    except OSError as error:
        raise ConfigError(path, f"can't be read: {_tell(error)}") from error
    except _BREAKAGES as error:
        raise ConfigError(path, f"is broken or not a plan: {error}") from error
    if changes:
        message = (
            f"The plan in {path} was made for {', and for '.join(changes)}. Run "
            "optimize again and save what it returns."
        )
        warnings.warn(message, ConfigChangedWarning, stacklevel=2)
    return plan


# -- where -----------------------------------------------------------------------------


def _find_path(name: object) -> Path:
    if isinstance(name, os.PathLike):
        path = Path(name)
        if not path.name or "\0" in str(path):
            raise ArgumentError("name", name, "expected the path of a file")
        return path.absolute()
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = (
            "expected a name of letters, digits and '_.-', or a pathlib.Path for a "
            "file elsewhere"
        )
        raise ArgumentError("name", name, expected)
    folder = Path(platformdirs.user_config_dir("amorsize")) / "plans"
    if not folder.is_absolute():
        # A user without a home: this would be a folder named "~" in this one.
        reason = "can't be had: you have no configuration folder, give a pathlib.Path"
        raise ConfigError(folder / f"{name}.json", reason)
    return folder / f"{name}.json"


def _list_others(path: Path) -> str:
    try:
        names = sorted(other.stem for other in path.parent.glob("*.json"))
    except OSError:
        names = []
    return f"; in its folder there are: {', '.join(names[:20])}" if names else ""


def _tell(error: OSError) -> str:
    return error.strerror or str(error)


# -- what it was made for --------------------------------------------------------------


def _describe_function(func: Callable[..., Any]) -> dict[str, Any]:
    """Return its fingerprint, and its name if it can be found by that."""
    names = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    return {
        "name": names if _find_function(names) is func else None,
        "fingerprint": fingerprint_function(func),
    }


def _find_function(name: Any) -> Any:
    """Return what has a module's name and a path in it, if it has been imported.

    Nothing is called for that, not even what a module or a class does to be asked.
    """
    if name is None:
        return None
    module, path = name
    found: Any = sys.modules.get(module)
    for part in str(path).split("."):
        if not isinstance(found, ModuleType | type):
            return None
        found = vars(found).get(part)
    return found


def _describe_machine() -> dict[str, str | int]:
    """Return what makes plans for a machine its own, by names for people.

    Not what the machine is called: each container has another name.
    """
    machine = measure_machine()
    return {
        "processor": "; ".join(find_processor()) or platform.machine(),
        "cores": machine.n_cores,
        "physical cores": machine.n_physical_cores,
        "Python": platform.python_version(),
        "Dask": str(dask.__version__),  # type: ignore[attr-defined]  # not declared
    }


def _find_changes(
    content: Mapping[str, Any], func: Callable[..., Any] | None
) -> list[str]:
    """Say what isn't any more as it was when a plan was kept."""
    changes = []
    then, kept = content["machine"], content["function"]
    now = _describe_machine()
    if not isinstance(then, dict) or then.keys() != now.keys():
        raise TypeError("it doesn't say for which machine")
    if kept is not None:
        if not isinstance(kept, dict) or kept.keys() != {"name", "fingerprint"}:
            raise TypeError("it doesn't say for which function")
        _check_name(kept["name"])
        present = _find_function(kept["name"]) if func is None else func
        if callable(present) and fingerprint_function(present) != kept["fingerprint"]:
            whole = kept["name"] and ".".join(kept["name"])
            changes.append(f"another function than {whole or 'this one'} is now")
    changes += [
        f"{name} {then[name]!r} (now {now[name]!r})"
        for name in now
        if then[name] != now[name]
    ]
    return changes


def _check_name(name: Any) -> None:
    if name is None:
        return
    if not isinstance(name, list) or [type(part) for part in name] != [str, str]:
        raise TypeError(f"its function's name is {name!r}")


# -- the plan --------------------------------------------------------------------------


def _describe_plan(result: Any) -> dict[str, Any]:
    """Return the fields of a plan that are numbers and texts, each as it should be."""
    expected = "expected what optimize or optimize_streaming returns"
    found = Plan().as_dict()
    for name in found:
        found[name] = getattr(result, name, found[name])
    if not hasattr(result, "n_jobs") or not hasattr(result, "chunksize"):
        raise ArgumentError("result", result, expected)
    # What a plan for streams calls by another name.
    found["pool_speedup"] = getattr(result, "estimated_speedup", found["pool_speedup"])
    try:
        found["warnings"] = list(found["warnings"])
        _check_plan(found)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError("result", result, f"{expected}; {error}") from error
    return found


def _read_plan(content: Any, func: Callable[..., Any] | None) -> Plan:
    if not isinstance(content, dict):
        raise TypeError("it is not a table")
    if content.get("version") != VERSION:
        raise ValueError(f"version {content.get('version')!r} instead of {VERSION}")
    plan = content["plan"]
    if not isinstance(plan, dict):
        raise TypeError("its plan is not a table")
    _check_plan(plan)
    # Without data, rather than with none: computed as it is, it says so.
    added = {"warnings": tuple(plan["warnings"]), "func": func, "data": None}
    return Plan(**{**plan, **added})


def _check_plan(numbers: Mapping[str, Any]) -> None:
    """Raise for a plan that isn't one: each field is of the kind of its default."""
    usual = Plan().as_dict()
    if numbers.keys() != usual.keys():
        raise ValueError(f"fields {sorted(numbers)} instead of {sorted(usual)}")
    for name, value in numbers.items():
        if not _is_like(usual[name], value):
            raise ValueError(f"{name} is {value!r}")
    # A plan is for one machine.
    if numbers["lane"] not in set(Lane) - {Lane.CLUSTER}:
        raise ValueError(f"lane is {numbers['lane']!r}")


def _is_like(default: Any, value: Any) -> bool:
    if default is None:
        return value is None or _is_like(1, value)
    if isinstance(default, int):
        return type(value) is int and value >= 1
    if isinstance(default, float):
        return type(value) in (int, float) and isfinite(value) and value >= 0
    if isinstance(default, list):
        return type(value) is list and all(type(text) is str for text in value)
    return type(value) is str
