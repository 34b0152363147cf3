"""The mini campaign, whole: four attacks, five stacks of defenses, three controls, five trials, two processes."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from mithridate import campaign, config
from mithridate.executors.processes import Processes
from mithridate.experiment import Experiment
from mithridate.store import Store
from tests.runs import carried_out, results

MINUTES = 5


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    text = config.load_preset("campaign-mini")
    return config.parse(Experiment, config.read_yaml(text, where="campaign-mini"))


@pytest.fixture(scope="module")
def run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign in a folder, with its report; about a minute on two idle cores, its pretraining included."""
    folder = tmp_path_factory.mktemp("campaign")
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MITHRIDATE_CACHE", str(folder / "cache"))
        ended = carried_out(experiment, folder / "run", executor=Processes(workers=2))
    assert not [each.error for each in ended if each.error]
    campaign.finish(folder / "run")
    assert time.monotonic() - started < 60 * MINUTES
    return folder / "run"


def test_is_a_grid_of_attacks_stacks_controls_and_trials(experiment: Experiment) -> None:
    assert (len(experiment.attacks), len(experiment.defenses), experiment.trials) == (4, 5, 5)
    assert any(len(stack) > 1 for stack in experiment.defenses), "a stack of several defenses is among them"
    controls = {"clean": experiment.controls.clean, "noise": experiment.controls.noise}
    assert (controls, experiment.controls.drops) == ({"clean": 1, "noise": 1}, ("random-drop",))


def test_leaves_every_cell_with_all_its_trials(experiment: Experiment, run: Path) -> None:
    rows = results(run).values()
    cells = Counter((row["attack"], row["defense"]) for row in rows if row.get("control") == "attack")
    assert cells == {(a, d): 5 for a in experiment.attack_names() for d in experiment.defense_names()}
    noise = Counter((row["attack"], row["defense"]) for row in rows if row.get("control") == "noise")
    assert set(noise.values()) == {5}
    assert len(noise) == 4 * 5
    clean = Counter(row["defense"] for row in rows if row.get("control") == "clean")
    assert set(clean.values()) == {5}
    assert len(clean) == 5
    with Store(run) as store:
        assert campaign.plan(store).left == 0
        assert not store.failures()


def test_lands_undefended_and_only_by_its_poison(run: Path) -> None:
    """Else its table would say nothing about defenses. Chosen on other trials (1000 to 1004)."""
    rows = [row for row in results(run).values() if row.get("defense") == "none" and "success" in row]
    hits = {
        control: sum(row["success"] for row in rows if row["control"] == control)
        for control in ("attack", "noise", "clean")
    }
    assert hits["attack"] >= 10, "of 20"
    assert hits["noise"] <= 2
    assert hits["clean"] == 0


def test_leaves_a_report_with_every_cell(experiment: Experiment, run: Path) -> None:
    found = json.loads((run / "summary.json").read_text())["rows"]
    assert len(found) == 4 * 9
    assert all(row["ledger"] for row in found)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in experiment.attack_names())
    assert 'id="ledger"' in page
