"""benchmarks/peers_speed.py: that its table is whole, and that its judging is right. It measures nothing here."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

PEERS = Path(__file__).parent.parent / "benchmarks" / "peers"


@pytest.fixture
def judging(monkeypatch):
    monkeypatch.syspath_prepend(PEERS)
    yield __import__("judging")
    for name in ("judging", "problems", "table"):
        sys.modules.pop(name, None)


def test_every_side_calls_a_function_that_its_script_serves(judging):
    cases = __import__("table").CASES
    served = {}
    for script in ("ours", "theirs"):
        parsed = ast.parse((PEERS / f"{script}.py").read_text(encoding="utf-8"))
        served[script] = {each.name for each in parsed.body if isinstance(each, ast.FunctionDef)}
    for case in cases.values():
        assert "mithridate" in case.sides
        for side in case.sides.values():
            assert side.call in served["ours" if side.who == "ours" else "theirs"]


def test_the_objective_of_medoids_is_the_sum_over_points_of_their_best_similarity(judging):
    points = np.random.default_rng(0).normal(size=(12, 3))
    chosen = np.array([4, 7])
    plain = sum(max(np.exp(-np.linalg.norm(p - points[j]) / 3) for j in chosen) for p in points)
    assert judging.covered(points, chosen) == pytest.approx(plain)


def test_rows_judged_unlike_ours_are_counted_either_way(judging):
    problem = {"poisoned": np.array([True, True, False, False])}
    ours, theirs = np.array([True, False, False, False]), np.array([False, False, True, False])
    piece = judging.Piece(
        number=0, problem=problem, made={"flagged": theirs}, reference={"flagged": ours}, folder=Path()
    )
    assert judging.filtered(piece) == {"recall": 0.0, "clean_removed": 0.5, "rows_unlike_ours": 2}


def test_a_poison_that_leaves_its_ball_is_no_result(judging):
    import torch

    from mithridate.dataset import Dataset, Space
    from mithridate.errors import ThreatModelError

    space = Space(shape=(3, 2, 2), num_classes=2, levels=256)
    train = Dataset.of(torch.full((4, 3, 2, 2), 100, dtype=torch.uint8), torch.zeros(4), space=space)
    problem = {"base_ids": np.array([1]), "base_labels": np.array([0]), "eps": np.array(8 / 255)}

    def judged(levels):
        made = {"poison": np.full((1, 3, 2, 2), levels / 255)}
        return judging.checked(
            judging.Piece(number=0, problem=problem, made=made, reference=made, folder=Path()), train
        )

    assert judged(108).all_inputs().mean().item() == pytest.approx(108 / 255)
    with pytest.raises(ThreatModelError):
        judged(120)


def test_trials_without_a_verdict_of_ours_are_not_compared(judging):
    theirs = {0: {"hits": [1.0]}, 1: {"hits": [0.0]}, 2: {"hits": [0.0]}}
    line = judging.summarised(theirs, {0: {"hits": [1.0]}, 1: {"hits": [1.0]}})
    assert line["n"] == "3 trials x 1 victims"
    assert line["success_percent"].startswith("33 [")
    assert line["ours_less_this"].startswith("50 [")
