"""Tasks that change the process they run in, or start others, and don't tidy up."""

from __future__ import annotations

import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: What goes into a spool file.
LARGE = 300_000


class Loud:
    """Takes the place of a stream, and raises whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def act_rudely(i: int, what: str, folder: str, home: int) -> bytes:
    """Do something to this process, in the first tasks; return what is large."""
    if i < 3 and os.getpid() != home:
        _ACTS[what](folder)
    return bytes([i]) * LARGE


def _change_folder(folder: str) -> None:
    os.chdir("/")


def _remove_folder(folder: str) -> None:
    made = Path(folder) / str(os.getpid())
    made.mkdir(exist_ok=True)
    os.chdir(made)
    made.rmdir()


def _replace_streams(folder: str) -> None:
    sys.stdout = sys.stderr = Loud()  # type: ignore[assignment]


def _close_streams(folder: str) -> None:
    sys.stdout.close()
    sys.stdin.close()


def _close_descriptors(folder: str) -> None:
    for fd in (0, 1, 2):
        with suppress(OSError):  # another task has done it
            os.close(fd)


def _set_mask(folder: str) -> None:
    os.umask(0o777)


def _empty_environment(folder: str) -> None:
    os.environ.clear()


def _ignore_signals(folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def _set_alarm(folder: str) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)


def _leave_threads(folder: str) -> None:
    for daemon in (False, True):
        threading.Thread(target=time.sleep, args=(600,), daemon=daemon).start()


def _raise_in_thread(folder: str) -> None:
    thread = threading.Thread(target=int, args=("not a number",))
    threading.excepthook = lambda *_: None
    thread.start()
    thread.join()


def _fork_and_return(folder: str) -> None:
    os.fork()


def _fork_and_raise(folder: str) -> None:
    if not os.fork():
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        raise ValueError("in a child")


def _fork_and_exit(folder: str) -> None:
    if not os.fork():
        raise SystemExit(3)


def _write_small_files_only(folder: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE // 2, hard))


def _open_no_files(folder: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))


class UnheardError(Exception):
    """Of a task that leaves nothing to tell of it with."""


def fail_without_files(i: int) -> int:
    """Use up all descriptors, and raise."""
    _use_up_files("")
    raise UnheardError(i)


def _use_up_files(folder: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return


def _start_many(folder: str) -> None:
    for _ in range(100):
        if not os.fork():
            os._exit(0)


def _set_recursion_limit(folder: str) -> None:
    sys.setrecursionlimit(100_000)


_ACTS = {
    "changes the folder": _change_folder,
    "removes its folder": _remove_folder,
    "replaces the streams": _replace_streams,
    "closes the streams": _close_streams,
    "closes their descriptors": _close_descriptors,
    "sets the mask": _set_mask,
    "empties the environment": _empty_environment,
    "ignores signals": _ignore_signals,
    "sets an alarm": _set_alarm,
    "leaves threads": _leave_threads,
    "raises in a thread": _raise_in_thread,
    "forks and returns": _fork_and_return,
    "forks and raises": _fork_and_raise,
    "forks and exits": _fork_and_exit,
    "writes small files only": _write_small_files_only,
    "may open no files": _open_no_files,
    "uses up all descriptors": _use_up_files,
    "starts many children": _start_many,
    "sets the recursion limit": _set_recursion_limit,
}
ACTS = tuple(_ACTS)


# -- what costs the worker -------------------------------------------------------------


def end_rudely(i: int, what: str, folder: str, home: int) -> int:
    """Make an end of this process, or of its pipe, in the third task."""
    if i == 3 and os.getpid() != home:
        _ENDS[what](folder)
    return i


def _close_all(folder: str) -> None:
    os.closerange(3, 4096)


def _close_all_and_hang(folder: str) -> None:
    os.closerange(3, 4096)
    time.sleep(600)


def _become_another_program(folder: str) -> None:
    os.execv("/bin/sleep", ["sleep", "600"])


def _leave_a_child_and_die(folder: str) -> None:
    """Die while a child, which can't be reached any more, has our pipe open."""
    if not os.fork():
        os.setsid()
        end = time.monotonic() + 60
        while not (Path(folder) / "over").exists() and time.monotonic() < end:
            time.sleep(0.05)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def _write_to_pipe(data: bytes) -> None:
    for fd in range(3, 50):
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as ours:
            ours.send(data)


def _write_sizes(folder: str) -> None:
    _write_to_pipe(b"\x01\x00\x00\x00" + b"\xff" * 8)


def _write_message(folder: str) -> None:
    _write_to_pipe(b"\x01\x00\x00\x00\x05" + bytes(7) + b"hello")


def _overflow_stack(folder: str) -> None:
    sys.setrecursionlimit(10**9)

    def go_on() -> None:
        # A call through C each time: Python's own need no stack.
        functools.partial(go_on)()

    go_on()


def _stop(folder: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


_ENDS = {
    "closes all descriptors": _close_all,
    "closes all descriptors and hangs": _close_all_and_hang,
    "becomes another program": _become_another_program,
    "leaves a child and dies": _leave_a_child_and_die,
    "announces a large message": _write_sizes,
    "writes a message of its own": _write_message,
    "overflows the stack": _overflow_stack,
    "is stopped": _stop,
}

#: How the worker is said to have ended.
ENDINGS = {
    "closes all descriptors": "exit code 1",
    "closes all descriptors and hangs": "closing its pipe",
    "becomes another program": "closing its pipe",
    "leaves a child and dies": "SIGKILL",
    "announces a large message": "made no sense",
    "writes a message of its own": "made no sense",
    "overflows the stack": "SIGSEGV",
}


# -- single ones -----------------------------------------------------------------------


def kill_fork_server(i: int, home: int) -> int:
    """End the process that workers come from."""
    if i == 3 and os.getppid() != home:
        os.kill(os.getppid(), signal.SIGKILL)
    return i


def remove_spool(i: int, home: int) -> bytes:
    """Remove all files of the run, in the third task; return what is large."""
    if i == 3 and os.getpid() != home:
        # By itself it couldn't know where they are.
        from amorsize_dask.execute import worker

        worker.remove_place()
    return bytes([i]) * LARGE


def count_both(first: bytes, second: bytes) -> int:
    """Return how long two values are."""
    return len(first) + len(second)


def recurse(i: int) -> int:
    """Call itself without end, if it is the third task."""
    return recurse(i) if i == 3 else i


def nest_deeply(i: int) -> Any:
    """Return lists in lists, more than can be pickled or gone through."""
    value: Any = i
    for _ in range(100_000):
        value = [value]
    return value


def go_elsewhere(i: int) -> tuple[str, int]:
    """Return the folder that this process is in, and go somewhere else."""
    folder = os.getcwd()
    os.chdir("/")
    return folder, os.getpid()


def start_others() -> list[int]:
    """Start processes that go on, the last one in a session of its own."""
    _others.extend(
        subprocess.Popen(["sleep", "600"], start_new_session=is_own)
        for is_own in (False, True)
    )
    return [other.pid for other in _others]


_others: list[subprocess.Popen[bytes]] = []
