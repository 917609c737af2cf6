"""How much memory this process takes, and has taken."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys

import psutil
import pytest

from amorsize_dask.measure import rss
from amorsize_dask.measure.rss import read_peak_rss, read_rss

MB = 1_000_000


def test_resident_bytes_grow_with_what_is_held() -> None:
    """Bytes that are written to are resident, and the peak is never below."""
    n_bytes = 64 * MB
    before = read_rss()
    held = b"x" * n_bytes
    after = read_rss()
    assert 0.9 * n_bytes < after - before < 1.3 * n_bytes
    del held
    assert read_peak_rss() > 0.98 * after


def test_resident_bytes_are_psutils() -> None:
    """The quick way agrees with psutil's."""
    assert read_rss() == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)


def test_resident_bytes_are_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no ``/proc``, psutil is asked."""
    monkeypatch.setattr(rss, "_STATM", "/nowhere/statm")
    assert read_rss() == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="no peak is kept there")
def test_peak_of_a_fresh_interpreter_is_its_own() -> None:
    """A child that was started by a large process doesn't report that one's peak."""
    held = b"x" * (200 * MB)
    code = (
        "from amorsize_dask.measure.rss import read_peak_rss, read_rss;"
        "before = read_peak_rss(); held = b'x' * 40_000_000;"
        "print(before, read_peak_rss() - before, read_rss())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    peak, growth, resident = map(int, done.stdout.split())
    assert peak < len(held)
    assert growth > 30 * MB
    assert peak + growth > 0.98 * resident


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not on this system")
def test_forked_child_reads_its_own_memory() -> None:
    """After a fork, the child's numbers are the child's."""
    read_rss(), read_peak_rss()
    out, into = os.pipe()
    child = os.fork()
    if not child:
        before = read_rss()
        # Not from what the C library has kept, which is resident already.
        held = mmap.mmap(-1, 50 * MB)
        for start in range(0, 50 * MB, mmap.PAGESIZE):
            held[start] = 1
        os.write(into, f"{read_rss() - before} {read_peak_rss() - before}".encode())
        held.close()
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as answers:
        growth, peak_growth = map(int, answers.read().split())
    assert os.waitpid(child, 0) == (child, 0)
    assert min(growth, peak_growth) > 40 * MB
