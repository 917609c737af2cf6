"""The costs of a machine, as its first workers show them."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from amorsize_dask.core.model import Costs
from amorsize_dask.errors import LaneError
from amorsize_dask.execute import calibration
from amorsize_dask.execute.calibration import MIN_COST_S, Calibration, echo_through
from amorsize_dask.execute.channel import CallerChannel, WorkerChannel
from amorsize_dask.execute.pool import ProcessWorker, WorkerPool
from amorsize_dask.execute.wire import load

KNOWN = Costs(boot_first_s=1.0, boot_next_s=0.5)


class Disk:
    """Where costs are kept."""

    def __init__(self) -> None:
        self.kept: Costs | None = None

    def load(self) -> Costs | None:
        return self.kept

    def save(self, costs: Costs) -> None:
        self.kept = costs


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(calibration, "load_costs", disk.load)
    monkeypatch.setattr(calibration, "save_costs", disk.save)
    return disk


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@contextmanager
def echoing_through(sock: socket.socket) -> Iterator[None]:
    """Send all back that comes, until the other end is closed."""
    worker = WorkerChannel(sock)

    def echo() -> None:
        while (parts := worker.receive()) is not None:
            worker.send(parts)

    thread = threading.Thread(target=echo)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def echoing(sockets: tuple[socket.socket, socket.socket]) -> Iterator[CallerChannel]:
    """Return the caller's end of a pipe at whose other end all is sent back."""
    channel = CallerChannel(sockets[0])
    with echoing_through(sockets[1]):
        yield channel
        channel.close()


def make_worker(
    channel: CallerChannel,
    asked_at: float,
    ready_at: float,
    is_first: bool = False,
    has_imported: bool = False,
) -> ProcessWorker:
    worker = ProcessWorker(
        channel, asked_at=asked_at, is_first=is_first, has_imported=has_imported
    )
    worker.ready_at = ready_at
    return worker


def test_defaults_until_a_worker_is_up(disk: Disk) -> None:
    """Without costs on disk the defaults hold, and nothing is measured for it."""
    assert Calibration().costs == Costs()
    assert disk.kept is None


def test_known_costs_are_taken_from_disk(disk: Disk, echoing: CallerChannel) -> None:
    """Costs that were measured once are kept, as long as none turns out lower."""
    disk.kept = KNOWN
    known = Calibration()
    assert known.costs == KNOWN
    known.note_ready(make_worker(echoing, 100.0, 103.0, is_first=True))
    known.note_ready(make_worker(echoing, 100.0, 104.0))
    assert known.costs == KNOWN
    assert disk.kept is KNOWN


def test_known_costs_that_turn_out_lower(disk: Disk, echoing: CallerChannel) -> None:
    """The machine was busy then; what is clearly lower now goes to disk."""
    disk.kept = KNOWN
    known = Calibration()
    known.note_ready(make_worker(echoing, 100.0, 100.9, is_first=True))
    assert known.costs.boot_first_s == pytest.approx(0.9)
    assert disk.kept is KNOWN
    known.note_ready(make_worker(echoing, 100.0, 101.0))
    assert known.costs.boot_next_s == pytest.approx(0.1)
    assert disk.kept == known.costs


def test_first_worker(disk: Disk, echoing: CallerChannel) -> None:
    """The first one tells of its boot, and when it is idle of threads and the pipe."""
    known = Calibration()
    worker = make_worker(echoing, 100.0, 103.0, is_first=True)
    known.note_ready(worker)
    assert not known.is_complete
    assert disk.kept is None
    known.complete(worker)
    assert known.is_complete
    default = Costs()
    assert known.costs.boot_first_s == 3.0
    assert known.costs.boot_next_s == default.boot_next_s
    for name in ("echo_s", "bytes_per_s", "load_bytes_per_s"):
        assert getattr(known.costs, name) > 0
        assert getattr(known.costs, name) != getattr(default, name)
    assert disk.kept == known.costs


def test_what_importing_dask_adds(disk: Disk, echoing: CallerChannel) -> None:
    """It is what such a boot takes longer, whichever of the two comes first."""
    known = Calibration()
    default = Costs()
    known.note_ready(make_worker(echoing, 100.0, 104.0, True, has_imported=True))
    costs = known.costs
    assert costs.boot_first_s + costs.import_dask_s == pytest.approx(4.0)
    assert costs.boot_first_s / costs.import_dask_s == pytest.approx(
        default.boot_first_s / default.import_dask_s
    )
    known.note_ready(make_worker(echoing, 100.0, 101.0, True))
    assert known.costs.boot_first_s == 1.0
    known.note_ready(make_worker(echoing, 100.0, 103.0, True, has_imported=True))
    assert known.costs.import_dask_s == 2.0
    assert known.costs_for([]) == known.costs
    assert known.costs_for(["dask.bag"]).boot_first_s == 3.0


def test_next_worker(disk: Disk, echoing: CallerChannel) -> None:
    """The second one tells what each further worker adds, on a slow machine too."""
    known = Calibration()
    known.note_ready(make_worker(echoing, 100.0, 103.0, is_first=True))
    known.note_ready(make_worker(echoing, 100.0, 103.25))
    assert known.costs.boot_next_s == 0.25
    assert known.costs.boot_first_s == 3.0
    known.complete(make_worker(echoing, 0.0, 0.0))
    assert disk.kept == known.costs


def test_of_several_boots_the_quickest_counts(
    disk: Disk, echoing: CallerChannel
) -> None:
    """Later workers that take longer, for others are busy, change nothing."""
    known = Calibration()
    known.note_ready(make_worker(echoing, 100.0, 103.0, is_first=True))
    for ready_at in (103.25, 103.35, 103.95):
        known.note_ready(make_worker(echoing, 100.0, ready_at))
    assert known.costs.boot_next_s == pytest.approx(0.1)
    known.complete(make_worker(echoing, 0.0, 0.0))
    assert disk.kept == known.costs


def test_workers_that_come_at_the_same_time(disk: Disk, echoing: CallerChannel) -> None:
    """A cost is never nothing, however the system orders what happens."""
    known = Calibration()
    known.note_ready(make_worker(echoing, 100.0, 103.0, is_first=True))
    known.note_ready(make_worker(echoing, 100.0, 102.0))
    assert known.costs.boot_next_s == MIN_COST_S


def test_next_worker_that_is_asked_for_much_later(
    disk: Disk, echoing: CallerChannel
) -> None:
    """The time in which no one asked for a worker is no part of its boot."""
    known = Calibration()
    known.note_ready(make_worker(echoing, 100.0, 103.0, is_first=True))
    known.note_ready(make_worker(echoing, 500.0, 500.25))
    assert known.costs.boot_next_s == 0.25


def test_worker_that_does_not_answer(
    disk: Disk,
    sockets: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a pipe without an answer the defaults stay, and its worker isn't kept."""
    monkeypatch.setattr(calibration, "ECHO_TIMEOUT_S", 0.01)
    known = Calibration()
    worker = make_worker(CallerChannel(sockets[0]), 100.0, 103.0, is_first=True)
    known.note_ready(worker)
    known.complete(worker)
    assert known.costs.boot_first_s == 3.0
    assert known.costs.echo_s == Costs().echo_s
    assert known.costs.bytes_per_s == Costs().bytes_per_s
    assert not worker.channel.is_open


def test_batches_are_probed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What short runs show goes to disk; without a worker, batches in threads alone."""
    pool = WorkerPool("forkserver", 10.0)
    monkeypatch.setattr(calibration, "measure_batch_s", lambda pool: 3e-4)
    known = Calibration()
    known.probe(pool)
    default = Costs()
    assert known.costs.batch_s == default.batch_s
    assert 0 < known.costs.hand_off_s != default.hand_off_s
    assert disk.kept == known.costs
    monkeypatch.setattr(WorkerPool, "n_idle", 1)
    known.probe(pool)
    assert known.costs.batch_s == 3e-4
    assert disk.kept == known.costs


def test_probes_that_fail(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads, or where the machine was busy, the defaults stay."""
    known = Calibration()
    pool = WorkerPool("forkserver", 10.0)

    def fail(pool: WorkerPool) -> tuple[float, float]:
        raise LaneError("", "no thread can be started")

    monkeypatch.setattr(calibration, "measure_thread_costs", fail)
    known.probe(pool)
    assert known.costs == Costs()
    monkeypatch.setattr(calibration, "measure_thread_costs", lambda pool: (-1e-5, 1e-4))
    known.probe(pool)
    assert known.costs == Costs()


@pytest.mark.parametrize("n", [0, 1, 5_000_000])
def test_echo(echoing: CallerChannel, n: int) -> None:
    """What comes back is what was sent, also more than a pipe holds."""
    data = bytes(range(200)) * (n // 200) + bytes(n % 200)
    assert echo_through(make_worker(echoing, 0.0, 0.0), data) == data


def test_echo_of_a_worker_that_is_silent(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is an end to waiting; the pipe stays open, and the answer may come yet."""
    monkeypatch.setattr(calibration, "ECHO_TIMEOUT_S", 0.01)
    channel = CallerChannel(sockets[0])
    with pytest.raises(ConnectionError, match="does not answer"):
        echo_through(make_worker(channel, 0.0, 0.0), b"a")
    assert channel.is_open
    parts = WorkerChannel(sockets[1]).receive()
    assert parts is not None
    assert load(parts) == ("echo", b"a")


def test_echo_of_a_worker_that_has_gone(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No one waits for the end of the time then."""
    monkeypatch.setattr(calibration, "ECHO_TIMEOUT_S", 1e6)
    channel = CallerChannel(sockets[0])
    sockets[1].close()
    with pytest.raises(ConnectionError):
        echo_through(make_worker(channel, 0.0, 0.0), b"a")
    assert not channel.is_open


@pytest.fixture
def high_number() -> Iterator[int]:
    """Return a number for descriptors that is too large for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield 1500
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_echo_with_many_open_files(high_number: int) -> None:
    """A program that has more files open than `select` can wait for gets its echo."""
    ours, theirs = socket.socketpair()
    high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, high_number)
    ours.close()
    with socket.socket(fileno=high) as ours, theirs, echoing_through(theirs):
        worker = make_worker(CallerChannel(ours), 0.0, 0.0)
        assert echo_through(worker, b"a") == b"a"
        worker.close()
