"""The guide's case studies: each block is run and its claim asserted.

Docstrings say what is asserted; where that isn't what the guide says, also why.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import guide_arrays as arrays
import guide_stand_ins as stand_ins
import numpy as np
import pytest
from guide_blocks import FORKS, Guide, expect_parallel
from PIL import Image

from amorsize_dask import execute, optimize
from amorsize_dask.measure.machine import measure_machine


@FORKS
def test_34_case_study_1_image_processing_pipeline(
    guide: Guide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suboptimal: eight processes at once, however few cores there are.

    All images are made all the same: what the guide tells of 50,000 large ones, that
    memory runs out, is what the next block is for.
    """
    n_asked = []

    def count_processes(processes: int | None = None, **options: Any) -> Any:
        n_asked.append(processes)
        return multiprocessing.get_context("fork").Pool(processes, **options)

    monkeypatch.setattr(multiprocessing, "Pool", count_processes)
    paths = arrays.make_photos(tmp_path / "photos", 16, (160, 120))
    ran = guide.run(Image=Image, add_watermark=arrays.add_watermark, image_paths=paths)
    for path in paths:
        with Image.open(path.replace(".jpg", "_processed.jpg")) as image:
            assert image.size == (800, 600)
    plan = optimize(ran.process_image, paths)
    assert n_asked == [8]
    assert plan.n_jobs <= measure_machine().n_physical_cores


def test_35_case_study_1_image_processing_pipeline(
    guide: Guide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All images are made, what comes back is small, and batches are told of."""
    paths = arrays.make_photos(tmp_path / "photos", 24, (160, 120))
    ran = guide.run(Image=Image, add_watermark=arrays.add_watermark, image_paths=paths)
    made = [path.replace(".jpg", "_processed.jpg") for path in paths]
    assert ran.results == [{"path": path, "status": "success"} for path in made]
    for path in made:
        with Image.open(path) as image:
            assert image.size == (800, 600)
            assert min(image.getpixel((5, 5))) > 240
    assert "24 items" in capsys.readouterr().err


def test_36_case_study_2_financial_monte_carlo_simulation(guide: Guide) -> None:
    """A loop over 100,000 seeds: it is what the next block is compared with.

    Its simulation is a single step, where the guide's took a third of a second.
    """
    ran = guide.run(run_simulation=lambda seed: random.Random(seed).gauss(0, 1))
    assert len(ran.results) == 100_000
    assert ran.results[7] == random.Random(7).gauss(0, 1)


def test_37_case_study_2_financial_monte_carlo_simulation(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of 100,000 simulations are there, in order, each as its seed decides."""
    ran = guide.run(
        np=np,
        simulate_market=arrays.simulate_market,
        calculate_portfolio_value=stand_ins.calculate_portfolio_value,
        calculate_drawdown=stand_ins.calculate_drawdown,
        calculate_sharpe=stand_ins.calculate_sharpe,
    )
    assert [found["seed"] for found in ran.results] == list(range(100_000))
    for seed in range(0, 100_000, 10):
        assert ran.results[seed] == ran.run_simulation(seed)
    output = capsys.readouterr().err
    assert "predicted" in output
    if measure_machine().n_physical_cores > 1:
        assert "processes x" in output


def test_38_case_study_3_web_scraping_anti_pattern(
    guide: Guide, asked: list[str]
) -> None:
    """Wrong tool: no pool of processes is recommended for what waits.

    By design a plan doesn't stop there: it takes threads, many more than cores.
    """
    import requests  # one of the guide's modules

    urls = [f"/products/{i}" for i in range(40)]
    names = {"requests": requests, "parse_product": stand_ins.parse_product}
    ran = guide.run(time=time, urls=urls, **names)
    assert ran.result.n_jobs == 1
    assert ran.result.lane == "threads"
    assert ran.result.n_workers > measure_machine().n_cores
    assert "asyncio" in ran.result.reason
    assert 1 <= len(asked) <= 5


def test_39_case_study_3_web_scraping_anti_pattern(
    guide: Guide, asked: list[str]
) -> None:
    """Asyncio asks for each page once; so does `execute`, in threads."""
    import requests  # one of the guide's modules

    urls = [f"/products/{i}" for i in range(40)]
    guide.run(urls=urls, parse_product=stand_ins.parse_product)
    assert sorted(asked) == sorted(urls)
    asked.clear()

    def scrape_product(url: str) -> int:
        time.sleep(0.02)
        return stand_ins.parse_product(requests.get(url).text)

    assert execute(scrape_product, urls) == list(range(40))
    assert sorted(asked) == sorted(urls)


@FORKS
def test_40_case_study_4_data_science_feature_engineering(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    """Documents are spread over the cores, and become rows of a table, all of them."""
    ran = guide.run(
        np=np,
        Pool=Pool,
        load_document=stand_ins.make_text,
        tokenize=stand_ins.tokenize,
        analyze_sentiment=stand_ins.analyze_sentiment,
        extract_entities=stand_ins.find_names,
        calculate_complexity=stand_ins.calculate_complexity,
        doc_ids=list(range(1_500)),
    )
    expect_parallel(ran.result)
    assert ran.result.reason in capsys.readouterr().err
    assert ran.df["doc_id"].tolist() == list(range(1_500))
    assert ran.features[:3] == [ran.extract_features(doc_id) for doc_id in range(3)]
    assert list(ran.df.columns) == [
        "doc_id",
        "word_count",
        "avg_word_length",
        "sentiment",
        "entities",
        "complexity",
    ]
