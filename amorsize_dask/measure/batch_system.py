"""What a batch system says that a job may use: Slurm, PBS, Torque and LSF.

Most of them put a job into control groups, which are looked at elsewhere. Where they
don't, the environment is all that tells a job of its share.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

#: What Slurm counts memory in.
_SLURM_MEMORY_BYTES = 1 << 20

#: Variables with the cores of a job on this machine, the nearest first: those of a
#: step's task, of all tasks here.
_CORES = {
    "Slurm": ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    "PBS": ("NCPUS", "PBS_NUM_PPN"),
}

#: What shows that a process is in a job of a batch system.
_JOBS = {"Slurm": "SLURM_JOB_ID", "PBS": "PBS_JOBID", "LSF": "LSB_JOBID"}


def find_job_cores(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Return the cores that batch systems grant here.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The environment.

    Returns
    -------
    dict of str to int
        By the name of the variable that says so; empty outside of jobs.
    """
    found: dict[str, int] = {}
    for system, names in _CORES.items():
        if _JOBS[system] in environ:
            numbers = ((name, _read_count(environ.get(name))) for name in names)
            known = [(name, n) for name, n in numbers if n is not None]
            found.update(known[:1])
    if _JOBS["LSF"] in environ:
        n = _count_lsf_slots(environ)
        if n is not None:
            found["LSB_MCPU_HOSTS"] = n
    return found


def find_job_memory(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Return the bytes that batch systems grant a job here.

    Only Slurm says so in the environment. PBS and LSF set resource limits or control
    groups, if anything.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The environment.

    Returns
    -------
    dict of str to int
        By the name of the variable that says so; empty where no limit is named.
    """
    if _JOBS["Slurm"] not in environ:
        return {}
    whole = _read_count(environ.get("SLURM_MEM_PER_NODE"))
    if whole is not None:
        return {"SLURM_MEM_PER_NODE": whole * _SLURM_MEMORY_BYTES}
    each = _read_count(environ.get("SLURM_MEM_PER_CPU"))
    n_cores = _read_count(environ.get("SLURM_CPUS_ON_NODE"))
    if each is None or n_cores is None:
        return {}
    return {"SLURM_MEM_PER_CPU": each * n_cores * _SLURM_MEMORY_BYTES}


def _read_count(text: str | None) -> int | None:
    """Return a number above 0; Slurm's 0 for memory means all there is."""
    if text is None or not text.strip().isdecimal():
        return None
    return int(text) or None


def _count_lsf_slots(environ: Mapping[str, str]) -> int | None:
    """Return a job's slots on this host, from ``"host_a 4 host_b 2"``."""
    words = environ.get("LSB_MCPU_HOSTS", "").split()
    slots = {
        _short(host): n
        for host, text in zip(words[::2], words[1::2], strict=False)
        if (n := _read_count(text)) is not None
    }
    if len(slots) == 1:
        return next(iter(slots.values()))
    return slots.get(_short(socket.gethostname()))


def _short(host: str) -> str:
    return host.partition(".")[0]
