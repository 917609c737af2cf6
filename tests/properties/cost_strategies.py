"""Any workload, any machine, and both with all times scaled."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from amorsize_dask.core.model import Cluster, Costs, Machine, Workload

fractions = st.floats(0, 1)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw any workload that could be measured."""
    mean_s = draw(st.floats(1e-7, 1e3) | st.just(0.0))
    cpu_fraction = draw(fractions)
    return Workload(
        n_tasks=draw(st.integers(0, 10**6)),
        mean_s=mean_s,
        std_s=draw(st.floats(0, 3)) * mean_s,
        cpu_fraction=cpu_fraction,
        gil_fraction=draw(fractions) * cpu_fraction,
        crowded_s=draw(fractions) * (1 - cpu_fraction) * mean_s,
        in_bytes=draw(st.floats(0, 1e9)),
        out_bytes=draw(st.floats(0, 1e9)),
        pack_s=draw(st.floats(0, 1) | st.just(0.0)),
        peak_bytes=draw(st.floats(0, 1e10)),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Draw any cluster."""
    n_workers = draw(st.integers(1, 128))
    n_threads = n_workers * draw(st.integers(1, 8))
    return Cluster(
        n_workers=n_workers,
        n_threads=n_threads,
        n_cores=draw(st.integers(1, n_threads)),
        memory_bytes=draw(st.integers(1, 10**12)),
        round_trip_s=draw(st.floats(1e-4, 1)),
        batch_s=draw(st.floats(1e-4, 0.1)),
        bytes_per_s=draw(st.floats(1e6, 1e10)),
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Draw any machine, with any cluster."""
    n_cores = draw(st.integers(1, 128))
    return Machine(
        n_cores=n_cores,
        n_physical_cores=draw(st.integers(1, n_cores)),
        memory_bytes=draw(st.integers(1, 10**12)),
        costs=Costs(
            boot_first_s=draw(st.floats(1e-3, 10)),
            import_dask_s=draw(st.floats(1e-3, 10)),
            boot_next_s=draw(st.floats(1e-3, 1)),
            batch_s=draw(st.floats(1e-5, 1e-2)),
            echo_s=draw(st.floats(1e-6, 1e-3)),
            thread_start_s=draw(st.floats(1e-6, 1e-3)),
            hand_off_s=draw(st.floats(1e-6, 1e-3)),
            bytes_per_s=draw(st.floats(1e6, 1e10)),
            load_bytes_per_s=draw(st.floats(1e6, 1e10)),
            task_s=draw(st.floats(1e-6, 1e-3)),
            item_s=draw(st.floats(1e-8, 1e-5)),
        ),
        cluster=draw(clusters()),
    )


def scaled(workload: Workload, factor: float) -> Workload:
    """Return a workload whose times are all longer by a factor."""
    return replace(
        workload,
        mean_s=workload.mean_s * factor,
        std_s=workload.std_s * factor,
        crowded_s=workload.crowded_s * factor,
        pack_s=workload.pack_s * factor,
    )


def scaled_machine(machine: Machine, factor: float) -> Machine:
    """Return a machine whose costs are all higher by a factor."""
    costs, cluster = machine.costs, machine.cluster
    assert cluster is not None
    return replace(
        machine,
        cluster=replace(
            cluster,
            round_trip_s=cluster.round_trip_s * factor,
            batch_s=cluster.batch_s * factor,
            bytes_per_s=cluster.bytes_per_s / factor,
        ),
        costs=Costs(
            boot_first_s=costs.boot_first_s * factor,
            import_dask_s=costs.import_dask_s * factor,
            boot_next_s=costs.boot_next_s * factor,
            batch_s=costs.batch_s * factor,
            echo_s=costs.echo_s * factor,
            thread_start_s=costs.thread_start_s * factor,
            hand_off_s=costs.hand_off_s * factor,
            bytes_per_s=costs.bytes_per_s / factor,
            load_bytes_per_s=costs.load_bytes_per_s / factor,
            task_s=costs.task_s * factor,
            item_s=costs.item_s * factor,
        ),
    )
