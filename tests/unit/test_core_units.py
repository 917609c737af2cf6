"""Numbers as people read them."""

from __future__ import annotations

import pytest

from amorsize_dask.core.units import format_bytes, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"),
        (45e-6, "45 µs"),
        (0.0123456, "12.3 ms"),
        (1.5, "1.5 s"),
        (12345.6, "12346 s"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    """Three digits, and a unit that suits the time."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (123_456, "123 kB"),
        (5_000_000, "5 MB"),
        (64e9, "64 GB"),
        (2.5e12, "2.5 TB"),
    ],
)
def test_bytes(n_bytes: float, text: str) -> None:
    """Three digits, and a decimal unit that suits the size."""
    assert format_bytes(n_bytes) == text
