"""How much memory a program and its workers take together, at their peak."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

#: Seconds between two looks. Smaller: looking takes the time of what is looked at;
#: larger: a peak between two looks is missed.
LOOK_S = 0.003


class MemoryMeter:
    """Looks at this process, its children and spool files while it is open.

    Attributes
    ----------
    peak_bytes : int
        The most that they took above what they took in the beginning: resident memory
        that is no one else's, and files in shared memory.
    """

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._command = self._me.cmdline()
        self._is_open = True
        self.peak_bytes = 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._start_bytes = self._read()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        self._thread.join()

    def _look(self) -> None:
        while self._is_open:
            self.peak_bytes = max(self.peak_bytes, self._read() - self._start_bytes)
            time.sleep(LOOK_S)

    def _read(self) -> int:
        n_bytes = 0
        for process in (self._me, *self._me.children(recursive=True)):
            with suppress(psutil.Error):
                if process != self._me and process.cmdline() == self._command:
                    # It is about to become another program, and has nothing of its own.
                    continue
                memory = process.memory_info()
                n_bytes += memory.rss - memory.shared
        for path in Path("/dev/shm").glob("amorsize-*/*"):
            with suppress(OSError):
                n_bytes += path.stat().st_blocks * 512
        return n_bytes
