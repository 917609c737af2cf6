"""What figures depend on: the machine and the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path

import psutil
from dask.system import CPU_COUNT
from dask.utils import format_bytes

#: Packages that workloads or runners use.
PACKAGES = (
    "amorsize-dask",
    "dask",
    "distributed",
    "joblib",
    "numpy",
    "cloudpickle",
    "partd",
    "pillow",
)


def describe_machine() -> list[str]:
    """Return lines about the processor, the memory, the system and the versions."""
    load = os.getloadavg()[0]
    memory = format_bytes(psutil.virtual_memory().total)
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    return [
        f"{_processor()}, {CPU_COUNT} cores, {memory} memory",
        f"{platform.platform()}, {platform.python_implementation()} "
        f"{platform.python_version()}",
        ", ".join(versions),
        f"{date.today().isoformat()}, load of the machine before the start {load:.2f}",
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout" if package == "amorsize-dask" else "missing"
