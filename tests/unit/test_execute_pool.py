"""Worker processes: how they start, what they see, how they end, and that they do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from dask import config
from worker_calls import (
    PATIENCE_S,
    boot,
    call,
    is_gone,
    receive,
    receive_report,
    send_call,
    send_state,
    wait_until,
)
from worker_tasks import (
    describe_process,
    die,
    draw_by_numpy,
    draw_by_python,
    import_and_call,
    list_loaded,
    read_environ,
    recurse,
    touch_and_loop,
)

from amorsize_dask.errors import ArgumentError, WorkerStartError
from amorsize_dask.execute import forkserver, launch, worker
from amorsize_dask.execute.launch import HASH_SEED, describe_exit, worker_environ
from amorsize_dask.execute.pool import (
    START_METHODS,
    ProcessWorker,
    WorkerPool,
    live_processes,
)

MakePool = Callable[..., WorkerPool]


@pytest.fixture(scope="module", params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pool(start_method: str, _module_leaves_nothing: None) -> Iterator[WorkerPool]:
    """Return a pool with two idle workers, which are shared by tests."""
    pool = WorkerPool(start_method, None)
    for booted in boot(pool, 2):
        pool.give_back(booted)
    yield pool
    pool.close()


@pytest.fixture
def two(pool: WorkerPool) -> Iterator[list[ProcessWorker]]:
    """Return two workers, which are given back with the test."""
    taken = pool.take(2)
    assert len(taken) == 2
    yield taken
    for one in taken:
        pool.give_back(one)


@pytest.fixture
def make_pool(start_method: str) -> Iterator[MakePool]:
    """Return what makes a pool that is closed with the test."""
    pools = []

    def make(idle_s: float | None = None) -> WorkerPool:
        pool = WorkerPool(start_method, idle_s)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        lent = set(pool._lent)
        pool.close()
        for one in lent:
            pool.give_back(one)


@pytest.fixture
def forking() -> Iterator[WorkerPool]:
    """Return a pool with a fork server."""
    pool = WorkerPool("forkserver", None)
    yield pool
    lent = set(pool._lent)
    pool.close()
    for one in lent:
        pool.give_back(one)


def children() -> set[int]:
    """Return the processes of this one that have not ended."""
    found = psutil.Process().children(recursive=True)
    return {process.pid for process in found if not is_gone(process.pid)}


def workers_of(pool: WorkerPool) -> set[int]:
    return pool.pids() - pool._launcher.pids()


def run_script(script: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a program of its own that may talk to workers as these tests do."""
    path = os.pathsep.join(
        [os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return subprocess.Popen(
        [sys.executable, "-c", "from worker_calls import *\n" + script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def finish(program: subprocess.Popen[str]) -> str:
    """Wait for a program that should end well; return what it printed."""
    out, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0, err
    assert err == ""
    return out


# -- taking and giving back ------------------------------------------------------------


def test_workers_are_taken_and_given_back(pool: WorkerPool) -> None:
    """A worker is in one hand at a time, and there are no more than there are."""
    assert pool.n_idle == 2
    [first] = pool.take(1)
    [second] = pool.take(5)
    assert pool.take(1) == []
    assert pool.n_idle == 0
    assert first.pid != second.pid
    pool.give_back(first)
    assert pool.take(2) == [first]
    pool.give_back(first)
    pool.give_back(second)
    assert pool.n_idle == 2


def test_workers_work(two: list[ProcessWorker]) -> None:
    """They run what they are sent, in processes of their own, again and again."""
    for _ in range(2):
        pids = [call(one, os.getpid) for one in two]
        assert pids == [one.pid for one in two]
    assert len({*pids, os.getpid()}) == 3
    array = np.arange(1_000_000)
    assert call(two[0], np.sum, array) == array.sum()
    np.testing.assert_array_equal(call(two[1], np.negative, array), -array)


def test_exceptions_come_as_themselves(two: list[ProcessWorker]) -> None:
    """An exception of a local class is of that class, with the frames of the worker."""

    class LocalError(Exception):
        pass

    def fail(x: int) -> None:
        raise LocalError(x)

    with pytest.raises(LocalError, match="3") as info:
        call(two[0], fail, 3)
    assert info.traceback[-1].name == "fail"
    assert Path(str(info.traceback[-1].path)).samefile(__file__)
    with pytest.raises(RecursionError):
        call(two[0], recurse)


def test_pids(pool: WorkerPool, start_method: str) -> None:
    """The processes of a pool are its workers, idle or taken, and the fork server."""
    taken = pool.take(1)
    pids = pool.pids()
    pool.give_back(taken[0])
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    assert len(pids) == (3 if start_method == "forkserver" else 2)
    assert pids <= children
    assert pids == pool.pids()
    assert pids <= live_processes()


def test_pool_without_workers() -> None:
    """A pool that was not used has started nothing."""
    pool = WorkerPool("forkserver", None)
    assert pool.take(3) == []
    assert pool.boot(0) == []
    assert pool.pids() == set()
    pool.close()
    pool.close()


def test_unknown_start_method() -> None:
    """It is refused."""
    with pytest.raises(ArgumentError, match="'fork' can't be used"):
        WorkerPool("fork", None)


def test_busy_worker_is_killed_when_given_back(
    make_pool: MakePool, tmp_path: Path
) -> None:
    """A worker with a batch in flight ends; no one could take it."""
    pool = make_pool()
    busy, idle = boot(pool, 2)
    send_call(busy, touch_and_loop, tmp_path / "busy")
    busy.batches.append(([0], 100))
    wait_until((tmp_path / "busy").exists)
    pid = busy.pid
    assert pid is not None
    pool.give_back(busy)
    pool.give_back(idle)
    wait_until(lambda: is_gone(pid))
    assert pool.take(2) == [idle]
    assert call(idle, pow, 2, 3) == 8
    pool.give_back(idle)


# -- deaths ----------------------------------------------------------------------------


def test_worker_killed_while_idle(make_pool: MakePool) -> None:
    """It isn't taken any more; the others are."""
    pool = make_pool()
    first, second = boot(pool, 2)
    pool.give_back(first)
    pool.give_back(second)
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    wait_until(lambda: not second.is_up())
    assert pool.take(2) == [first]
    assert pool.n_idle == 0
    assert workers_of(pool) == {first.pid}
    pool.give_back(first)


def test_endings_of_workers(pool: WorkerPool) -> None:
    """How a worker ended is told: its exit code or signal, in whatever order asked."""
    ways: dict[str | int, str] = {
        3: "exit code 3",
        0: "exit code 0",
        "SIGKILL": "SIGKILL",
        "SIGSEGV": "SIGSEGV",
        "SIGTERM": "SIGTERM",
    }
    victims = boot(pool, len(ways))
    for how, victim in zip(ways, victims, strict=True):
        send_call(victim, die, how)
        with pytest.raises(EOFError):
            receive(victim)
    endings = [pool.ending(victim) for victim in reversed(victims)]
    assert endings == list(reversed(ways.values()))
    assert not {victim.pid for victim in victims} & pool.pids()


def test_ending_of_a_worker_that_never_got_up(make_pool: MakePool) -> None:
    """Of a worker that has not answered yet no process is known."""
    pool = make_pool()
    [unborn] = pool.boot(1)
    assert pool.ending(unborn) == "not getting up"


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "exit code 0"), (255, "exit code 255"), (-9, "SIGKILL"), (-99, "signal 99")],
)
def test_names_of_exit_codes(code: int, name: str) -> None:
    """Negative codes are signals, by name where they have one."""
    assert describe_exit(code) == name


def test_worker_that_has_left_its_number_to_others(
    forking: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a pool doesn't kill the process that has an ended worker's number."""
    [ended] = boot(forking, 1)
    forking.give_back(ended)
    assert ended.pid is not None
    os.kill(ended.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(ended.pid))
    with subprocess.Popen(["sleep", str(PATIENCE_S)]) as other:
        ended.pid = other.pid
        forking.close()
        other.send_signal(signal.SIGTERM)
        assert other.wait() == -signal.SIGTERM


def test_workers_without_a_process_descriptor(
    forking: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no such thing workers are killed by their number."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    first, second = boot(forking, 2)
    assert first.sentinel is None
    pids = forking.pids()
    forking.give_back(first)
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(second.pid))
    forking.give_back(second)
    forking.close()
    wait_until(lambda: all(map(is_gone, pids)))


def test_process_descriptor_tells_the_end(pool: WorkerPool) -> None:
    """Where the system has such a thing it can be waited for."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no process descriptors")
    [victim] = boot(pool, 1)
    assert victim.sentinel is not None
    assert victim.pid is not None
    with socket.socket(fileno=os.dup(victim.channel.fileno())):
        # The pipe is still open here, as it would be in a process that a task forked.
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(victim.pid))
    pool.ending(victim)
    assert victim.sentinel is None


# -- the fork server -------------------------------------------------------------------


def fork_server_of(pool: WorkerPool) -> int:
    [pid] = pool._launcher.pids()
    return pid


def test_killed_fork_server(forking: WorkerPool) -> None:
    """The next boot starts another one; workers of the first go on and are closed."""
    [first] = boot(forking, 1)
    server = fork_server_of(forking)
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: is_gone(server))
    [second] = boot(forking, 1)
    assert fork_server_of(forking) != server
    assert [call(one, pow, 2, 3) for one in (first, second)] == [8, 8]
    pids = forking.pids()
    assert {first.pid, second.pid} <= pids
    forking.close()
    wait_until(lambda: all(map(is_gone, pids)))
    forking.give_back(first)
    forking.give_back(second)


def test_ending_without_a_fork_server(forking: WorkerPool) -> None:
    """If the fork server has gone no one knows how a worker ended."""
    [victim] = boot(forking, 1)
    server = fork_server_of(forking)
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: is_gone(server))
    send_call(victim, die, 3)
    with pytest.raises(EOFError):
        receive(victim)
    assert forking.ending(victim) == "an unknown cause"


def test_many_workers_whose_ending_no_one_asks_for(
    forking: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the fork server tells of them doesn't pile up until it can't go on."""
    make = socket.socketpair

    def make_small() -> tuple[socket.socket, socket.socket]:
        pair = make()
        for sock in pair:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return pair

    with monkeypatch.context() as patch:
        # The pipe for its news is as small as the system allows.
        patch.setattr(socket, "socketpair", make_small)
        boot(forking, 1)
    for _ in range(25):
        [victim] = boot(forking, 1)
        pid = victim.pid
        assert pid is not None
        victim.batches.append(([0], 100))
        forking.give_back(victim)
        wait_until(lambda pid=pid: is_gone(pid))


def test_fork_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller sees that the worker's pipe closes; the fork server goes on."""

    def refuse() -> int:
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(os, "fork", refuse)
    ours, theirs = socket.socketpair()
    control, other = socket.socketpair()
    with ours, control, other:
        with theirs:
            launch._ask_to_fork(other, theirs)
        pids: set[int] = set()
        word, fds = forkserver._listen(control)
        assert word == forkserver.FORK
        forkserver._fork(control, fds, pids, None)
        assert not pids
        assert ours.recv(1) == b""


# -- starting --------------------------------------------------------------------------


def test_interpreter_that_cannot_be_started(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is an error which names it; once it can be started workers are."""
    pool = make_pool()
    with monkeypatch.context() as patch:
        patch.setattr(launch, "get_executable", lambda: "/no/such/python")
        for _ in range(2):
            with pytest.raises(WorkerStartError, match="/no/such/python"):
                pool.boot(2)
    assert workers_of(pool) == set()
    [booted] = boot(pool, 1)
    assert call(booted, pow, 2, 3) == 8


def test_system_that_has_no_descriptors_left(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that were started before it refused are let go of."""
    pool = make_pool()
    make = socket.socketpair
    made = []

    def make_some() -> tuple[socket.socket, socket.socket]:
        if len(made) == 2:
            raise OSError(24, "Too many open files")
        made.append(None)
        return make()

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", make_some)
        with pytest.raises(WorkerStartError, match="Too many open files"):
            pool.boot(4)
    [booted] = boot(pool, 1)
    assert pool.pids() == {booted.pid, *pool._launcher.pids()}


def test_import_path_with_odd_entries(
    forking: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that imports pass over, such as paths that aren't text, do no harm."""
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/no/such/folder"), b"bytes"])
    [booted] = boot(forking, 1)
    send_state(booted)
    assert call(booted, pow, 2, 3) == 8


def test_first_worker(forking: WorkerPool) -> None:
    """The first one is known to be that, and how long it took."""
    first, second = boot(forking, 2)
    assert (first.is_first, second.is_first) == (True, False)
    assert all(one.ready_at > one.asked_at for one in (first, second))
    [third] = boot(forking, 1)
    assert not third.is_first


def test_ctrl_c_while_a_process_is_started() -> None:
    """It strikes when the process is noted somewhere, once, and as the user wants."""
    reached = []

    def interrupt() -> None:
        with launch.hold_interrupts():
            for i in range(3):
                signal.raise_signal(signal.SIGINT)
                reached.append(i)

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert reached == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores it isn't disturbed."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with launch.hold_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_started_by_another_thread(pool: WorkerPool) -> None:
    """Any thread may start workers, though only the main one minds signals."""
    with ThreadPoolExecutor(1) as executor:
        [booted] = executor.submit(boot, pool, 1).result(PATIENCE_S)
    send_call(booted, die, 0)
    with pytest.raises(EOFError):
        receive(booted)
    assert pool.ending(booted) == "exit code 0"


# -- closing ---------------------------------------------------------------------------


def test_closed_pool_leaves_no_process(make_pool: MakePool, tmp_path: Path) -> None:
    """Idle, busy and booting workers end, and so does the fork server."""
    pool = make_pool()
    idle, busy = boot(pool, 2)
    pool.give_back(idle)
    send_call(busy, touch_and_loop, tmp_path / "busy")
    wait_until((tmp_path / "busy").exists)
    [booting] = pool.boot(1)
    pids = pool.pids()
    assert len(pids) >= 2
    pool.close()
    wait_until(lambda: all(map(is_gone, pids)))
    with pytest.raises(EOFError):
        receive(busy)
    while booting.channel.is_open:
        booting.channel.receive()
    assert pool.n_idle == 0
    assert pool.pids() == set()
    pool.give_back(busy)
    pool.give_back(booting)
    assert pool.n_idle == 0
    assert not pids & {p.pid for p in psutil.Process().children(recursive=True)}


def test_worker_that_comes_back_to_a_closed_pool(forking: WorkerPool) -> None:
    """It has been killed, even if no one has noticed yet, and isn't kept."""
    [lent] = boot(forking, 1)
    forking.close()
    forking.give_back(lent)
    assert forking.n_idle == 0
    assert not lent.channel.is_open


def test_closed_pool_can_be_used_again(make_pool: MakePool) -> None:
    """It starts anew."""
    pool = make_pool()
    for _ in range(2):
        [booted] = boot(pool, 1)
        assert call(booted, pow, 2, 3) == 8
        pool.give_back(booted)
        pool.close()
        assert pool.take(1) == []


def test_idle_workers_end_by_themselves(make_pool: MakePool) -> None:
    """After a time without work workers end, and then the fork server does."""
    pool = make_pool(0.05)
    workers = boot(pool, 2)
    for booted in workers:
        pool.give_back(booted)
    pids = pool.pids()
    wait_until(lambda: all(map(is_gone, pids)))
    wait_until(lambda: not any(booted.is_up() for booted in workers))
    assert pool.take(2) == []
    assert pool.n_idle == 0
    [again] = boot(pool, 1)
    assert again.pid not in pids


def test_ended_workers_do_not_stay_in_the_system(make_pool: MakePool) -> None:
    """Workers that have ended by themselves are waited for when others are started."""
    pool = make_pool(0.01)
    pids = []
    for _ in range(4):
        [booted] = boot(pool, 1)
        assert booted.pid is not None
        pids.append(booted.pid)
        pool.give_back(booted)
        wait_until(lambda booted=booted: not booted.is_up())
        assert pool.take(1) == []
    assert not any(map(psutil.pid_exists, pids[:2]))


KILLED = """
import sys, time
from pathlib import Path
from amorsize_dask.execute.pool import WorkerPool

def loop(path):
    path.touch()
    while True:
        pass

pool = WorkerPool(sys.argv[1], None)
idle, lent, busy = boot(pool, 3)
pool.give_back(idle)
send_call(busy, loop, Path(sys.argv[2]))
wait_until(Path(sys.argv[2]).exists)
print(*pool.pids(), flush=True)
time.sleep(1000)
"""


def test_killed_caller(start_method: str, tmp_path: Path) -> None:
    """Workers end with their caller, however that ends and whatever they are doing."""
    with run_script(KILLED, start_method, str(tmp_path / "busy")) as program:
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) >= 3
        assert not any(map(is_gone, pids))
        program.kill()
        wait_until(lambda: all(map(is_gone, pids)))
        assert program.communicate()[1] == ""


CTRL_C = """
import sys, time
from pathlib import Path
from amorsize_dask.execute.pool import WorkerPool

def wait_for(path):
    path.touch()
    while not path.with_name("go").exists():
        time.sleep(0.002)
    return "not disturbed"

pool = WorkerPool(sys.argv[1], None)
idle, busy = boot(pool, 2)
send_call(busy, wait_for, Path(sys.argv[2]))
try:
    print("ready", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    Path(sys.argv[2]).with_name("go").touch()
report, answer = receive_report(busy)
print(answer.values[0], call(idle, pow, 2, 3))
[late] = boot(pool, 1)
print(call(late, pow, 2, 4))
for one in (idle, busy, late):
    pool.give_back(one)
pool.close()
"""


def test_ctrl_c_reaches_the_caller_alone(start_method: str, tmp_path: Path) -> None:
    """Workers and fork server don't see what a terminal sends to the program."""
    path = tmp_path / "busy"
    program = run_script(CTRL_C, start_method, str(path), start_new_session=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    wait_until(path.exists)
    os.killpg(program.pid, signal.SIGINT)
    assert finish(program) == "not disturbed 8\n16\n"


FORKED = """
import os, sys, traceback
from amorsize_dask.execute.pool import WorkerPool, live_processes

pool = WorkerPool(sys.argv[1], None)
idle, lent = boot(pool, 2)
pool.give_back(idle)

def close_only():
    pool.close()

def use():
    assert pool.take(2) == []
    assert not live_processes()
    [own] = boot(pool, 1)
    assert own.pid not in (idle.pid, lent.pid)
    assert call(own, pow, 2, 3) == 8
    pool.give_back(own)
    assert pool.take(1) == [own]
    pool.give_back(own)
    pool.close()
    assert not live_processes()

def leave():
    pass

for action in (close_only, use, leave):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, action
assert call(lent, pow, 2, 4) == 16
[taken] = pool.take(1)
assert taken is idle
assert call(idle, pow, 2, 5) == 32
[late] = boot(pool, 1)
assert call(late, pow, 2, 6) == 64
for one in (idle, lent, late):
    pool.give_back(one)
pool.close()
"""


def test_forked_caller(start_method: str) -> None:
    """A process that the caller forks has a pool of its own, with no workers yet."""
    assert finish(run_script(FORKED, start_method)) == ""


SIGPIPE = """
import os, signal, sys
from amorsize_dask.execute.pool import WorkerPool

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
pool = WorkerPool("forkserver", None)
first, second = boot(pool, 2)
os.kill(first.pid, signal.SIGKILL)
wait_until(lambda: is_gone(first.pid))
first.channel.send([bytes(1000)])
for pid in pool._launcher.pids():
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))
[third] = boot(pool, 1)
print(call(second, pow, 2, 3), call(third, pow, 2, 4))
for one in (first, second, third):
    pool.give_back(one)
pool.close()
"""


@pytest.mark.skipif(
    not hasattr(socket, "MSG_NOSIGNAL"), reason="this system can't send without it"
)
def test_program_that_a_closed_pipe_ends() -> None:
    """A program that lets SIGPIPE end it isn't ended by workers that have died."""
    assert finish(run_script(SIGPIPE)) == "8 16\n"


def test_workers_that_come_back_while_they_boot(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are kept: who wants workers next gets these, up or not."""
    pool = make_pool()
    [first] = boot(pool, 1)
    booting = pool.boot(3)
    for one in booting:
        pool.give_back(one)
    [again] = pool.boot(1)
    assert again in booting
    pool.give_back(again)
    wait_until(lambda: pool.n_idle == 3)
    taken = pool.take(5)
    assert set(taken) == set(booting)
    for one in (first, *taken):
        assert call(one, pow, 2, 3) == 8
    for one in taken:
        pool.give_back(one)
    assert len(workers_of(pool)) == 4
    assert capfd.readouterr() == ("", "")


def test_workers_that_end_before_anyone_has_heard_of_them(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker that no run has waited for ends by itself like any idle one."""
    pool = make_pool(0.05)
    before = children()
    for one in pool.boot(2):
        pool.give_back(one)
    wait_until(lambda: not pool._booting or children() == before)
    wait_until(lambda: pool.take(2) == [] and not pool._booting)
    wait_until(lambda: children() == before)
    assert capfd.readouterr() == ("", "")


def test_pool_that_is_closed_while_workers_boot(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    """They end without a word, and no one gets them any more."""
    pool = make_pool()
    before = children()
    for one in pool.boot(2):
        pool.give_back(one)
    pool.close()
    assert pool.n_idle == 0
    wait_until(lambda: children() == before)
    [booted] = boot(pool, 1)
    assert call(booted, pow, 2, 3) == 8
    assert capfd.readouterr() == ("", "")


def test_output_of_tasks_is_not_lost(
    make_pool: MakePool,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a task prints to a pipe or a file is there, though workers are killed."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    pool = make_pool()
    [booted] = boot(pool, 1)
    call(booted, print, "from a worker")
    pool.close()
    pool.give_back(booted)
    assert capfd.readouterr() == ("from a worker\n", "")


def test_worker_that_fails_says_why(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error of the worker itself, not of a task, is printed."""
    pool = make_pool()
    [booted] = boot(pool, 1)
    booted.channel.send([b"not a pickle"])
    with pytest.raises(EOFError):
        receive(booted)
    assert pool.ending(booted) == "exit code 1"
    out, err = capfd.readouterr()
    assert out == ""
    assert "UnpicklingError" in err


# -- what workers see ------------------------------------------------------------------


def test_process_of_a_worker(two: list[ProcessWorker]) -> None:
    """A worker has a session of its own, plain signals, and no spare descriptors."""
    for one in two:
        found = call(one, describe_process)
        assert found["sid"] != os.getsid(0)
        assert found["signals"] == [signal.default_int_handler, signal.SIG_DFL]
        assert found["wakeup"] == -1
        assert found["inheritable"] == []
        assert found["is_worker"]
    assert not worker.is_worker


@pytest.mark.parametrize(("module", "counts"), [("dask.core", True), ("uuid", False)])
def test_boots_with_dask_are_told_from_others(
    forking: WorkerPool, module: str, counts: bool
) -> None:
    """What it adds is a cost of its own."""
    (booted,) = forking.boot(1, [module])
    assert booted.has_imported == counts
    forking.retire(booted)


def test_worker_imports_little(forking: WorkerPool) -> None:
    """A worker that has run a task which needs none of them has no large library."""
    [booted] = boot(forking, 1)
    assert call(booted, list_loaded, ("numpy", "dask", "distributed", "psutil")) == []


def test_hashes_are_equal_in_all_workers(two: list[ProcessWorker]) -> None:
    """Equal texts have equal hashes, so that what is grouped by them fits together."""
    hashes = {call(one, hash, "text") for one in two}
    assert len(hashes) == 1
    program = subprocess.run(
        [sys.executable, "-c", "print(hash('text'))"],
        env={**os.environ, "PYTHONHASHSEED": worker_environ()["PYTHONHASHSEED"]},
        capture_output=True,
        check=True,
    )
    assert hashes == {int(program.stdout)}


def test_random_states_differ(two: list[ProcessWorker]) -> None:
    """No two workers draw the same numbers, from Python's or from NumPy's state."""
    for draw in (draw_by_python, draw_by_numpy):
        assert len({call(one, draw) for one in two}) == 2


@pytest.mark.parametrize("seed", [None, "random", "0", "123"])
def test_seed_of_hashes(monkeypatch: pytest.MonkeyPatch, seed: str | None) -> None:
    """A seed that the user has chosen is kept; without one there is Dask's."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if seed is not None:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    expected = "123" if seed == "123" else HASH_SEED
    assert worker_environ()["PYTHONHASHSEED"] == expected


def test_threads_of_libraries(
    forking: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries get one thread each in a worker, or as many as the user has said."""
    for name in launch.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    [booted] = boot(forking, 1)
    environ = call(booted, read_environ)
    for name in launch.THREAD_VARIABLES:
        assert environ[name] == ("3" if name == "MKL_NUM_THREADS" else "1")
    assert "OMP_NUM_THREADS" not in os.environ


def test_changed_state_of_the_caller(
    forking: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is up sees folder, modules, variables and settings that are new."""
    monkeypatch.setenv("AMORSIZE_BEFORE", "set")
    [booted] = boot(forking, 1)
    assert call(booted, os.getcwd) == os.getcwd()
    assert call(booted, read_environ)["AMORSIZE_BEFORE"] == "set"
    (tmp_path / "only_now.py").write_text("def find():\n    return 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMORSIZE_NOW", "set")
    monkeypatch.delenv("AMORSIZE_BEFORE")
    with config.set({"amorsize-test.a": 3}):
        send_state(booted)
    assert Path(call(booted, os.getcwd)) == tmp_path
    assert call(booted, import_and_call, "only_now", "find") == "found"
    assert call(booted, config.get, "amorsize-test.a") == 3
    environ = call(booted, read_environ)
    assert environ["AMORSIZE_NOW"] == "set"
    assert "AMORSIZE_BEFORE" not in environ
    send_state(booted)
    assert call(booted, config.get, "amorsize-test.a", None) is None


def test_warnings_of_a_worker(two: list[ProcessWorker]) -> None:
    """They come with the report, each once."""

    def warn() -> None:
        for _ in range(3):
            warnings.warn("mind the gap", stacklevel=1)

    send_call(two[0], warn)
    report, _ = receive_report(two[0])
    [(category, text, filename, _)] = report.warnings
    assert (category, text) == (UserWarning, "mind the gap")
    assert Path(filename).samefile(__file__)
