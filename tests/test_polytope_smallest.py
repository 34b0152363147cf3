"""The polytopes against a network pretrained elsewhere, end to end: the smallest run in which they land."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate import config
from mithridate.experiment import Experiment
from tests.runs import carried_out, results

TRIALS = 4


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are pretrained here, not taken from a run before."""
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))


def test_both_polytopes_hit_white_box_victims_and_no_control_does(tmp_path: Path) -> None:
    """Five bundled classes: pretrained on 150 rows of each, transferred to 40 others of each, five of all poison."""
    settings = config.override(
        config.presets()["polytope-quick"],
        [
            "data.per_class=380:420",
            "victims.0.start.weights.data.per_class=0:150",
            "victims.0.start.weights.learner.epochs=6",
            "threat.budget=2.5 %",
            f"trials={TRIALS}",
        ],
    )
    ended = carried_out(config.parse(Experiment, settings), tmp_path / "run")
    assert not [each.error for each in ended if each.error]
    rows = results(tmp_path / "run").values()
    judged = [row for row in rows if row["kind"] == "victim"]
    for attack in ("bullseye-polytope", "convex-polytope"):
        hits = [row["success"] for row in judged if row["control"] == "attack" and row["attack"] == attack]
        assert len(hits) == TRIALS
        assert sum(hits) >= TRIALS / 2, f"{attack} hit {sum(hits):.0f} of {TRIALS}"
    assert {row["box"] for row in judged if row["control"] == "attack"} == {"white-box"}
    controls = [row for row in judged if row["control"] in ("clean", "noise")]
    assert sum(row["success"] * row["judged"] for row in controls) <= 1
