"""Starting worker processes: from a fork server, or each by itself.

Both take no part in `multiprocessing`, for its children import the caller's
``__main__``, may not have children themselves, and need a third process to keep track
of semaphores that aren't used here.
"""

from __future__ import annotations

import array
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.spawn import get_executable
from types import FrameType
from typing import NamedTuple, Protocol

from amorsize_dask.execute.channel import SEND_FLAGS
from amorsize_dask.execute.forkserver import (
    FOLDERS,
    FORK,
    MAX_FOLDERS,
    QUIT,
    SIZE,
    end_group,
)
from amorsize_dask.measure.hints import THREAD_VARIABLES

logger = logging.getLogger(__name__)

#: Seconds to wait for the exit status of a worker whose pipe has closed. It follows
#: within milliseconds; longer only if the fork server itself is gone.
STATUS_TIMEOUT_S = 1.0

#: Dask's own seed for the hashes of its worker processes, see dask issue 6640: without
#: one, equal strings hash differently from worker to worker.
HASH_SEED = "6640"

#: How glibc hands out memory in workers, in bytes. By itself it learns from the first
#: large array that is freed to keep room for such, and then a batch of results holds
#: its memory until the last one is gone. Threshold of what is given back at once:
#: smaller, and small arrays cost page faults each time; larger, and large ones stay.
#: What else may stay: twice of that, as glibc has it.
ALLOCATOR_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}

#: What is imported stays: to look for garbage meanwhile takes a tenth of a boot.
_BOOT = (
    "import gc, json, sys; gc.disable(); sys.path[:] = json.loads(sys.argv[1]); "
    "from amorsize_dask.execute import {module}; "
    "{module}.main(int(sys.argv[2]), *json.loads(sys.argv[3]))"
)


class Ending(NamedTuple):
    """How a worker has ended."""

    #: A signal's name or an exit code, for people.
    cause: str
    #: Its highest resident bytes; 0 if that isn't known.
    peak_rss_bytes: int = 0


UNKNOWN_ENDING = Ending("an unknown cause")


class Launcher(Protocol):
    """Starts worker processes and knows how they ended."""

    def launch(self, modules: Sequence[str] = ()) -> socket.socket:
        """Start a worker; return the caller's end of its pipe, or raise OSError.

        Modules are imported before it is up, if nothing is that it comes from.
        """

    def ending(self, pid: int) -> Ending:
        """Say how a worker ended that has closed its pipe."""

    def note_folders(self, folders: Sequence[str]) -> None:
        """Have these removed if this process is killed."""

    def pids(self) -> set[int]:
        """Return the processes that this launcher itself keeps running."""

    def close(self) -> None:
        """End all that was started."""

    def forget(self) -> None:
        """Let go of all that was started without ending it: it is another's."""


def worker_environ() -> dict[str, str]:
    """Return the environment in which workers start."""
    environ = dict(os.environ)
    for name in THREAD_VARIABLES:
        environ.setdefault(name, "1")
    for name, value in ALLOCATOR_VARIABLES.items():
        environ.setdefault(name, value)
    if environ.get("PYTHONHASHSEED") in (None, "0", "random"):
        environ["PYTHONHASHSEED"] = HASH_SEED
    return environ


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait until a process that is being started is noted somewhere."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not is_main or not callable(before):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[0])


def describe_exit(code: int) -> str:
    """Name an exit code, negative ones being signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class ForkserverLauncher:
    """Starts a fork server once, and has it fork the workers."""

    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._endings: dict[int, Ending] = {}
        self._unread = b""
        self._folders: deque[str] = deque(maxlen=MAX_FOLDERS)

    def launch(self, modules: Sequence[str] = ()) -> socket.socket:
        """Start a worker; start the fork server first if there is none."""
        with self._lock:
            self._drain_endings()
            ours, theirs = socket.socketpair()
            with theirs, _closed_on_error(ours):
                try:
                    _ask_to_fork(self._started(modules), theirs)
                except OSError:
                    # It has ended since: idle, or killed. Another one, once.
                    self._stop()
                    _ask_to_fork(self._started(modules), theirs)
            return ours

    def _started(self, modules: Sequence[str]) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = _start("forkserver", theirs, self._idle_s, modules)
            if self._folders:
                _send_folders(self._control, list(self._folders))
        return self._control

    def note_folders(self, folders: Sequence[str]) -> None:
        """Tell the fork server, if it is up; one that is started later hears of it."""
        with self._lock:
            self._folders.extend(folders)
            if self._control is not None:
                self._drain_endings()
                with suppress(OSError):  # it has ended
                    _send_folders(self._control, folders)

    def ending(self, pid: int) -> Ending:
        """Say how a worker ended; waits a little for the news."""
        unknown = UNKNOWN_ENDING
        with self._lock:
            if self._control is not None:
                self._control.settimeout(STATUS_TIMEOUT_S)
                try:
                    while pid not in self._endings and self._read_endings():
                        pass
                except TimeoutError:
                    unknown = Ending("closing its pipe")
                except OSError as error:
                    logger.debug("the fork server has gone: %r", error)
        return self._endings.pop(pid, unknown)

    def _drain_endings(self) -> None:
        """Read what has come: if no one did, the fork server would wait for ever."""
        if self._control is not None:
            self._control.setblocking(False)
            with suppress(OSError):
                while self._read_endings():
                    pass
            self._control.setblocking(True)

    def _read_endings(self) -> bool:
        assert self._control is not None
        data = self._control.recv(4096)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            pid, code, peak_rss_bytes = map(int, line.split())
            self._endings[pid] = Ending(describe_exit(code), peak_rss_bytes)
        return bool(data)

    def pids(self) -> set[int]:
        """Return the fork server's process."""
        return set() if self._process is None else {self._process.pid}

    def close(self) -> None:
        """End the fork server, which kills its workers."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """Close this process's copy of the control socket."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            _disown(self._process)

    def _stop(self) -> None:
        if self._control is not None:
            # Without a word it would take this process for dead.
            with suppress(OSError):
                self._control.sendmsg([QUIT], [], SEND_FLAGS)
            self._control.close()
        if self._process is not None:
            _end(self._process)
        self._control = self._process = None
        self._endings.clear()
        self._unread = b""


class SpawnLauncher:
    """Starts each worker as a fresh interpreter."""

    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, modules: Sequence[str] = ()) -> socket.socket:
        """Start a worker."""
        for process in list(self._processes.values()):
            # Or it would stay in the system's table.
            if process.returncode is None and process.poll() is not None:
                end_group(process.pid)
        ours, theirs = socket.socketpair()
        with theirs, _closed_on_error(ours):
            process = _start("spawned", theirs, self._idle_s, modules)
        self._processes[process.pid] = process
        return ours

    def ending(self, pid: int) -> Ending:
        """Say how a worker ended; waits a little for it."""
        process = self._processes.pop(pid, None)
        if process is None:
            return UNKNOWN_ENDING
        try:
            return Ending(describe_exit(process.wait(STATUS_TIMEOUT_S)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Ending("closing its pipe")
        finally:
            end_group(pid)

    def note_folders(self, folders: Sequence[str]) -> None:
        """Do nothing: workers know the folders, and watch this process themselves."""

    def pids(self) -> set[int]:
        """Return nothing: there are workers only."""
        return set()

    def close(self) -> None:
        """Kill the workers that are left."""
        processes = list(self._processes.values())
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            end_group(process.pid)
        self._processes.clear()

    def forget(self) -> None:
        """Let go of the workers."""
        for process in self._processes.values():
            _disown(process)


def _disown(process: subprocess.Popen[bytes]) -> None:
    # It is a child of another process, which waits for it; say that it is waited for.
    process.returncode = 0


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _ask_to_fork(control: socket.socket, theirs: socket.socket) -> None:
    # Not `socket.send_fds`, which forgets its flags.
    fds = array.array("i", [theirs.fileno()])
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)
    control.sendmsg([FORK], [rights], SEND_FLAGS)


def _send_folders(control: socket.socket, folders: Sequence[str]) -> None:
    data = json.dumps(folders).encode()
    control.sendmsg([FOLDERS, SIZE.pack(len(data)), data], [], SEND_FLAGS)


def _start(
    module: str, sock: socket.socket, idle_s: float | None, modules: Sequence[str]
) -> subprocess.Popen[bytes]:
    arguments = [
        get_executable(),
        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
        "-c",
        _BOOT.format(module=module),
        # Anything else in it is passed over by imports.
        json.dumps([entry for entry in sys.path if isinstance(entry, str)]),
        str(sock.fileno()),
        json.dumps([idle_s, list(modules)]),
    ]
    return subprocess.Popen(
        arguments,
        pass_fds=[sock.fileno()],
        stdin=subprocess.DEVNULL,
        env=worker_environ(),
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has been told to end; kill it if it doesn't."""
    try:
        process.wait(STATUS_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
