"""The process that worker processes are forked from.

It has imported what every worker needs, has one thread and never runs a task, so a
fork is quick and can't inherit a lock that some thread holds, as a fork of the caller
could. It runs in a session of its own: Ctrl-C in a terminal goes to the caller alone.

Unlike `multiprocessing`'s fork server it doesn't import the caller's ``__main__``:
functions from there come by value. A script needs no guard, and its body runs once.

The caller sends a byte and a socket for each worker that it wants; what comes back is
a line for each worker that has ended, with its exit code and its peak. When it says
that it is done, or its end closes without a word, because it is dead, all workers are
killed. In the latter case the spool folders go too that the caller has told of.

Each worker leads a process group: what a task has started is asked to end (SIGTERM)
when its worker has ended, however that happened, unless it has left the group.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import struct
import traceback
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from amorsize_dask.execute import worker
from amorsize_dask.execute.batch import flush
from amorsize_dask.measure.rss import peak_rss_of

#: A request for one worker.
FORK = b"f"

#: Word that the caller is done; it removes its folders itself.
QUIT = b"q"

#: Before the size and the names, as JSON, of a run's spool folders.
FOLDERS = b"s"
SIZE = struct.Struct("<I")

#: Spool folders that are known, the last ones. Smaller: those of runs that go on at the
#: same time are forgotten; larger: there are more names to try in the end.
MAX_FOLDERS = 128


def main(control_fd: int, idle_s: float | None, modules: list[str]) -> None:
    """Serve until the caller goes, or until no worker was left for `idle_s`.

    Parameters
    ----------
    control_fd : int
        This end of the socket to the caller.
    idle_s : float or None
        Seconds; ``None``: for ever.
    modules : list of str
        What is to be imported for all workers.
    """
    worker.preload(modules)
    # Workers share the memory of what they don't touch, and the collector touches all.
    gc.freeze()
    gc.enable()
    control = socket.socket(fileno=control_fd)
    wake_reader, wake_writer = socket.socketpair()
    wake_reader.setblocking(False)
    wake_writer.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pids: set[int] = set()
    folders: deque[str] = deque(maxlen=MAX_FOLDERS)
    with control, wake_reader, wake_writer, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_reader, selectors.EVENT_READ)
        while True:
            ready = selector.select(None if pids else idle_s)
            if not ready and not pids:
                return
            for key, _ in ready:
                if key.fileobj is wake_reader:
                    with suppress(BlockingIOError):
                        wake_reader.recv(4096)
                    continue
                word, fds = _listen(control)
                if word == FORK:
                    _fork(control, fds, pids, idle_s)
                elif word == FOLDERS:
                    folders.extend(_read_folders(control))
                else:
                    _kill(pids)
                    if word != QUIT:
                        _remove(folders)
                    return
            _reap(control, pids)


def _listen(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return the caller's next word; an empty one if it has gone."""
    try:
        word, fds, _, _ = socket.recv_fds(control, 1, 1)
    except ConnectionError:
        return b"", []
    return word, fds


def _read_folders(control: socket.socket) -> list[str]:
    size = control.recv(SIZE.size, socket.MSG_WAITALL)
    if len(size) < SIZE.size:
        return []
    data = control.recv(SIZE.unpack(size)[0], socket.MSG_WAITALL)
    try:
        folders: list[str] = json.loads(data)
    except ValueError:
        return []  # the caller has gone before the end
    return folders


def _remove(folders: Iterable[str]) -> None:
    """Remove what a caller that was killed has left."""
    import shutil

    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _fork(
    control: socket.socket, fds: list[int], pids: set[int], idle_s: float | None
) -> None:
    """Fork one worker."""
    try:
        pid = os.fork()
    except OSError:
        pid = -1  # the caller sees that the pipe closes
    if pid:
        if pid > 0:
            pids.add(pid)
        for fd in fds:
            os.close(fd)
        return
    status = 1
    try:
        os.setpgid(0, 0)
        worker.reset_signals()
        control.close()
        worker.main(socket.socket(fileno=fds[0]), idle_s)
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        # No clean-up handlers: they are the fork server's, not the worker's.
        flush()
        os._exit(status)
    raise AssertionError("unreachable")


def _reap(control: socket.socket, pids: set[int]) -> None:
    """Tell the caller which workers have ended, and how."""
    while pids:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid in pids:
            end_group(pid)
            pids.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):
                control.sendall(b"%d %d %d\n" % (pid, code, peak_rss_of(usage)))


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        end_group(pid)


def end_group(pid: int) -> None:
    """Ask what the tasks of a worker that has ended have started to end as well."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGTERM)
