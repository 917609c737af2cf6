"""The guide on when to use it and when not: each block is run and its claim asserted.

Docstrings say what is asserted; where that isn't what the guide says, also why.
"""

from __future__ import annotations

import asyncio
import glob
import time
import timeit
from pathlib import Path

import dask
import guide_arrays as arrays
import guide_stand_ins as stand_ins
import numpy as np
import pandas as pd
from guide_blocks import Guide, expect_parallel, expect_serial, run_in
from PIL import Image

from amorsize_dask import AmorsizeScheduler, execute, optimize
from amorsize_dask.measure.machine import measure_machine


def test_01_cpu_intensive_computations(guide: Guide) -> None:
    """Signals are spread over the cores, and the plan has all of them."""
    ran = guide.run(
        np=np,
        apply_bandpass_filter=arrays.apply_bandpass_filter,
        load_signals=arrays.load_signals,
    )
    expect_parallel(ran.result)
    assert len(ran.result.data) == 1000
    signals = ran.signals[:40]
    found = execute(ran.process_signal, signals)
    assert np.array_equal(found, [ran.process_signal(signal) for signal in signals])


def test_02_independent_data_items(guide: Guide) -> None:
    """Customers are spread over the cores, many to a chunk."""
    names = (
        "get_purchases",
        "calculate_lifetime_value",
        "predict_churn",
        "classify_segment",
    )
    ran = guide.run(**{name: getattr(stand_ins, name) for name in names})
    expect_parallel(ran.result)
    assert ran.result.data == range(100_000)
    assert ran.result.chunksize > 10
    customers = range(500)
    expected = [ran.analyze_customer(customer) for customer in customers]
    assert execute(ran.analyze_customer, customers) == expected


def test_03_large_datasets_with_uniform_processing(
    guide: Guide, tmp_path: Path
) -> None:
    """Photos are spread over the cores: 60 of them, where the guide has 10,000."""
    arrays.make_photos(tmp_path / "photos", 60, (1200, 900))
    ran = guide.run(Image=Image, glob=glob, optimize_quality=arrays.optimize_quality)
    expect_parallel(ran.result)
    assert len(ran.image_files) == len(ran.result.data) == 60
    small = execute(ran.resize_image, ran.image_files[:6])
    assert small == [ran.resize_image(ran.image_files[0])] * 6


def test_04_embarrassingly_parallel_problems(guide: Guide) -> None:
    """Simulations are spread over the cores, and seeds decide what comes out."""
    ran = guide.run(
        np=np,
        simulate_market=arrays.simulate_long_market,
        calculate_returns=stand_ins.calculate_returns,
    )
    expect_parallel(ran.result)
    assert ran.result.data == range(10_000)
    expected = [ran.run_simulation(seed) for seed in range(300)]
    assert run_in("processes", ran.run_simulation, range(300)) == expected
    assert len(set(expected)) == 300


def test_05_functions_are_too_fast_10ms(guide: Guide) -> None:
    """Wrong: a loop is recommended for what takes less than its message."""
    ran = guide.run()
    expect_serial(ran.result)
    assert ran.result.compute() == [2 * x for x in range(10_000)]


def test_06_functions_are_too_fast_10ms(guide: Guide) -> None:
    """NumPy does the same work, and faster than a loop by far."""
    ran = guide.run()
    assert ran.result.tolist() == [2 * x for x in range(10_000)]
    data = range(10_000)
    loop_s = min(timeit.repeat(lambda: [x * 2 for x in data], number=1, repeat=5))
    array_s = min(timeit.repeat(lambda: ran.data * 2, number=1, repeat=5))
    assert loop_s > 3 * array_s


def test_07_shared_state_or_sequential_dependencies(guide: Guide) -> None:
    """Wrong for a chain: one whose steps need each other runs in order, in one place.

    The guide only defines the function. Calls of it don't share anything, so mapping
    it is right; what can't be parallel is the chain of its sums.
    """
    ran = guide.run()
    numbers = [ran.fibonacci(n) for n in range(15)]
    assert numbers[-2:] == [233, 377]
    assert execute(ran.fibonacci, range(15)) == numbers
    chain = [dask.delayed(0), dask.delayed(1)]
    for _ in range(13):
        chain.append(chain[-1] + chain[-2])
    with AmorsizeScheduler() as scheduler:
        assert chain[-1].compute(scheduler=scheduler) == 377
        assert scheduler.last_run is not None
        assert all(used.n_workers == 1 for used in scheduler.last_run.lanes.values())


def test_08_i_o_bound_tasks_database_network_disk(
    guide: Guide, asked: list[str]
) -> None:
    """Wrong: no processes are recommended for what waits.

    Where the guide goes on to other tools, a plan itself takes threads.
    """
    import requests  # one of the guide's modules

    ran = guide.run(time=time, requests=requests)
    plan = optimize(ran.fetch_user_data, range(24))
    assert plan.n_jobs == 1
    assert plan.lane == "threads"
    assert plan.n_workers > measure_machine().n_cores
    users = plan.compute()
    assert users == [{"path": f"/api/users/{user}"} for user in range(24)]
    # Nobody was fetched twice, although some were sampled.
    assert sorted(asked) == sorted(user["path"] for user in users)


def test_09_i_o_bound_tasks_database_network_disk(
    guide: Guide, asked: list[str]
) -> None:
    """Asyncio fetches each user once."""
    ran = guide.run(user_ids=range(24))
    assert asyncio.run(ran.main()) is None
    assert sorted(asked) == sorted(f"/api/users/{user}" for user in range(24))


def test_10_small_datasets_100_items(guide: Guide) -> None:
    """Wrong: a loop is recommended for 50 items that take less than a start.

    The guide counts 200 ms for that. A fork takes a tenth of it here, so its 50 items
    of 10 ms are worth it; 50 of 0.1 ms aren't.
    """
    ran = guide.run(expensive_function=stand_ins.work_briefly)
    expect_serial(ran.result)
    assert ran.result.data == range(50)


def test_11_small_datasets_100_items(guide: Guide) -> None:
    """A rule of thumb in comments: more items of the same kind are worth it."""
    before = set(vars(guide.module))
    guide.run()
    assert set(vars(guide.module)) == before
    few = optimize(stand_ins.work_briefly, range(50))
    many = optimize(stand_ins.work_briefly, range(20_000))
    expect_serial(few)
    expect_parallel(many)
    assert few.serial_s < many.serial_s / 100


def test_12_functions_with_large_return_values(guide: Guide) -> None:
    """Wrong: results of which each takes longer to send than to make stay here.

    Tables are a thousand times smaller than the guide's 800 MB.
    """
    ran = guide.run(pd=pd, np=arrays.SmallNumpy())
    frame = ran.generate_large_dataframe(None)
    assert frame.shape == (1_000, 100)
    plan = optimize(ran.generate_large_dataframe, range(20))
    assert plan.diagnostic_profile.out_bytes > 800_000
    assert plan.n_jobs == 1


def test_13_functions_with_large_return_values(guide: Guide) -> None:
    """In batches all of them are made, each once."""

    def generate_large_dataframe(params: int) -> pd.DataFrame:
        return pd.DataFrame(np.full((1_000, 100), float(params)))

    ran = guide.run(
        params_list=list(range(30)), generate_large_dataframe=generate_large_dataframe
    )
    assert [frame.iloc[0, 0] for frame in ran.results] == list(range(30))
    assert all(frame.shape == (1_000, 100) for frame in ran.results)
