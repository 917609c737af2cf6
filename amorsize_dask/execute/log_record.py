"""A record of `logging` on its way from a worker to the caller.

What is said travels as plain values, which can always be read. What may not come back,
an exception or what a user has added to the record, travels as a pickle beside its text
and takes the text's place if it does.
"""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from amorsize_dask.errors import SerializationError
from amorsize_dask.execute.failure import dump_failure, load_failure
from amorsize_dask.execute.wire import dump, load

#: Characters of a text that travel. Smaller: tracebacks are cut; larger: a record may
#: not fit into the pipe at once, and its worker waits for the caller.
MAX_TEXT = 20_000

#: Bytes of the pickles beside the texts that travel; see above.
MAX_BYTES = 60_000

_PLAIN = (str, int, float, bool, type(None))

#: What is told by other attributes, or is new in the caller.
_LEFT_OUT = {
    "args",
    "exc_info",
    "exc_text",
    "filename",
    "levelname",
    "message",
    "module",
    "msg",
    "relativeCreated",
}

#: Plain attributes, and pickles of an exception and of others by name.
DumpedRecord = tuple[dict[str, Any], bytes | None]


def dump_record(record: logging.LogRecord) -> DumpedRecord:
    """Turn a record into what can be pickled and read again.

    Raises
    ------
    Exception
        What formatting the message raises, as for any handler.
    """
    plain: dict[str, Any] = {}
    pickles: dict[str, Any] = {}
    for name, value in record.__dict__.items():
        if name in _LEFT_OUT:
            continue
        if type(value) in _PLAIN:
            plain[name] = cut(value) if type(value) is str else value
        else:
            plain[name] = _describe(value)
            with suppress(Exception):
                pickles[name] = [bytes(part) for part in dump(value)]
    # Who groups records by what they say without its arguments still can.
    if type(record.msg) is str and _are_plain(record.args):
        plain["msg"], plain["args"] = cut(record.msg), record.args
        # What it can't say fails where it is said.
        record.getMessage()
    else:
        plain["msg"], plain["args"] = cut(record.getMessage()), None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        plain["exc_text"] = cut("".join(traceback.format_exception(error)).rstrip("\n"))
        pickles["exc_info"] = [bytes(part) for part in dump_failure(error)]
    elif record.exc_text:
        plain["exc_text"] = cut(record.exc_text)
    beside = pickle.dumps(pickles) if pickles else None
    if beside is not None and len(beside) > MAX_BYTES:
        beside = None
    return plain, beside


def load_record(dumped: DumpedRecord) -> logging.LogRecord:
    """Make the record anew, as one of this process's logging."""
    plain, beside = dumped
    record = logging.makeLogRecord(plain)
    record.levelname = logging.getLevelName(record.levelno)
    record.filename = os.path.basename(record.pathname)
    record.module = os.path.splitext(record.filename)[0]
    # Since when it counts is another moment in each process.
    now = logging.makeLogRecord({})
    record.relativeCreated = now.relativeCreated - 1000 * (now.created - record.created)
    for name, parts in pickle.loads(beside).items() if beside else ():
        # What can't be had here is a text already.
        with suppress(Exception):
            if name != "exc_info":
                setattr(record, name, load(parts))
                continue
            error = load_failure(record.name, parts)
            if not isinstance(error, SerializationError):
                record.exc_info = type(error), error, error.__traceback__
                record.exc_text = None
    return record


def handle_record(dumped: DumpedRecord) -> None:
    """Do with a worker's record what is done with those that are made here."""
    record = load_record(dumped)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def cut(text: str) -> str:
    """Return a text, or the beginning of one that is too long."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _are_plain(args: Any) -> bool:
    if isinstance(args, Mapping):
        return type(args) is dict and _are_plain((*args, *args.values()))
    return all(
        type(arg) in _PLAIN and (type(arg) is not str or len(arg) <= MAX_TEXT)
        for arg in args or ()
    )


def _describe(value: Any) -> str:
    try:
        return cut(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
