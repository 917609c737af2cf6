"""A task's exception on its way from a worker to the caller, frames included.

An exception is its class, ``args``, ``__dict__``, traceback, cause and context. Plain
pickling keeps the first three only, and fails in the caller for classes whose
``__init__`` wants other arguments than ``args``; here such an exception is rebuilt
without calling ``__init__``, so that it arrives as itself.

Imported when a worker boots: without a descriptor it couldn't be done later.
"""

from __future__ import annotations

import pickle
import traceback
from types import TracebackType
from typing import Any

from tblib import Traceback

from amorsize_dask.errors import SerializationError
from amorsize_dask.execute.wire import Part, dump, load
from amorsize_dask.execute.worker_log import debug

#: Links of causes and contexts that travel. Longer chains are cut: no one reads them,
#: and an exception that is its own distant cause must not run for ever.
MAX_CHAIN = 20


class _Link:
    """One exception of the chain, as far as it travels by itself."""

    __slots__ = ("cause", "context", "error", "frames", "suppress_context")

    def __init__(self, error: BaseException) -> None:
        self.error = _dump_error(error)
        self.frames = _dump_frames(error.__traceback__)
        self.suppress_context = error.__suppress_context__
        # Numbers of others of the chain.
        self.cause: int | None = None
        self.context: int | None = None


def dump_failure(error: BaseException) -> list[Part]:
    """Turn an exception into parts that `load_failure` understands; never fails."""
    links: list[_Link] = []
    numbers: dict[int, int] = {}

    def add(error: BaseException | None) -> int | None:
        if error is None or (id(error) not in numbers and len(links) >= MAX_CHAIN):
            return None
        if id(error) in numbers:
            return numbers[id(error)]
        number = numbers[id(error)] = len(links)
        link = _Link(error)
        links.append(link)
        link.cause = add(error.__cause__)
        link.context = add(error.__context__)
        return number

    add(error)
    text = "".join(traceback.format_exception(error))
    return dump((links, type(error).__qualname__, text))


def load_failure(key: Any, parts: list[bytearray]) -> BaseException:
    """Rebuild an exception, with the frames of the worker as its traceback.

    Returns
    -------
    BaseException
        The exception itself, or a `SerializationError` with the worker's traceback as
        text if its class can't be had here.
    """
    links, name, text = load(parts)
    errors = [_load_error(link) for link in links]
    if errors[0] is None:
        reason = f"{name} can't be rebuilt here. In the worker:\n{text}"
        return SerializationError(key, "exception", reason)
    for error, link in zip(errors, links, strict=True):
        if error is None:
            continue
        cause = None if link.cause is None else errors[link.cause]
        context = None if link.context is None else errors[link.context]
        _set(error, "__traceback__", _load_frames(link.frames))
        _set(error, "__cause__", cause)
        _set(error, "__context__", context)
        _set(error, "__suppress_context__", link.suppress_context)
    return errors[0]


def _load_error(link: _Link) -> BaseException | None:
    if link.error is None:
        return None
    try:
        error = load(link.error)
    except Exception as failure:
        debug(__name__, "an exception can't be rebuilt in the caller: %r", failure)
        return None
    return error if isinstance(error, BaseException) else None


def _dump_frames(frames: TracebackType | None) -> list[dict[str, Any]]:
    # One by one: tblib nests them, and those of an endless recursion are more than
    # can be nested.
    dumped: list[dict[str, Any]] = []
    frame = None if frames is None else Traceback(frames)
    while frame is not None:
        following, frame.tb_next = frame.tb_next, None
        dumped.append(frame.to_dict())
        frame = following
    return dumped


def _load_frames(frames: list[dict[str, Any]]) -> TracebackType | None:
    top: Traceback | None = None
    for dumped in reversed(frames):
        frame = Traceback.from_dict(dumped)
        frame.tb_next = top
        top = frame
    return None if top is None else top.as_traceback()


def _dump_error(error: BaseException) -> list[bytes] | None:
    """Pickle one exception without its chain, if there is a form that comes back.

    Some classes come back from plain pickling as another exception, since their
    ``__init__`` makes the message from arguments that ``args`` doesn't have.
    """
    for form in (_AsItSays, _Rebuilt, _Rebuilt.from_what_travels):
        try:
            parts = [bytes(part) for part in dump(form(error))]
            other = load(parts)
            if type(other) is type(error) and (
                form is not _AsItSays or repr(other.args) == repr(error.args)
            ):
                return parts
        except Exception as failure:
            debug(__name__, "%r does not travel: %r", type(error), failure)
    return None


class _AsItSays:
    """Stands for an exception in a pickle, which then is as its class says.

    Not as `copyreg` says: tblib, once installed there, forgets what isn't in ``args``,
    such as the code of a SystemExit.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


class _Rebuilt:
    """Stands for an exception in a pickle and becomes it again when loaded."""

    def __init__(self, error: BaseException) -> None:
        self._kind = type(error)
        self._args = error.args
        if isinstance(error, BaseExceptionGroup):
            # Those in it may be such exceptions as well.
            self._args = error.message, [_Rebuilt(one) for one in error.exceptions]
        self._dict = error.__dict__

    @classmethod
    def from_what_travels(cls, error: BaseException) -> _Rebuilt:
        """Leave out attributes that can't be sent; such arguments become text."""
        rebuilt = cls(error)
        rebuilt._args = tuple(arg if _travels(arg) else str(arg) for arg in error.args)
        rebuilt._dict = {
            name: value for name, value in error.__dict__.items() if _travels(value)
        }
        return rebuilt

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._kind, self._args, self._dict)


def _travels(value: Any) -> bool:
    try:
        load([bytes(part) for part in dump(value)])
    except Exception as failure:
        debug(__name__, "a part of an exception does not travel: %r", failure)
        return False
    return True


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *args)
    _set(error, "args", args)
    error.__dict__.update(state)
    return error


def _set(error: BaseException, name: str, value: Any) -> None:
    # A frozen dataclass would refuse.
    BaseException.__setattr__(error, name, value)
