"""Whether memory was the cause of a worker's end, going by what is known of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from amorsize_dask.execute import losses
from amorsize_dask.execute.channel import CallerChannel
from amorsize_dask.execute.losses import Losses
from amorsize_dask.execute.pool import ProcessWorker

GB = 10**9


@pytest.fixture
def worker() -> Iterator[ProcessWorker]:
    """Return a worker that had 30 MB at boot and 2 GB at its peak."""
    ours, theirs = socket.socketpair()
    worker = ProcessWorker(CallerChannel(ours), asked_at=0.0, is_first=True)
    worker.rss_bytes = 30_000_000
    worker.peak_rss_bytes = 2 * GB
    yield worker
    worker.close()
    theirs.close()


def judge(
    monkeypatch: pytest.MonkeyPatch,
    worker: ProcessWorker,
    *,
    ending: str = "SIGKILL",
    left_bytes: int = 100 * GB,
    is_counted: bool = False,
) -> tuple[Losses, bool]:
    """Judge the end of a worker; another one had 2 GB when it was last heard of."""
    monkeypatch.setattr(losses, "available_memory", lambda: left_bytes)
    found = Losses()
    monkeypatch.setattr(found._kills, "take", lambda: is_counted)
    found.rss_bytes.update({7: GB, 8: 2 * GB})
    is_likely, grown_bytes = found.note(7, worker, ending, [3, 4])
    assert grown_bytes == 2 * GB - 30_000_000
    return found, is_likely


def test_the_system_says_so(
    monkeypatch: pytest.MonkeyPatch, worker: ProcessWorker
) -> None:
    """Then it was, and the story says so and what the worker had."""
    found, is_likely = judge(monkeypatch, worker, is_counted=True)
    assert is_likely
    (line,) = found.story_of(4)
    assert "running 2 tasks" in line
    assert "1 GB when it was last heard of, 2 GB at most" in line
    assert "memory probably was the cause" in line
    assert found.story_of(5) == ()


def test_there_was_little_left(
    monkeypatch: pytest.MonkeyPatch, worker: ProcessWorker
) -> None:
    """Now 2.5 GB are: it was killed with half a GB left, of 4.5."""
    found, is_likely = judge(monkeypatch, worker, left_bytes=25 * GB // 10)
    assert is_likely
    assert "no more than 500 MB were left" in found.story_of(3)[0]


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGSEGV", "exit code 1"])
def test_there_was_enough_left(
    monkeypatch: pytest.MonkeyPatch, worker: ProcessWorker, ending: str
) -> None:
    """Someone has killed it for another reason."""
    found, is_likely = judge(monkeypatch, worker, ending=ending)
    assert not is_likely
    assert "memory" not in found.story_of(3)[0]


def test_others_causes(monkeypatch: pytest.MonkeyPatch, worker: ProcessWorker) -> None:
    """A crash isn't the system's doing, nor is what this process has ended itself."""
    facts = {"left_bytes": 2 * GB, "is_counted": True}
    assert not judge(monkeypatch, worker, ending="SIGSEGV", **facts)[1]
    worker.was_ended = True
    assert not judge(monkeypatch, worker, **facts)[1]
