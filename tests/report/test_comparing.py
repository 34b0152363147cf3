"""Runs side by side: pairing, what forbids it, adjusted chances, and the words for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest, fisher_exact

from mithridate.errors import ConfigError, StoreError
from mithridate.report.compared import as_json, cell, head, sentence
from mithridate.report.comparing import Beside, Pair, compare
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, experiment
from tests.report.fabricate_degrade import Made as Degrading
from tests.report.fabricate_degrade import fabricate_table

ALL = range(12)


def run(folder: Path, hits: dict[str, Sequence[int]], *, trials: int = 12, runs: int = 1, **described: Any) -> Path:
    """For each defense the trials whose networks are all hit; clean ones never are."""
    digest = described.pop("data_digest", "abc")
    victim = described.pop("victim", "convnet, 25 epochs")
    with Store(folder, create=True) as store:
        settings = experiment(trials=trials, runs=runs) | described
        store.describe(classes=list(CLASSES), experiment=settings, data_digest=digest)
        for trial in range(trials):
            add_craft(store, trial)
            for defense, those in hits.items():
                for number in range(runs):
                    where = {"defense": defense, "run": number, "victim": victim}
                    add_victim(store, "attack", trial, hit=trial in those, **where)
            add_victim(store, "clean", trial, hit=False, victim=victim)
    return folder


def only(found: list[Beside]) -> Beside:
    (one,) = found
    return one


def plain(pair: Pair) -> str:
    return sentence(pair).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def test_single_hits_over_the_same_trials_are_compared_by_mcnemar(tmp_path: Path) -> None:
    """Twelve hit in one run, four of them in the other: eight discordant trials, all one way."""
    found = only(compare([run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {"none": range(4)})]))
    (pair,) = found.pairs
    assert (pair.test, pair.difference.trials) == ("McNemar", 12)
    assert pair.difference.mean == pytest.approx(-8 / 12)
    assert pair.difference.chance == pytest.approx(binomtest(8, 8).pvalue)
    assert pair.clear
    assert "33 % [14–61 %] against 100 % [76–100 %]: -67 points" in plain(pair)
    assert "McNemar: p = 0.0078, 12 trials: clearly lower." in plain(pair)
    assert pair.bootstrap is not None
    assert pair.bootstrap.low < -8 / 12 < pair.bootstrap.high


def test_several_victims_a_trial_are_compared_by_sign_flips(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", {"none": ALL}, runs=2), run(tmp_path / "b", {"none": range(4)}, runs=2)
    (pair,) = only(compare([one, two])).pairs
    assert pair.test == "sign flips"
    assert pair.difference.chance == pytest.approx(2 / 2**8)


def test_only_shared_trials_count(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {"none": range(8)}, trials=8)
    two = run(tmp_path / "b", {"none": range(4)}, trials=12)
    (pair,) = only(compare([one, two])).pairs
    assert pair.difference.trials == 8
    assert (pair.one.mean, pair.two.mean) == (1.0, 0.5)


def test_chances_are_adjusted_over_the_whole_table(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {"none": ALL, "jpeg": ALL, "mixup": ALL})
    two = run(tmp_path / "b", {"none": ALL, "jpeg": range(4), "mixup": range(6)})
    three = run(tmp_path / "c", {"none": ALL, "jpeg": ALL, "mixup": ALL})
    pairs = [pair for each in compare([one, two, three]) for pair in each.pairs]
    assert [pair.difference.family for pair in pairs] == [6] * 6
    expected = {"none": 1, "jpeg": 6 * binomtest(8, 8).pvalue, "mixup": 5 * binomtest(6, 6).pvalue}
    for pair in pairs[:3]:
        assert pair.difference.chance == pytest.approx(expected[pair.second.defense])
    assert [pair.clear for pair in pairs[:3]] == [False, True, False]
    assert "adjusted for 6 comparisons" in plain(pairs[1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_digest": "other"}, "they have other data"),
        ({"seed": 8}, "seed is 7 in one and 8 in the other"),
        ({"threat": {"goal": {"name": "other"}}}, "the poisoner has another goal"),
        ({"setups": "x.json"}, "setups is '' in one and 'x.json' in the other"),
    ],
)
def test_other_trials_are_compared_unpaired_and_only_with_words(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    one, two = run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {"none": range(4)}, **changed)
    found = only(compare([one, two]))
    (pair,) = found.pairs
    assert f"Not the same trials: {said}" in " ".join(head(found))
    assert "two unpaired samples" in " ".join(head(found))
    assert pair.test == "Fisher, unpaired"
    assert pair.difference.chance == pytest.approx(fisher_exact([[4, 8], [12, 0]]).pvalue)
    assert pair.bootstrap is None
    assert "12 and 12 trials" in plain(pair)


def test_other_targets_in_the_same_trials_are_noticed(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {})
    with Store(two, create=True) as store:
        for trial in range(12):
            target = {"id": 99, "true": 0, "wanted": 1, "predicted": 0, "probabilities": [], "hit": False}
            add_victim(store, "attack", trial, hit=False, targets=[target])
    assert "trials of the same number have other targets" in head(only(compare([one, two])))[1]


def test_another_threat_is_said_beside_a_paired_comparison(tmp_path: Path) -> None:
    threat = {"budget": 0.08, "perturbation": {"name": "linf", "radius": 32 / 255}}
    one, two = run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {"none": ALL}, threat=threat)
    found = only(compare([one, two]))
    assert "threat.budget differs" in " ".join(head(found))
    assert found.pairs[0].test == "McNemar"


def test_a_single_part_of_another_name_is_compared_and_said(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {"none": range(4)}, victim="resnet")
    found = only(compare([one, two]))
    assert "Compared under other names: victim: convnet, 25 epochs in the first, resnet in the second." in head(found)
    assert len(found.pairs) == 1


def test_cells_that_one_run_alone_has_are_counted(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", {"none": ALL, "jpeg": ALL}), run(tmp_path / "b", {"none": ALL, "mixup": ALL})
    found = only(compare([one, two]))
    assert [pair.second.defense for pair in found.pairs] == ["none"]
    assert found.alone == 2
    nothing = only(compare([one, run(tmp_path / "c", {})]))
    assert "nothing to compare" in " ".join(head(nothing))


def test_a_defense_gets_no_credit_where_the_attack_did_not_land(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {"none": ALL, "jpeg": ALL})
    two = run(tmp_path / "b", {"none": [], "jpeg": []})
    pairs = {pair.second.defense: pair for pair in only(compare([one, two])).pairs}
    assert pairs["jpeg"].clear
    assert pairs["jpeg"].unlanded == (1,)
    assert "No credit to the defense in the second run" in plain(pairs["jpeg"])
    assert pairs["none"].unlanded == ()


def test_runs_that_degrade_are_compared_by_students_t(tmp_path: Path) -> None:
    one = fabricate_table(tmp_path / "a", Degrading(attacks={"back-gradient": 0.2}))
    two = fabricate_table(tmp_path / "b", Degrading(attacks={"back-gradient": 0.1}))
    (pair,) = only(compare([one, two])).pairs
    assert pair.test == "Student's t"
    assert pair.difference.low < -0.08 < pair.difference.high or pair.difference.mean == pytest.approx(-0.1, abs=0.02)
    with pytest.raises(ConfigError, match="measure other things"):
        compare([one, run(tmp_path / "c", {"none": ALL})])


def test_json_holds_what_is_said(tmp_path: Path) -> None:
    found = only(compare([run(tmp_path / "a", {"none": ALL}), run(tmp_path / "b", {"none": range(4)})]))
    told = json.loads(json.dumps(as_json(found)))
    (row,) = told["pairs"]
    assert told["paired"] is True
    assert row["difference"]["mean"] == pytest.approx(-8 / 12)
    assert (row["test"], row["clear"], row["landed"]) == ("McNemar", True, [True, True])
    assert row["bootstrap"]["method"] == "bca"


def test_refuses_what_is_no_pair_of_runs(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", {"none": ALL})
    with pytest.raises(ConfigError, match="two run folders or more"):
        compare([folder])
    with pytest.raises(ConfigError, match="named twice"):
        compare([folder, tmp_path / "b" / ".." / "a"])
    with pytest.raises(StoreError, match="no run"):
        compare([folder, tmp_path / "nothing"])


def test_settings_that_differ_under_one_name_are_said(tmp_path: Path) -> None:
    """Without it, a reader takes the difference of two settings for that of two runs."""
    names = {"attack": ["gradient-matching"], "defense": ["none", "mixup"], "victim": ["convnet, 25 epochs"]}
    for name, steps, alpha, epochs in (("a", 80, 1.0, 25), ("b", 9, 0.5, 30)):
        described: dict[str, Any] = {
            "attacks": [{"name": "gradient-matching", "steps": steps}],
            "defenses": [[], [{"name": "mixup", "alpha": alpha}]],
            "surrogates": [{"model": {"name": "convnet"}, "epochs": epochs}],
        }
        run(tmp_path / name, {"none": ALL, "mixup": [1]}, **described)
        with Store(tmp_path / name) as store:
            store.describe(names=names)
    found = only(compare([tmp_path / "a", tmp_path / "b"]))
    assert found.sameness.other == (
        "attack gradient-matching has other settings (steps=80 in the first, steps=9 in the second)",
        "defense mixup has other settings (alpha=1 in the first, alpha=0.5 in the second)",
        "the surrogates have other settings (epochs=25 in the first, epochs=30 in the second)",
    )
    assert "steps=9 in the second" in " ".join(head(found))


def test_numbers_of_oracles_are_stamped_in_words_and_json(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, told in zip(folders, (False, True), strict=True):
        with Store(folder, create=True) as store:
            store.describe(classes=list(CLASSES), experiment=experiment(trials=3, runs=1), data_digest="abc")
            for trial in range(3):
                add_craft(store, trial)
                add_victim(store, "attack", trial, hit=True)
                add_victim(store, "attack", trial, hit=False, defense="filter", oracle=told)
    found = only(compare(folders))
    assert [cell(pair).rsplit(", ", 1)[1] for pair in found.pairs] == ["none", "filter (oracle)"]
    rows = as_json(found)["pairs"]
    assert [(row["first"]["oracle"], row["second"]["oracle"]) for row in rows] == [(False, False), (False, True)]
