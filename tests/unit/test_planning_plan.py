from __future__ import annotations

import json
import pickle

from amorsize_dask import DiagnosticProfile, Plan


def test_numbers_and_texts_are_ready_for_json() -> None:
    """All but the work itself, and all of what was measured."""
    profile = DiagnosticProfile(
        avg_execution_time=0.5,
        avg_pickle_time=0.001,
        spawn_cost=0.01,
        estimated_speedup=1.5,
        lane_s={"inline": 5.0},
    )
    plan = Plan(
        n_jobs=2,
        reason="why",
        warnings=("what",),
        func=abs,
        data=[object()],
        results={0: object()},
        diagnostic_profile=profile,
    )
    kept = json.loads(json.dumps(plan.as_dict()))
    assert kept["n_jobs"] == 2
    assert kept["warnings"] == ["what"]
    assert not kept.keys() & {"func", "data", "results"}
    measured = json.loads(json.dumps(profile.as_dict()))
    assert DiagnosticProfile(**measured) == profile


def test_a_plan_can_be_pickled() -> None:
    plan = Plan(n_jobs=2, func=abs, data=[1, -1])
    assert pickle.loads(pickle.dumps(plan)) == plan
