"""Programs that are run in a process of their own, and remember."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_program(
    name: str, folder: Path, *arguments: object, **environment: str
) -> list[str]:
    """Run a program of this folder that remembers in another one; return its lines."""
    program = Path(__file__).with_name(name)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *map(str, arguments)],
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(folder),
            "DASK_AMORSIZE__HISTORY": "True",
            **environment,
        },
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()
