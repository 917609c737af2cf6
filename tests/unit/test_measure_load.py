"""What others take, on machines from files whose counters go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import stand_on, write_tree

from amorsize_dask.core.model import Machine
from amorsize_dask.measure.load import (
    HALVING_PRESSURE,
    MAX_WINDOW_S,
    MIN_PRESSURE,
    MIN_WINDOW_S,
    CoreUse,
    Load,
    LoadWatch,
    Pressure,
)
from amorsize_dask.measure.machine import leave_to_others

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no clock ticks")

GROUP = "sys/fs/cgroup/pod"


class Host:
    """Four cores, on three of which this process may run, and a clock.

    Time goes on by `run`, which says how many cores' worth of time was used in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = 1000.0
        self.busy_s = [10.0] * 4
        self.own_s: dict[str, float] = {"self": 5.0}
        self.group_s = 20.0
        self.quota = "max 100000\n"
        self.write()

    def clock(self) -> float:
        return self.now_s

    def run(self, seconds: float, cores: list[float], **own: float) -> None:
        self.now_s += seconds
        for core, share in enumerate(cores):
            self.busy_s[core] += seconds * share
        for name, share in own.items():
            pid = "self" if name == "me" else name.removeprefix("pid")
            self.own_s[pid] = self.own_s.get(pid, 0.0) + seconds * share
        self.write()

    def write(self) -> None:
        hz = os.sysconf("SC_CLK_TCK")
        idle = int(self.now_s * hz)
        # Idle and waiting for disks: nobody's use of a core. Guests are users already.
        cores = "".join(
            f"cpu{core} {int(s * hz) - 3} 0 1 {idle} {idle // 3} 0 1 1 50 0\n"
            for core, s in enumerate(self.busy_s)
        )
        files = {
            "proc/self/cgroup": "0::/pod\n",
            "proc/stat": f"cpu  1 2 3 4 5 6 7 8 9 0\n{cores}intr 5 0 0\nctxt 8\n",
            "proc/loadavg": "3.00 1.00 0.50 2/213 99\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            f"{GROUP}/cpu.max": self.quota,
            f"{GROUP}/cpu.stat": f"usage_usec {int(self.group_s * 1e6)}\n",
        }
        for pid, seconds in self.own_s.items():
            ticks = int(seconds * hz)
            # Half of it was used by children that have ended.
            spent = f"{ticks // 2 - 1} 1 {ticks - ticks // 2 - 1} 1"
            files[f"proc/{pid}/stat"] = (
                f"7 (py) th 3) S 1 7 7 0 -1 4194304 9 0 0 0 {spent} 20 0\n"
            )
        write_tree(self.root, files)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host that this process is on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    return Host(tmp_path)


def look(host: Host, watch: LoadWatch, pids: tuple[int, ...] = ()) -> Load:
    load = watch.look(pids)
    for use in load.cores:
        assert 0 <= use.by_others <= use.n_cores
    return load


def test_what_others_use_is_left_to_them(host: Host) -> None:
    """Of three cores others keep two busy, and one and a half a second later."""
    watch = LoadWatch(host.root, host.clock)
    host.run(1.0, [1.0, 0.9, 0.1, 0.0])
    load = look(host, watch)
    (use,) = load.cores
    assert use == ("cores", 3, pytest.approx(2.0, abs=0.05))
    assert load.limit_cores(3) == 1
    host.run(1.0, [1.0, 0.4, 0.1, 0.0])
    assert look(host, watch).limit_cores(3) == 2


def test_own_work_is_not_others(host: Host) -> None:
    """All of what was used may have been used by this process and its workers."""
    watch = LoadWatch(host.root, host.clock)
    host.run(2.0, [1.0, 1.0, 0.5, 0.0], me=0.5, pid71=1.0, pid72=1.0)
    load = look(host, watch, (71, 72))
    assert load.cores_left == pytest.approx(3.0, abs=0.05)
    host.run(2.0, [1.0, 1.0, 1.0, 0.0], pid71=1.0, pid72=1.0)
    load = look(host, watch, (71, 72))
    assert load.limit_cores(3) == 2


def test_cores_of_others_alone_do_not_count(host: Host) -> None:
    """What happens on cores that this process may not use takes nothing from it."""
    watch = LoadWatch(host.root, host.clock)
    host.run(1.0, [0.0, 0.0, 0.0, 1.0])
    assert look(host, watch).limit_cores(3) == 3


def test_one_core_is_always_left(host: Host) -> None:
    """However much others do, the run goes on."""
    watch = LoadWatch(host.root, host.clock)
    host.run(1.0, [1.0, 1.0, 1.0, 1.0])
    assert look(host, watch).limit_cores(3) == 1


def test_others_in_a_group_with_a_quota(host: Host) -> None:
    """Of a quota of two cores a neighbour in the pod has used one and a half."""
    host.quota = "200000 100000\n"
    host.write()
    watch = LoadWatch(host.root, host.clock)
    host.group_s += 2 * 1.5 + 2 * 0.5
    host.run(2.0, [1.0, 1.0, 0.0, 0.0], me=0.5)
    load = look(host, watch)
    of_cores, of_group = load.cores
    assert of_cores.by_others == pytest.approx(1.5, abs=0.05)
    assert of_group == (
        f"cgroup {host.root / GROUP}",
        2.0,
        pytest.approx(1.5, abs=0.05),
    )
    assert load.cores_left == pytest.approx(0.5, abs=0.05)


def test_looks_in_a_row_share_a_window(host: Host) -> None:
    """A window that is too short is made longer, and what was seen holds till then."""
    watch = LoadWatch(host.root, host.clock)
    host.run(1.0, [1.0, 0.0, 0.0, 0.0])
    assert look(host, watch).limit_cores(3) == 2
    host.run(0.4 * MIN_WINDOW_S, [1.0, 1.0, 1.0, 1.0])
    assert look(host, watch).limit_cores(3) == 2
    host.run(0.7 * MIN_WINDOW_S, [1.0, 1.0, 1.0, 1.0])
    assert look(host, watch).limit_cores(3) == 1


@pytest.mark.parametrize(
    ("text", "n_left"),
    [
        ("3.00 1.00 0.50 2/213 99\n", 3),  # one other of four cores right now
        ("3.00 1.00 0.50 9/213 99\n", 1),  # more now than there were in the mean
        ("0.20 1.00 0.50 9/213 99\n", 3),  # only just begun, or for a moment
        ("3.00 1.00 0.50 1/213 99\n", 3),  # what there was has ended
        ("no load\n", 3),
        ("", 3),
    ],
)
@pytest.mark.parametrize("pause_s", [0.1, MAX_WINDOW_S + 1])
def test_without_a_window_the_load_average_counts(
    host: Host, pause_s: float, text: str, n_left: int
) -> None:
    """It counts for no more than what wants to run right now, and on all cores."""
    watch = LoadWatch(host.root, host.clock)
    host.run(pause_s, [1.0, 1.0, 1.0, 1.0])
    write_tree(host.root, {"proc/loadavg": text})
    assert look(host, watch).limit_cores(3) == n_left


def test_a_worker_that_has_ended_hides_what_was_its_own(host: Host) -> None:
    """Then no one knows who has used what, and the load average has to do."""
    watch = LoadWatch(host.root, host.clock)
    host.run(1.0, [1.0, 1.0, 1.0, 0.0], pid71=1.0, pid72=1.0)
    assert look(host, watch, (71, 72)).cores[0].name == "cores"
    host.run(1.0, [1.0, 1.0, 1.0, 0.0], pid71=1.0, pid72=1.0)
    assert look(host, watch, (71,)).cores[0].name == "load average"
    host.run(1.0, [1.0, 1.0, 0.0, 0.0], pid71=1.0)
    assert look(host, watch, (71,)).limit_cores(3) == 2


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        # Of four that run one is the reader; 4 % of the time someone waits for all 8.
        ("docker_v2", {"load average": (8, 3.0), "cgroup": (1.5, 0.12 * 1.5)}),
        ("docker_v1", {"load average": (4, 0.0)}),
        ("kubernetes_v2", {"load average": (16, 9.8), "cgroup": (2.5, 0.4 * 2.5)}),
        # Who waits where isn't known with cores of its own.
        ("numa", {"load average": (64, 33.05)}),
        ("laptop", {"load average": (8, 0.003 * 8)}),
        ("no_groups", {"load average": (4, 0.0)}),
    ],
)
def test_first_look(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    uses: Mapping[str, tuple[float, float]],
) -> None:
    """Without workers of its own, pressure on cores tells of others, too."""
    stand_on(name, tmp_path, monkeypatch)
    load = LoadWatch(tmp_path).look()
    assert [use.name.partition(" /")[0] for use in load.cores] == list(uses)
    for use, (n_cores, by_others) in zip(load.cores, uses.values(), strict=True):
        assert use.n_cores == n_cores
        assert use.by_others == pytest.approx(by_others)


def test_pressure_of_own_workers_is_not_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With workers there is pressure from them, too, so it says nothing."""
    host.own_s["71"] = 1.0
    host.write()
    psi = "some avg10=90.00 avg60=1.00 avg300=1.00 total=5\n"
    write_tree(
        host.root,
        {"proc/pressure/cpu": psi, "proc/loadavg": "0.50 0.50 0.50 2/213 99\n"},
    )
    watches = [LoadWatch(host.root, host.clock) for _ in range(3)]
    # Not all cores are this process's, so who waits may wait for others.
    assert watches[0].look().cores[0].by_others == 0.5
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert watches[1].look().cores[0].by_others == 0.9 * 4
    assert watches[2].look((71,)).cores[0].by_others == 0.5


@pytest.mark.parametrize(
    ("name", "pressure"),
    [
        ("docker_v2", 0.025),
        ("kubernetes_v2", 0.10),
        ("laptop", 0.0),
        ("docker_v1", None),
        ("no_groups", None),
    ],
)
def test_memory_pressure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pressure: float | None,
) -> None:
    """The largest pressure of the system, the own group and those above it counts."""
    stand_on(name, tmp_path, monkeypatch)
    memory = LoadWatch(tmp_path).look().memory
    assert (None if memory is None else memory.fraction) == pressure
    if name == "kubernetes_v2":
        assert memory is not None
        assert memory.name.endswith("pod1f2a8d5e_7c0b_4d57_9a0e_3a9d7e1f0b2c.slice")


@pytest.mark.parametrize("text", ["", "some avg10=much\n", "full avg10=3.00\n", "\n\n"])
def test_pressure_that_cannot_be_read(host: Host, text: str) -> None:
    """It is none, and nothing is taken away because of it."""
    write_tree(host.root, {"proc/pressure/memory": text} if text.strip() else {})
    load = LoadWatch(host.root, host.clock).look()
    assert load.memory is None
    assert load.limit_memory(1000) == 1000


def test_half_the_memory_at_the_halving_pressure() -> None:
    """Little pressure is none; then it falls, by half at a tenth of the time."""
    at = [Load(memory=Pressure("system", p)).memory_fraction for p in (0.0, 0.009)]
    assert at == [1.0, 1.0]
    load = Load(memory=Pressure("system", HALVING_PRESSURE))
    assert load.limit_memory(1000) == 500


@given(
    uses=st.lists(st.tuples(st.floats(0.1, 1000), st.floats(0, 1)), max_size=3),
    pressure=st.none() | st.floats(0, 1),
    n_cores=st.integers(1, 512),
    n_bytes=st.integers(1, 2**45),
    more=st.floats(0, 1),
)
def test_others_never_give_and_never_take_all(
    uses: list[tuple[float, float]],
    pressure: float | None,
    n_cores: int,
    n_bytes: int,
    more: float,
) -> None:
    """Something is left, never more than there was, and no more when others do more."""

    def make(add: float) -> Load:
        return Load(
            cores=tuple(
                CoreUse("x", n, n * min(1.0, share + add)) for n, share in uses
            ),
            memory=None
            if pressure is None
            else Pressure("y", min(1.0, pressure + add)),
        )

    machine = Machine(
        n_cores=n_cores, n_physical_cores=(n_cores + 1) // 2, memory_bytes=n_bytes
    )
    left, less = (leave_to_others(machine, make(add)) for add in (0.0, more))
    assert 1 <= less.n_cores <= left.n_cores <= n_cores
    assert 1 <= less.memory_bytes <= left.memory_bytes <= n_bytes
    if pressure is None or pressure < MIN_PRESSURE:
        assert left.memory_bytes == n_bytes
    assert make(0.0).explain(n_cores, n_bytes).startswith(f"{left.n_cores} of")


def test_why_is_told() -> None:
    """Both numbers, what takes the most, and how long memory is waited for."""
    load = Load(
        cores=(CoreUse("cores", 8, 2.5), CoreUse("cgroup /pod", 2.5, 0.96)),
        memory=Pressure("system", 0.1),
    )
    assert load.explain(3, 8_000_000_000) == (
        "2 of 3 cores, since others use 1.0 of 2.5 (cgroup /pod); 4 GB of 8 GB, since "
        "memory is waited for 10% of the time (system)"
    )
    assert Load().explain(3, 8_000_000_000) == "3 of 3 cores"


def test_systems_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the counters come from psutil, by core and by process."""
    now_s, seconds = 50.0, 0.0

    class Times:
        idle = 5.0

        def __init__(self, user: float) -> None:
            self.user, self.system = user, 1.0

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter((self.user, self.system, self.idle))

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(
        psutil, "cpu_times", lambda percpu: [Times(seconds), Times(seconds / 2)]
    )
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda self: Times(seconds / 2))
    watch = LoadWatch(tmp_path, lambda: now_s)
    now_s, seconds = 60.0, 10.0
    load = watch.look()
    (use,) = load.cores
    assert use == ("cores", 2, pytest.approx(1.0))


def test_this_machine() -> None:
    """Here it can be looked at, and it costs no wait."""
    load = LoadWatch().look()
    assert 1 <= load.limit_cores(2) <= 2
    assert 0 < load.memory_fraction <= 1
