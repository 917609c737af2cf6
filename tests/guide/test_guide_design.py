"""The guide on functions and data: each block is run and its claim asserted.

Docstrings say what is asserted; where that isn't what the guide says, also why.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import guide_stand_ins as stand_ins
import numpy as np
import pytest
from guide_blocks import FORKS, Guide, expect_parallel, expect_serial, run_in
from guide_stand_ins import Item

from amorsize_dask import execute, optimize


def test_14_pure_functions_best_practice(guide: Guide) -> None:
    """The same input gives the same output, in any lane."""
    ran = guide.run(np=np, List=list, Dict=dict)
    data = [[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]] * 20
    expected = [ran.calculate_statistics(values) for values in data]
    assert expected[0] == {"mean": 3.0, "std": np.std([1, 2, 6]), "median": 2.0}
    for lane in ("inline", "threads", "processes"):
        assert run_in(lane, ran.calculate_statistics, data) == expected


def test_15_minimal_external_dependencies(guide: Guide, tmp_path: Path) -> None:
    """What a function imports by itself is there in processes that start anew."""
    paths = []
    for i in range(6):
        path = tmp_path / f"{i}.txt"
        path.write_text(f"Then Alice went to Town{i} with Bob.", encoding="utf-8")
        paths.append(str(path))
    ran = guide.run(
        open=stand_ins.open_text, extract_entities=stand_ins.extract_entities
    )
    found = run_in("processes", ran.process_document, paths)
    assert found == [["Alice", "Bob", f"Town{i}"] for i in range(6)]


@FORKS
def test_16_parameter_injection_avoid_closures(guide: Guide) -> None:
    """Wrong: a pool goes on with the outer value that it was started with.

    A parameter is sent with each chunk, so what it is counts when the work is sent.
    """
    items = [Item(id=i, score=i / 10) for i in range(10)]
    wrong, _ = guide.split("# ✅ CORRECT")
    ran = guide.run(wrong, items=items)
    with multiprocessing.Pool(1) as pool:
        ran.threshold = 0.2
        in_pool = pool.map(ran.filter_items, items)
    here = [ran.filter_items(item) for item in items]
    assert (sum(in_pool), sum(here)) == (1, 7)

    ran = guide.run()
    assert ran.filter_func.keywords == {"threshold": 0.8}
    expected = [False] * 9 + [True]
    assert ran.result.compute() == expected
    with multiprocessing.Pool(1) as pool:
        assert pool.map(ran.filter_func, items) == expected
        assert ran.result.map(pool) == expected


def test_17_error_handling_within_function(guide: Guide) -> None:
    """What fails is told in its place, and nothing else is lost by it."""
    items = list(range(1, 101))
    ran = guide.run(process=stand_ins.square_or_raise, items=items)
    found = ran.result.compute()
    assert len(found) == 100
    for item, value in zip(items, found, strict=True):
        if item % 10:
            assert value == item * item
        else:
            assert value == {"error": f"{item} is a multiple of ten", "item": item}
    # Without it the first error ends the run.
    with pytest.raises(ValueError, match="multiple of ten"):
        execute(ran.process, items)


@FORKS
def test_18_stateless_processing(guide: Guide) -> None:
    """Wrong: in a pool each chunk has a count of its own; `optimize` warns of it.

    Stateless, it is right wherever it runs.
    """
    items = list(range(1, 41))
    wrong, _ = guide.split("# ✅ CORRECT")
    ran = guide.run(wrong, items=items)
    in_loop = [n * n for n in items]
    assert list(map(ran.Processor().process, items)) == in_loop
    with multiprocessing.Pool(2) as pool:
        in_pool = pool.map(ran.Processor().process, items, chunksize=10)
        assert in_pool != in_loop
        assert in_pool[:10] == in_loop[:10]
    plan = optimize(ran.Processor().process, items)
    expect_serial(plan)
    assert "self.count" in plan.reason

    ran = guide.run()
    assert "change" not in ran.result.reason
    assert ran.result.compute() == [10 * item for item in items]
    with multiprocessing.Pool(2) as pool:
        found = pool.map(ran.processor.process, items, chunksize=ran.result.chunksize)
    assert found == [10 * item for item in items]


def test_19_pre_compute_expensive_lookups(guide: Guide) -> None:
    """The table is made once, however many items there are and wherever they go."""
    n_built = 0

    def build_expensive_lookup() -> dict[int, str]:
        nonlocal n_built
        n_built += 1
        return {key: f"value {key}" for key in range(50)}

    items = [Item(id=i) for i in range(60)]
    ran = guide.run(
        build_expensive_lookup=build_expensive_lookup,
        extract_key=stand_ins.get_id,
        default_value="nothing",
        items=items,
    )
    expected = [f"value {i}" for i in range(50)] + ["nothing"] * 10
    assert ran.result.compute() == expected
    assert run_in("processes", ran.process_with_lookup, items) == expected
    assert n_built == 1


def test_20_chunk_related_data_together(guide: Guide) -> None:
    """Each category has a plan of its own, and together they have all items."""
    all_items = [Item(id=i, category="abc"[i % 3]) for i in range(90)]
    ran = guide.run(
        all_items=all_items,
        defaultdict=defaultdict,
        process_category=stand_ins.process_category,
    )
    assert [plan.data[0].category for plan in guide.plans] == ["a", "b", "c"]
    found = [value for plan in guide.plans for value in plan.compute()]
    assert sorted(found) == sorted((item.category, item.id) for item in all_items)
    assert set(ran.items_by_category) == set("abc")


def test_21_convert_generators_to_lists_when_appropriate(guide: Guide) -> None:
    """`result.data` has all that a generator has; so does a list that is made of it.

    These are alternatives. Taken one after the other, as the block stands, the list has
    what the plan hasn't read: between them nothing is lost.
    """

    def read_from_database() -> Iterator[int]:
        yield from range(500)

    names = {
        "read_from_database": read_from_database,
        "process_func": stand_ins.work_briefly,
    }
    first, second = guide.split("# ✅ OPTION 2")
    ran = guide.run(first, **names)
    assert list(ran.result.data) == list(range(500))
    ran = guide.run(first, **names)
    assert ran.result.compute() == [x * x for x in range(500)]
    guide.run(second, data_generator=read_from_database())
    assert guide.plans[-1].data == list(range(500))

    ran = guide.run()
    *_, plan, of_list = guide.plans
    assert sorted([*plan.data, *ran.data_list]) == list(range(500))
    assert of_list.data == ran.data_list


def test_22_filter_before_parallelization(guide: Guide) -> None:
    """Only what is valid is in the plan."""
    ran = guide.run(
        all_items=range(1_000),
        is_valid=stand_ins.is_even,
        expensive_process=stand_ins.work_long,
    )
    assert ran.result.data == list(range(0, 1_000, 2))
    expect_parallel(ran.result)


def test_23_normalize_data_shapes(guide: Guide) -> None:
    """Small and large items have plans of their own, each for even work."""
    items = [Item(id=i, size=(10, 2_000)[i % 2]) for i in range(2_000)]
    ran = guide.run(items=items, process=stand_ins.process_sized)
    small, large = ran.result_small, ran.result_large
    assert [item.id for item in small.data] == list(range(0, 2_000, 2))
    assert [item.id for item in large.data] == list(range(1, 2_000, 2))
    expect_parallel(large)
    assert large.serial_s > 5 * small.serial_s
    item_s = large.diagnostic_profile.avg_execution_time
    assert large.chunksize * item_s <= 1.0
