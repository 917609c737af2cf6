"""What batch systems grant, by the environment of their jobs."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest

from amorsize_dask.measure.batch_system import find_job_cores, find_job_memory
from amorsize_dask.measure.cores import count_cores, find_core_limits

MIB = 1 << 20

#: A step of a Slurm job with two tasks of four cores on a node, 2 GiB a core.
SLURM_STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_CPUS_ON_NODE": "8",
    "SLURM_CPUS_PER_TASK": "4",
    "SLURM_JOB_CPUS_PER_NODE": "8",
    "SLURM_MEM_PER_CPU": "2048",
}

#: A batch script with `--mem` and no cores named.
SLURM_SCRIPT = {
    "SLURM_JOB_ID": "4712",
    "SLURM_CPUS_ON_NODE": "16",
    "SLURM_MEM_PER_NODE": "64000",
}

#: `--mem=0` means all of the node's.
SLURM_ALL = {**SLURM_SCRIPT, "SLURM_MEM_PER_NODE": "0"}

PBS_PRO = {"PBS_JOBID": "12.server", "NCPUS": "6", "OMP_NUM_THREADS": "6"}
TORQUE = {"PBS_JOBID": "12.server", "PBS_NUM_PPN": "3", "PBS_NP": "6"}


@pytest.mark.parametrize(
    ("environ", "n_cores", "n_bytes"),
    [
        (SLURM_STEP, 4, 8 * 2048 * MIB),
        (SLURM_SCRIPT, 16, 64000 * MIB),
        (SLURM_ALL, 16, None),
        (PBS_PRO, 6, None),
        (TORQUE, 3, None),
        ({"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "node07 12"}, 12, None),
        ({"LSB_JOBID": "5"}, None, None),
        ({"OMP_NUM_THREADS": "3"}, None, None),
        # Left over in a shell that is in no job.
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "100"}, None, None),
        ({"PBS_JOBID": "1", "NCPUS": "many"}, None, None),
    ],
)
def test_jobs(
    environ: Mapping[str, str], n_cores: int | None, n_bytes: int | None
) -> None:
    """Each says it in variables of its own; outside of a job none counts."""
    assert list(find_job_cores(environ).values()) == ([n_cores] if n_cores else [])
    assert list(find_job_memory(environ).values()) == ([n_bytes] if n_bytes else [])


def test_slots_on_several_hosts() -> None:
    """Those of this one count, whether its name has a domain or not."""
    host = socket.gethostname().partition(".")[0]
    environ = {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": f"other 8 {host}.cluster.org 2"}
    assert find_job_cores(environ) == {"LSB_MCPU_HOSTS": 2}
    assert find_job_cores({**environ, "LSB_MCPU_HOSTS": "a 8 b 4"}) == {}


def test_they_count_as_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of all is what may be used."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert find_core_limits()["SLURM_CPUS_PER_TASK"] == 1
    assert count_cores() == 1
