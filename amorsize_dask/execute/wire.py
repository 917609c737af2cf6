"""Values as bytes: pickle 5 with large buffers beside it, and frames to send them in.

A message is a list of parts. The first is a pickle, the others are the buffers that
it refers to, which are never copied into it. Nor are large bytes: a pickle with such is
kept in pieces. On the wire a message is a frame: how many parts, how long each is, and
the parts.
"""

from __future__ import annotations

import copyreg
import pickle
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

from amorsize_dask.measure.mapped_array import find_reducers

#: Anything with contiguous bytes.
Buffer = bytes | bytearray | memoryview


class Pieces:
    """A pickle, as it is written; bytes that are large are the user's own objects.

    To copy them would take several times as long as writing them to a file: into
    memory that is new each time.
    """

    def __init__(self) -> None:
        #: What was written before the last of the large ones.
        self.closed: list[Buffer] = []
        self._open = BytesIO()

    def write(self, piece: Buffer) -> None:
        """Take what a pickler has made, or what it was given."""
        if len(piece) < PIECE_BYTES or piece[0] in _PICKLED:
            self._open.write(piece)
            return
        self.closed += (self._open.getvalue(), piece)
        self._open = BytesIO()

    def finish(self) -> Part:
        """Return all that was written."""
        last = self._open.getvalue()
        if not self.closed:
            return last
        self.closed.append(last)
        return self

    def __len__(self) -> int:
        return sum(map(len, self.closed))

    def __bytes__(self) -> bytes:
        return b"".join(self.closed)


#: What can be sent.
Part = Buffer | Pieces

#: Bytes below which a buffer stays inside the pickle. Smaller: lists of small arrays
#: become thousands of parts; larger: larger buffers are copied once more.
OUT_OF_BAND_BYTES = 8192

#: Bytes of the user's that are sent from where they are. Smaller: none are, since the
#: pickler itself copies what is below 64 KiB; larger: more is copied.
PIECE_BYTES = 1 << 17

#: What pieces of the pickler's own begin with: the opcodes PROTO and FRAME.
_PICKLED = b"\x80\x95"

COUNT = struct.Struct("<I")

#: What `multiprocessing` calls the script in a process that it has spawned.
SPAWNED_MAIN = "__mp_main__"


def dump(value: Any, *, shares_files: bool = False) -> list[Part]:
    """Pickle a value into parts.

    The C pickler is tried first. It names functions and classes by their module, so
    where that module is ``__main__``, which in a worker is another one, and where the
    user has registered a module to be pickled by value, cloudpickle does it.

    Parameters
    ----------
    value : object
        What to pickle.
    shares_files : bool, optional
        Whether arrays that map a file may be sent as its name, since whoever loads
        them does so at once and on this machine.

    Raises
    ------
    Exception
        Whatever the pickler raises for a value that can't be pickled: `TypeError`,
        `pickle.PicklingError`, `AttributeError`, `RecursionError` or what a
        ``__reduce__`` of the user's raises.
    """
    reducers = find_reducers() if shares_files else {}
    if not _has_registered():
        # A lambda, a closure or a local class fails: cloudpickle's own error, if it has
        # one too, is the one to tell.
        with suppress(Exception):
            parts = _dump_with(partial(_make_pickler, reducers), value)
            if not _has_main(parts[0]):
                return parts
    # Imported where it is needed: it takes a third of what a worker process boots in.
    from amorsize_dask.execute.by_value import find_pickler

    return _dump_with(find_pickler(shares_files=bool(reducers)), value)


def _has_registered() -> bool:
    """Whether there are modules that are pickled by value."""
    main = sys.modules.get(SPAWNED_MAIN)
    if main is not None and main.__name__ == SPAWNED_MAIN:
        return True
    if "cloudpickle" not in sys.modules:
        return False
    import cloudpickle  # another thread may be in the midst of it

    return bool(cloudpickle.list_registry_pickle_by_value())


def _has_main(part: Part) -> bool:
    """Whether there is the name of the script in a pickle."""
    # Every other piece is the user's. From the end it is found in a third of the time.
    return any(
        piece.rfind(b"__main__") >= 0  # type: ignore[union-attr] # none is a view
        for piece in buffers_of(part)[::2]
    )


def _make_pickler(
    reducers: dict[type, Any], file: Pieces, **options: Any
) -> pickle.Pickler:
    pickler = pickle.Pickler(file, **options)
    if reducers:
        pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    return pickler


def _dump_with(make_pickler: Any, value: Any) -> list[Part]:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(view)
        return False

    pieces = Pieces()
    make_pickler(pieces, protocol=5, buffer_callback=keep).dump(value)
    return [pieces.finish(), *buffers]


def load(parts: Sequence[Buffer]) -> Any:
    """Rebuild a value; arrays are writable if the parts are."""
    return pickle.loads(parts[0], buffers=parts[1:])


def sizes_of(parts: Sequence[Part]) -> tuple[int, ...]:
    """Return the bytes of each part."""
    return tuple(
        part.nbytes if isinstance(part, memoryview) else len(part) for part in parts
    )


def count_bytes(parts: Sequence[Part]) -> int:
    """Return the bytes of all parts together."""
    return sum(sizes_of(parts))


def buffers_of(part: Part) -> Sequence[Buffer]:
    """Return what a part consists of."""
    return part.closed if isinstance(part, Pieces) else (part,)


def frame(parts: Sequence[Part]) -> list[Buffer]:
    """Return what is to be sent for a message, in order."""
    sizes = sizes_of(parts)
    head = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    sent: list[Buffer] = [head]
    for part, size in zip(parts, sizes, strict=True):
        if size:
            sent += buffers_of(part)
    return sent


def unpack_sizes(data: Buffer) -> tuple[int, ...]:
    """Return the sizes of the parts from the bytes that follow the count."""
    return struct.unpack(f"<{len(data) // 8}Q", data)
