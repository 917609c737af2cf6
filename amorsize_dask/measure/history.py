"""What earlier runs have measured of stages, kept on disk for this user and machine.

Looked up by fingerprints, which say what a stage's functions are: see
`execute.identity`. It is a cache: what is missing or broken is measured anew.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from amorsize_dask.core.experience import Experience
from amorsize_dask.measure.costs import fingerprint
from amorsize_dask.measure.kept_file import cache_folder, read_json, write_json

logger = logging.getLogger(__name__)

#: Version of the file's form; files of other versions are not read.
VERSION = 2

#: Stages that are kept, those that ran last. Smaller: programs that are run in turn
#: forget each other; larger: reading the file delays the first compute of a process,
#: 1 ms for 500.
MAX_KEPT = 500

#: Characters of a file that are read: MAX_KEPT stages take half of it, and most of it
#: if their names are in scripts of which each sign takes 12. Smaller: stages with long
#: names don't fit; larger: a file that is none of ours is read to its end.
MAX_CHARACTERS = 700_000

#: Numbers from which on one isn't a measurement. Smaller: what was measured is refused;
#: larger: a file that was tampered with has runs end by an overflow.
MOST = 1e30

#: Characters of a stage's name that are kept; it is for people.
MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one stage."""

    #: The prefix of its keys when it last ran, for people.
    name: str
    experience: Experience


class History:
    """What is known from earlier runs, those of this process included.

    It may be used by several threads. Several processes of a user may save theirs: each
    keeps what the others have saved, and of a stage that two have run what was saved
    last.

    Parameters
    ----------
    folder : Path, optional
        Where the file is; in the user's cache folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        #: In the order in which they ran last; ``None``: not read so far.
        self._entries: dict[str, Entry] | None = None
        # The file that was read, if what is new is all that isn't in it.
        self._seen: _Seen = None
        self._news: set[str] = set()

    def recall(self, stage: str) -> Experience | None:
        """Return what is known of the stage with a fingerprint, if anything is."""
        with self._lock:
            entry = self._read().get(stage)
        return None if entry is None else entry.experience

    def note(self, stage: str, name: str, experience: Experience) -> None:
        """Take in what a run has shown of a stage."""
        with self._lock:
            entries = self._read()
            entries.pop(stage, None)
            entries[stage] = Entry(name[:MAX_NAME], experience)
            self._news.add(stage)

    def entries(self) -> dict[str, Entry]:
        """Return all that is known, by fingerprint; what ran last comes last."""
        with self._lock:
            return dict(self._read())

    def save(self) -> None:
        """Write what is new to disk; if that can't be done, nothing happens."""
        with self._lock:
            if not self._news or self._entries is None:
                return
            kept = self._entries
            # Reading a long one takes longer than all else at the end of a run.
            if self._seen is None or self._seen != _look(self._folder):
                kept = _load(self._folder)
                for stage, entry in self._entries.items():
                    if stage in self._news:
                        kept.pop(stage, None)
                        kept[stage] = entry
            self._entries = dict(list(kept.items())[-MAX_KEPT:])
            # Others may replace what is written now at any time.
            self._seen, self._news = None, set()
            content = {
                "version": VERSION,
                "stages": {
                    stage: {"name": entry.name, **asdict(entry.experience)}
                    for stage, entry in self._entries.items()
                },
            }
            try:
                write_json(_path(self._folder), content)
            except OSError as error:
                logger.debug("what runs have shown is not kept: %r", error)

    def clear(self) -> None:
        """Forget everything, on disk too.

        Raises
        ------
        OSError
            If the file is there and can't be removed.
        """
        with self._lock:
            self._entries = {}
            self._seen, self._news = None, set()
            _path(self._folder).unlink(missing_ok=True)

    def _read(self) -> dict[str, Entry]:
        if self._entries is None:
            self._seen = _look(self._folder)
            self._entries = _load(self._folder)
        return self._entries


#: Which file it is, when it was written and how long it is; ``None``: there is none.
_Seen = tuple[int, int, int] | None


def _look(folder: Path | None) -> _Seen:
    """Return what tells a file of entries from the one that takes its place."""
    try:
        found = _path(folder).lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _path(folder: Path | None) -> Path:
    return (folder or cache_folder("history")) / f"{fingerprint()}.json"


def _load(folder: Path | None) -> dict[str, Entry]:
    try:
        content = read_json(_path(folder), MAX_CHARACTERS)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise ValueError("another version")
        return {stage: _check(entry) for stage, entry in content["stages"].items()}
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,  # a list where a table belongs
        OverflowError,  # a whole number that no float can hold
        RecursionError,  # brackets within brackets
    ) as error:
        logger.debug("nothing is known from earlier runs: %r", error)
        return {}


def _check(entry: dict[str, Any]) -> Entry:
    """Build an entry from what was read; raises for whatever isn't as it should be."""
    numbers = {**entry}
    name = numbers.pop("name")
    if not isinstance(name, str) or numbers.keys() != _FIELDS:
        raise TypeError(f"{sorted(entry)} instead of a name and {sorted(_FIELDS)}")
    for field, number in numbers.items():
        if field == "gil_fraction" and number is None:
            continue
        is_share = field.endswith("_fraction")
        if isinstance(number, bool) or not 0 <= number < MOST:
            raise ValueError(f"{field} is {number!r}")
        if is_share and number > 1:
            raise ValueError(f"{field} is {number!r}")
    if not isinstance(numbers["n_items"], int) or numbers["n_items"] < 1:
        raise ValueError(f"n_items is {numbers['n_items']!r}")
    return Entry(name, Experience(**numbers))


_FIELDS = {field.name for field in fields(Experience)}

#: The one that the schedulers of this process share.
shared = History()
