"""Promises of the verdict in words."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from mithridate.report.load import read
from mithridate.report.verdict import Verdict, verdict
from mithridate.report.words import KNOWLEDGE
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, fabricate
from tests.report.fabricate_polytopes import fabricate_polytopes


def of(folder: Path) -> Verdict:
    found = verdict(read(folder))
    assert found is not None
    return found


def one_trial(folder: Path, hits: int, runs: int, **changes) -> Path:
    with Store(folder, create=True) as store:
        store.describe(classes=list(CLASSES))
        add_craft(store, 0)
        for run in range(runs):
            add_victim(store, "attack", 0, hit=run < hits, run=run, **changes)
        add_victim(store, "clean", 0, hit=False, run=0)
    return folder


def test_names_the_classes_where_there_is_one_target(tmp_path: Path):
    found = of(one_trial(tmp_path, 2, 3))
    assert found.sentence == (
        "2 of 3 freshly trained networks called this “ankle boot” a “bag”; 0 of 1 when trained on clean data."
    )


def test_numbers_stand_in_for_names(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        add_victim(store, "attack", 3, hit=True, targets=[{"id": 1, "true": 4, "wanted": 8, "hit": True}])
    assert of(tmp_path).sentence == "1 of 1 freshly trained network called this “4” an “8”."


def test_speaks_of_targets_where_their_classes_differ(folder: Path):
    found = of(folder)
    assert found.sentence == (
        "9 of 12 freshly trained networks called their target what the poisoner wanted; "
        "the 2 networks trained on clean data did so 0 of 8 times."
    )


def test_counts_targets_where_networks_have_several(tmp_path: Path):
    targets = [{"id": k, "true": 0, "wanted": 1, "predicted": k, "hit": k == 1} for k in range(4)]
    one_trial(tmp_path, 0, 2, targets=targets, success=0.25)
    assert "2 freshly trained networks" in of(tmp_path).sentence
    assert "for 2 of 8 targets" in of(tmp_path).sentence


def test_counts_all_targets_where_only_a_few_are_described(tmp_path: Path):
    targets = [{"id": k, "true": 0, "wanted": 1, "predicted": 1, "hit": True} for k in range(16)]
    one_trial(tmp_path, 0, 2, targets=targets, success=0.5, judged=200)
    assert "for 200 of 400 targets" in of(tmp_path).sentence


def test_says_that_an_attack_landed_only_where_the_intervals_are_apart(tmp_path: Path):
    assert of(fabricate(tmp_path / "many", trials=12, strength=1.0)).standing == "landed"
    few = of(fabricate(tmp_path / "few", trials=2, strength=0.75))
    assert few.standing == "unclear"
    assert "overlap" in few.standing_text


def test_says_that_an_attack_did_not_land(tmp_path: Path):
    found = of(fabricate(tmp_path, trials=3, strength=0.0))
    assert found.standing == "missed"
    assert "did not land" in found.standing_text
    assert "up to 56" in found.standing_text  # Wilson's upper bound at 0 of 3 is 56.1 %


def test_noise_that_hits_as_often_means_that_the_attack_did_not_land(tmp_path: Path):
    one_trial(tmp_path, 1, 2)
    with Store(tmp_path) as store:
        add_victim(store, "noise", 0, hit=True)
    assert of(tmp_path).standing == "missed"


def test_says_when_nothing_controls_the_number(tmp_path: Path):
    found = of(fabricate(tmp_path, trials=3, clean=False))
    assert found.standing == "uncontrolled"
    assert "clean data" not in found.sentence


def test_says_how_often_clean_networks_were_judged(folder: Path):
    assert of(folder).counts[-1].label == "Trained on clean data (2 networks, judged on the targets of 4 trials)"


@pytest.mark.parametrize("controls", [[], ["clean"]])
def test_no_victims_no_verdict(tmp_path: Path, controls: list[str]):
    with Store(tmp_path, create=True) as store:
        add_craft(store, 0)
        for control in controls:
            add_victim(store, control, 0, hit=False)
    assert verdict(read(tmp_path)) is None


def test_says_what_the_attacker_knows_and_what_others_published(tmp_path: Path):
    found = of(fabricate_polytopes(tmp_path, trials=4))
    assert found.details[0] == "White-box: one or more of the attacker's networks start from the victim's weights."
    text = " ".join(found.details).replace("\N{NO-BREAK SPACE}", " ")
    assert "Published: 95 % over 100 trials (Schwarzschild et al. 2021, table as of September 2021)." in text
    assert "Our interval holds that rate." in text  # 3 of 4: 30 % to 95.4 %


def test_words_for_knowledge_are_those_of_the_experiment():
    from mithridate.knowledge import Box

    assert tuple(KNOWLEDGE) == get_args(Box)
