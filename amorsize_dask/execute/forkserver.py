"""The process that worker processes are forked from.

It has imported what every worker needs, has one thread and never runs a task, so a
fork is quick and can't inherit a lock that some thread holds, as a fork of the caller
could. It runs in a session of its own: Ctrl-C in a terminal goes to the caller alone.

Unlike `multiprocessing`'s fork server it doesn't import the caller's ``__main__``:
functions from there come by value. A script needs no guard, and its body runs once.

The caller sends a byte and a socket for each worker that it wants; what comes back is
a line for each worker that has ended, with its exit code and its peak. When the
caller's end closes, because it is done or dead, all workers are killed.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import traceback
from contextlib import suppress

from amorsize_dask.execute import worker
from amorsize_dask.measure.rss import peak_rss_of

#: A request for one worker.
FORK = b"f"


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
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=control_fd)
    wake_reader, wake_writer = socket.socketpair()
    wake_reader.setblocking(False)
    wake_writer.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pids: set[int] = set()
    with selectors.DefaultSelector() as selector:
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
                elif not _fork(control, pids, idle_s):
                    _kill(pids)
                    return
            _reap(control, pids)


def _fork(control: socket.socket, pids: set[int], idle_s: float | None) -> bool:
    """Fork one worker, if that is what the caller asks; False if it has gone."""
    try:
        data, fds, _, _ = socket.recv_fds(control, 1, 1)
    except ConnectionError:
        return False
    if not data:
        return False
    try:
        pid = os.fork()
    except OSError:
        pid = -1  # the caller sees that the pipe closes
    if pid:
        if pid > 0:
            pids.add(pid)
        for fd in fds:
            os.close(fd)
        return True
    status = 1
    try:
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
        worker.flush()
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
