"""The gate: what passes, what exceeds, what cannot be told, and the files that say so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from scipy.stats import binomtest

from mithridate.errors import ConfigError
from mithridate.report.gate_files import as_json, as_junit, as_sarif
from mithridate.report.gating import Gate, Limits, gate
from mithridate.sequential import confidence_sequence
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, experiment, fail, scenario
from tests.report.fabricate_degrade import Made as Degrading
from tests.report.fabricate_degrade import fabricate_table

FIVE = Limits(max_success=0.05)


def run(folder: Path, hits: dict[str, Sequence[int]], *, trials: int, clean: bool = True, **described: object) -> Path:
    """One network a trial: for each defense the trials hit. Clean ones are never hit."""
    with Store(folder, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=trials, runs=1), **described)
        for trial in range(trials):
            add_craft(store, trial)
            for defense, those in hits.items():
                add_victim(store, "attack", trial, hit=trial in those, defense=defense)
            if clean:
                add_victim(store, "clean", trial, hit=False)
    return folder


def plain(found: Gate) -> str:
    return found.cells[0].sentence.replace("\N{NO-BREAK SPACE}", " ")


def test_59_trials_without_a_hit_pass_at_5_percent_and_58_cannot_tell(tmp_path: Path) -> None:
    """The rule of three, exactly: 0.95 ** 59 < 0.05 < 0.95 ** 58."""
    enough = gate(run(tmp_path / "59", {"none": []}, trials=59), FIVE)
    assert enough.outcome == "passed"
    assert "Success 0 % in 59 trials, at most 4.9" in plain(enough) or "at most 5.0 %" in plain(enough)
    few = gate(run(tmp_path / "58", {"none": []}, trials=58), FIVE)
    assert few.outcome == "unknown"
    assert "It would take about 59 trials, if all stays so." in plain(few)


def test_bounds_are_scipys_exact_one_sided_ones(tmp_path: Path) -> None:
    found = gate(run(tmp_path, {"none": [0, 3]}, trials=40), Limits(max_success=0.2, confidence=0.9))
    (check,) = found.cells[0].checks
    assert check.bounded is not None
    upper = binomtest(2, 40, alternative="less").proportion_ci(0.9).high
    lower = binomtest(2, 40, alternative="greater").proportion_ci(0.9).low
    assert (check.bounded.low, check.bounded.high) == pytest.approx((lower, upper))
    assert found.outcome == "passed"


def test_a_rate_clearly_above_the_limit_exceeds_it(tmp_path: Path) -> None:
    found = gate(run(tmp_path, {"none": range(6)}, trials=10), FIVE)
    assert found.outcome == "exceeded"
    assert "above the limit of 5.0 %" in plain(found)


def test_a_rate_above_the_limit_by_chance_is_not_said_to_exceed_it(tmp_path: Path) -> None:
    found = gate(run(tmp_path, {"none": [0]}, trials=10), FIVE)
    assert found.outcome == "unknown"
    assert "More trials at this mean would not bring it below the limit." in plain(found)


def test_lower_bounds_are_corrected_for_the_number_of_cells(tmp_path: Path) -> None:
    """Three hits of eight, limit 10 %: P(at least 3) is 3.8 %, clear in one cell and not among five."""
    defenses = {f"d{k}": [0, 1, 2] if k == 0 else [] for k in range(5)}
    one = gate(run(tmp_path, {"none": range(8), **defenses}, trials=8), Limits(max_success=0.1), defense="d0")
    every = gate(tmp_path, Limits(max_success=0.1))
    assert one.cells[0].outcome == "exceeded"
    assert every.cells[0].outcome == "unknown"


def test_a_defense_passes_only_where_the_attack_landed_without_it(tmp_path: Path) -> None:
    landed = gate(run(tmp_path / "a", {"none": range(60), "jpeg": []}, trials=60), FIVE)
    assert landed.outcome == "passed"
    assert [each.defense for each in landed.cells] == ["jpeg"]
    failed = run(tmp_path / "b", {"none": [], "jpeg": []}, trials=60)
    assert gate(failed, FIVE).outcome == "unknown"
    assert "Without a defense the attack has not clearly landed" in plain(gate(failed, FIVE))
    assert gate(failed, Limits(max_success=0.05, allow_unlanded=True)).outcome == "passed"
    alone = run(tmp_path / "c", {"jpeg": []}, trials=60)
    assert "The attack was not run without a defense" in plain(gate(alone, FIVE))


def test_without_clean_victims_no_attack_has_landed(tmp_path: Path) -> None:
    found = gate(run(tmp_path, {"none": range(60), "jpeg": []}, trials=60, clean=False), FIVE)
    assert found.outcome == "unknown"


def test_lower_bounds_are_corrected_for_the_number_of_limits_too(tmp_path: Path) -> None:
    """Three hits of eight, limit 10 %: clear by itself (3.8 %), and not where the accuracy may break a limit, too."""
    folder = run(tmp_path, {"none": [0, 1, 2]}, trials=8)
    assert gate(folder, Limits(max_success=0.1)).outcome == "exceeded"
    both = gate(folder, Limits(max_success=0.1, min_accuracy=0.1))
    assert [each.outcome for each in both.cells[0].checks] == ["unknown", "passed"]


def test_a_gate_that_nothing_stands_before_is_refused_and_does_not_pass(tmp_path: Path) -> None:
    """The only defense is an oracle, and the undefended were not run."""
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=10, runs=1))
        for trial in range(10):
            add_craft(store, trial)
            add_victim(store, "attack", trial, hit=True, defense="epic (oracle)", oracle=True)
    with pytest.raises(ConfigError, match=r"name one with --defense: epic \(oracle\)"):
        gate(tmp_path, FIVE)
    assert gate(tmp_path, FIVE, defense="epic (oracle)").outcome == "exceeded"


@pytest.mark.parametrize("defense", ["none", "jpeg"])
def test_an_attack_that_is_an_oracle_stands_before_the_gate(tmp_path: Path, defense: str) -> None:
    """It hits the more; only defenses that were told what they cannot know are left out."""
    fact = {"who": "attacker", "what": "defense", "value": "its seed", "oracle": True, "where": "a test"}
    place = {"attack": "gradient-matching", "scenario": scenario(32 / 255, 0.04), "victim": "convnet, 25 epochs"}
    stacks = [{"defense": name, "facts": []} for name in ("none", "jpeg")]
    told = {"facts": [fact], "attackers": [place | {"facts": [0]}], "stacks": stacks}
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=10, runs=1), ledger=told)
        for trial in range(10):
            add_craft(store, trial)
            add_victim(store, "attack", trial, hit=True, defense=defense, oracle=True)
            add_victim(store, "clean", trial, hit=False, defense=defense)
    found = gate(tmp_path, FIVE)
    assert [each.defense for each in found.cells] == [defense]
    assert found.outcome == "exceeded"


def test_a_defense_that_is_broken_exceeds_whether_the_attack_landed_or_not(tmp_path: Path) -> None:
    found = gate(run(tmp_path, {"jpeg": range(10)}, trials=10), FIVE)
    assert found.outcome == "exceeded"


def test_unfinished_and_failed_runs_never_pass(tmp_path: Path) -> None:
    """59 trials of a craft and a network each, and one clean network of its own for all trials."""
    unfinished = gate(run(tmp_path / "a", {"none": []}, trials=59, jobs=500), FIVE)
    assert unfinished.outcome == "unknown"
    assert "of 500 jobs are not done" in unfinished.sentence
    failed = run(tmp_path / "b", {"none": []}, trials=59)
    with Store(failed, create=True) as store:
        fail(store)
    assert gate(failed, FIVE).outcome == "unknown"
    assert "1 job of this run failed" in gate(failed, FIVE).sentence


def test_a_run_that_stopped_on_purpose_is_finished_and_bounded_by_its_sequence(tmp_path: Path) -> None:
    note = {"width": 0.1, "trials": 70, "most": 200, "reached": True}
    found = gate(run(tmp_path, {"none": []}, trials=70, jobs=500, sequential=note), Limits(max_success=0.1))
    (check,) = found.cells[0].checks
    assert check.bounded is not None
    assert check.bounded.high == confidence_sequence([0.0] * 70).high
    assert found.outcome == "passed"


def test_a_run_that_was_to_stop_on_purpose_but_has_not_cannot_pass(tmp_path: Path) -> None:
    note = {"width": 0.1, "trials": 70, "most": 200, "reached": False}
    found = gate(run(tmp_path, {"none": []}, trials=70, jobs=500, sequential=note), Limits(max_success=0.1))
    assert found.outcome == "unknown"
    assert "jobs are not done" in found.unfinished


def test_victims_of_one_trial_do_not_count_as_many(tmp_path: Path) -> None:
    """Twenty trials of three networks that always agree are worth twenty."""
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES))
        for trial in range(20):
            for number in range(3):
                add_victim(store, "attack", trial, hit=False, run=number)
    (check,) = gate(tmp_path, FIVE).cells[0].checks
    assert check.bounded is not None
    assert check.bounded.high == pytest.approx(1 - 0.05 ** (1 / 20))


def test_accuracy_must_stay_above_its_limit(tmp_path: Path) -> None:
    """Accuracies of 0.85 in all twelve trials; a share of others of at most 22 % may never have shown."""
    folder = run(tmp_path, {"none": []}, trials=12)
    hidden = 1 - 0.05 ** (1 / 12)
    (check,) = gate(folder, Limits(min_accuracy=0.6)).cells[0].checks
    assert check.bounded is not None
    assert check.bounded.low == pytest.approx(0.85 * (1 - hidden))
    outcomes = [gate(folder, Limits(min_accuracy=limit)).outcome for limit in (0.6, 0.7, 0.97)]
    assert outcomes == ["passed", "unknown", "exceeded"]


def test_accuracy_is_bounded_by_its_sequence_where_trials_were_added_by_looking(tmp_path: Path) -> None:
    note = {"width": 0.1, "trials": 70, "most": 200, "reached": True}
    (once,) = gate(run(tmp_path / "a", {"none": []}, trials=70), Limits(min_accuracy=0.7)).cells[0].checks
    looked = run(tmp_path / "b", {"none": []}, trials=70, jobs=500, sequential=note)
    (often,) = gate(looked, Limits(min_accuracy=0.7)).cells[0].checks
    assert once.bounded is not None
    assert often.bounded is not None
    assert often.bounded.low == pytest.approx(confidence_sequence([0.85] * 70).low)
    assert often.bounded.low < once.bounded.low


def test_names_no_number_of_trials_where_bounds_allow_for_looking(tmp_path: Path) -> None:
    """Of 60 trials fixed in advance none hit is enough for 5 %, so that another number would be named wrongly."""
    note = {"width": 0.1, "trials": 60, "most": 200, "reached": True}
    folder = run(tmp_path, {"none": []}, trials=60, jobs=500, sequential=note)
    for limits in (FIVE, Limits(min_accuracy=0.8)):
        found = gate(folder, limits)
        assert found.outcome == "unknown"
        assert plain(found).endswith("More trials would tell.")


def test_one_hit_more_never_brings_the_bound_down(tmp_path: Path) -> None:
    """20 trials of 20 networks: no hit of 400 does not pass 5 %, and one hit must not either."""
    highs = []
    for hits in (0, 1, 2, 20):
        with Store(tmp_path / str(hits), create=True) as store:
            store.describe(classes=list(CLASSES))
            for trial in range(20):
                for number in range(20):
                    add_victim(store, "attack", trial, hit=20 * number + trial < hits, run=number)
        found = gate(tmp_path / str(hits), FIVE)
        (check,) = found.cells[0].checks
        assert check.bounded is not None
        assert found.outcome == "unknown"
        highs.append(check.bounded.high)
    assert highs == sorted(highs)
    assert highs[0] == pytest.approx(1 - 0.05 ** (1 / 20))


class TestDegrading:
    def test_is_gated_on_the_rise_of_the_error(self, tmp_path: Path) -> None:
        folder = fabricate_table(tmp_path, Degrading(attacks={"back-gradient": 0.2}, trials=10))
        outcomes = [gate(folder, Limits(max_rise=limit)).outcome for limit in (0.45, 0.2, 0.05)]
        assert outcomes[0] == "passed"
        assert outcomes[2] == "exceeded"
        assert outcomes[1] == "unknown"

    def test_two_trials_that_agree_cannot_tell(self, tmp_path: Path) -> None:
        """Another kind of trial may be as common as 78 %: 1 - 0.05^(1/2)."""
        folder = fabricate_table(tmp_path, Degrading(attacks={"back-gradient": 0.0}, trials=2))
        found = gate(folder, Limits(max_rise=0.2))
        (check,) = found.cells[0].checks
        assert check.bounded is not None
        assert found.outcome == "unknown"
        assert check.bounded.high >= 0.77

    def test_a_run_that_stopped_on_purpose_is_bounded_by_its_sequences(self, tmp_path: Path) -> None:
        folder = fabricate_table(tmp_path, Degrading(attacks={"back-gradient": 0.2}, trials=40))
        (once,) = gate(folder, Limits(max_rise=0.5)).cells[0].checks
        with Store(folder, create=True) as store:
            store.describe(sequential={"width": 0.1, "trials": 40, "most": 80, "reached": True})
        (often,) = gate(folder, Limits(max_rise=0.5)).cells[0].checks
        assert once.bounded is not None
        assert often.bounded is not None
        assert often.bounded.mean == pytest.approx(once.bounded.mean)
        assert often.bounded.low < once.bounded.low < once.bounded.high < often.bounded.high

    def test_baselines_stand_before_the_gate_only_by_name(self, tmp_path: Path) -> None:
        folder = fabricate_table(tmp_path)
        assert [each.attack for each in gate(folder, Limits(max_rise=0.9)).cells] == ["back-gradient"]
        named = gate(folder, Limits(max_rise=0.9), attack="random-flips")
        assert [each.attack for each in named.cells] == ["random-flips"]

    def test_limits_of_the_other_kind_are_refused(self, tmp_path: Path) -> None:
        folder = fabricate_table(tmp_path / "a")
        with pytest.raises(ConfigError, match="limit its rise with --max-rise"):
            gate(folder, FIVE)
        with pytest.raises(ConfigError, match="use --max-success"):
            gate(run(tmp_path / "b", {"none": []}, trials=3), Limits(max_rise=0.1))

    def test_without_clean_victims_it_cannot_tell(self, tmp_path: Path) -> None:
        folder = fabricate_table(tmp_path, Degrading(attacks={"back-gradient": 0.2}, clean=False))
        found = gate(folder, Limits(max_rise=0.9))
        assert found.outcome == "unknown"
        assert "no victim was judged on clean data" in plain(found)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "a gate needs a limit"),
        ({"max_success": 1.5}, "--max-success must lie between 0 and 1"),
        ({"max_success": float("nan")}, "--max-success must lie between 0 and 1"),
        ({"max_success": 0.1, "confidence": 0.4}, "--confidence must lie between"),
    ],
)
def test_refuses_limits_that_are_none(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits(**wrong)  # type: ignore[arg-type]


def test_refuses_names_that_are_not_in_the_run(tmp_path: Path) -> None:
    folder = run(tmp_path, {"none": [], "jpeg": []}, trials=3)
    with pytest.raises(ConfigError, match="there is no defense 'epic' in this run; there are: none, jpeg"):
        gate(folder, FIVE, defense="epic")
    with pytest.raises(ConfigError, match="there is no attack 'x'"):
        gate(folder, FIVE, attack="x")
    assert [each.defense for each in gate(folder, FIVE, defense="none").cells] == ["none"]


def test_lets_a_rate_at_the_limit_pass_no_more_often_than_one_in_twenty(tmp_path: Path) -> None:
    """By the bound itself over 10 000 draws of 80 trials at the limit."""
    hits = np.random.default_rng(0).binomial(80, 0.05, 10_000)
    passed = [binomtest(int(k), 80, alternative="less").proportion_ci(0.95).high <= 0.05 for k in range(81)]
    assert np.mean([passed[k] for k in hits]) <= 0.05


class TestFiles:
    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Gate:
        """One cell of each outcome."""
        hits = {"none": range(60), "jpeg": [], "mixup": range(30), "cut <&>": [0]}
        return gate(run(tmp_path, hits, trials=60), FIVE)

    def test_junit_has_a_case_for_each_cell_and_counts_what_went_wrong(self, mixed: Gate) -> None:
        root = Xml.fromstring(as_junit(mixed))
        (suite,) = root
        cases = suite.findall("testcase")
        assert (root.tag, suite.tag) == ("testsuites", "testsuite")
        assert [len(cases), len(mixed.cells)] == [4, 3]
        assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
            "tests": "4", "failures": "1", "errors": "1",
        }  # fmt: skip
        kinds = {case.get("name", "").split(", ")[-1]: [each.tag for each in case] for case in cases}
        assert kinds["jpeg"] == ["system-out"]
        assert kinds["mixup"] == ["failure", "system-out"]
        assert kinds["cut <&>"] == ["error", "system-out"]
        assert kinds["every job is done"] == []
        assert all(each.get("classname") and each.get("name") for each in cases)
        assert all(each.get("message") and each.get("type") for each in root.iter() if each.tag in ("failure", "error"))

    def test_sarif_has_the_structure_of_2_1_0(self, mixed: Gate) -> None:
        log = json.loads(as_sarif(mixed, version="1.2.3"))
        assert log["version"] == "2.1.0"
        assert log["$schema"].endswith("sarif-schema-2.1.0.json")
        (only,) = log["runs"]
        rules = only["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        assert all(rule["shortDescription"]["text"] for rule in rules)
        assert [(each["kind"], each["level"]) for each in only["results"]] == [
            ("pass", "none"), ("fail", "error"), ("open", "none"),
        ]  # fmt: skip
        for each in only["results"]:
            assert rules[each["ruleIndex"]]["id"] == each["ruleId"]
            assert each["message"]["text"]
            assert " " not in each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            assert each["kind"] == "fail" or each["level"] == "none", "the standard: only failures have a level"

    def test_json_has_every_bound(self, mixed: Gate) -> None:
        found = json.loads(json.dumps(as_json(mixed)))
        assert found["outcome"] == "exceeded"
        assert [cell["outcome"] for cell in found["cells"]] == ["passed", "exceeded", "unknown"]
        for cell in found["cells"]:
            (check,) = cell["checks"]
            assert check["low"] <= check["mean"] <= check["high"]
            assert check["trials"] == 60

    def test_an_unfinished_run_is_an_error_of_its_own(self, tmp_path: Path) -> None:
        found = gate(run(tmp_path, {"none": []}, trials=59, jobs=500), FIVE)
        assert Xml.fromstring(as_junit(found))[0][-1][0].tag == "error"
        assert json.loads(as_sarif(found, version="1"))["runs"][0]["results"][-1]["ruleId"] == "run-finished"
