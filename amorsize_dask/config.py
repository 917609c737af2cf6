"""Defaults of amorsize_dask, under ``amorsize.*`` in Dask's configuration."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def register_defaults() -> None:
    """Add the defaults; what the user has set already stays."""
    # Here, not above: it is what calls this as soon as it has been imported, which
    # this module must be by then.
    from dask import config

    config.update_defaults(_read_defaults())


def get(name: str) -> Any:
    """Return the setting ``amorsize.<name>``.

    Where somebody has emptied Dask's configuration, the default is returned.
    """
    from dask import config

    value = config.get(f"amorsize.{name}", _MISSING)
    return _read_defaults()["amorsize"][name] if value is _MISSING else value


@cache
def _read_defaults() -> dict[str, Any]:
    text = Path(__file__).with_name("amorsize.yaml").read_text(encoding="utf-8")
    defaults: dict[str, Any] = yaml.safe_load(text)
    return defaults


_MISSING = object()
