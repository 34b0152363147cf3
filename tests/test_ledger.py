"""Who knew what: declared by every method, told for every cell, stamped where nobody could know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mithridate import registry
from mithridate.attack import Attack
from mithridate.control import MatchedControl
from mithridate.defense import Defense
from mithridate.experiment import Experiment, Job
from mithridate.facts import NO_ATTACKER_FACTS, NO_DEFENDER_FACTS
from mithridate.ledger import is_oracle, ledger, told
from mithridate.report import load, tables
from mithridate.report.ledger import Fact, Ledger, lines
from mithridate.report.ledger import ledger as read_ledger
from tests.runs import carried_out, tiny

NET = {"model": {"name": "mlp", "hidden": [9]}, "epochs": 2, "batch_size": 32, "augmentation": None}


@pytest.mark.parametrize(
    ("noun", "name"), [(noun, name) for noun in (Attack, Defense) for name in registry.places(noun)]
)
def test_every_method_declares_what_it_assumes(noun: type, name: str) -> None:
    kind: Any = registry.kind(noun, name)
    assert kind.assumes not in (NO_ATTACKER_FACTS, NO_DEFENDER_FACTS)
    assert {each.who for each in kind.assumes} <= {"attacker" if noun is Attack else "defender"}
    assert all(each.value and not each.value.endswith(".") for each in kind.assumes)


def test_methods_that_declare_nothing_are_said_to() -> None:
    """Silence is no innocence."""
    assert NO_ATTACKER_FACTS[0].value == NO_DEFENDER_FACTS[0].value
    assert "not declared" in NO_DEFENDER_FACTS[0].value
    assert Defense.assumes == NO_DEFENDER_FACTS
    assert Attack.assumes == NO_ATTACKER_FACTS


def facts(experiment: Experiment, **place: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fact in ledger(experiment, Job(kind="attack", **place)):
        found.setdefault(fact.what, []).append(fact.value)
    return found


class TestLedger:
    def test_says_what_the_threat_model_grants(self) -> None:
        found = facts(tiny(targets="correct", surrogates=[NET]))
        assert found["training rows"] == ["all that victims train on"]
        assert found["target"] == [
            "the very inputs that victims are judged on",
            "drawn among inputs that every surrogate calls by their right name",
        ]
        assert found["victim network"] == ["neither its architecture nor its weights"]
        assert found["victim training"][0].startswith("others than the victim's")
        assert "defense" not in found

    def test_follows_the_crew(self) -> None:
        experiment = tiny(surrogates=[NET, tiny().victims[0]], crews={"other": [0], "same": [1]})
        networks = [facts(experiment, crew=crew)["victim network"][0] for crew in (0, 1)]
        assert networks == ["neither its architecture nor its weights", "its architecture, but not its weights"]
        assert facts(experiment, crew=1)["victim training"][0] == "the victim's own settings"

    def test_says_whether_the_defense_is_known(self) -> None:
        settings: dict[str, Any] = {"defenses": ["none", "mixup"], "controls": {"clean": 0, "noise": 0}}
        assert facts(tiny(**settings), defense=1)["defense"] == ["not known"]
        assert facts(tiny(**settings, adaptive=True), defense=1)["defense"] == ["known: its surrogates train inside it"]

    def test_of_given_poison_says_what_the_attack_says_and_no_more(self, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"defenses": ["none", "mixup"], "controls": {"clean": 0, "noise": 0}}
        given = {"name": "given", "folder": str(tmp_path)}
        alone = tiny(attacks=[given], **settings)
        assert [fact.what for fact in ledger(alone, Job(kind="attack", defense=1)) if fact.who == "attacker"] == [
            "everything"
        ]
        beside = told(tiny(attacks=[given, {"name": "feature-collision"}], targets="correct", **settings))
        held = {each["attack"]: [beside["facts"][k]["what"] for k in each["facts"]] for each in beside["attackers"]}
        assert held["given"] == ["everything"]
        assert {"training rows", "target", "victim network"} <= set(held["feature-collision"])

    @pytest.mark.parametrize(
        ("settings", "rate"),
        [
            ({"name": "sphere", "percentile": 80}, "assumed: 20 % of the rows"),
            ({"name": "slab", "percentile": 95}, "assumed: 5 % of the rows"),
            ({"name": "activation-clustering", "size": 0.2}, "assumed: less than 20 % of the rows of a class"),
        ],
    )
    def test_a_filter_declares_how_much_poison_it_reckons_with(self, settings: dict[str, Any], rate: str) -> None:
        found = facts(tiny(defenses=["none", settings], controls={"clean": 0, "noise": 0}), defense=1)
        assert found["poison rate"] == [rate]

    def test_of_rows_of_its_own_and_of_degrading(self) -> None:
        threat = {
            "goal": {"name": "degrade", "known": 20}, "knows": "own-rows", "rows": "append", "labels": "dirty",
            "origin": "random-subset", "perturbation": {"name": "unbounded"},
        }  # fmt: skip
        found = facts(tiny(threat=threat, attacks=[{"name": "random-flips"}], training_rows=30))
        assert found["training rows"] == ["none; 30 others from the same source"]
        assert found["validation rows"] == ["its own, held out of the training rows"]
        assert found["victim network"] == ["nothing is used of it"]

    @pytest.mark.parametrize(
        ("defense", "rates", "oracle"),
        [
            ({"name": "deep-knn"}, ["assumed: 1 % of the rows"], False),
            ({"name": "deep-knn", "expected": "true"}, ["the true number of poisoned rows"], True),
            ({"name": "deep-knn", "expected": "true", "k": 5}, [], False),
            ({"name": "spectral-signatures", "expected": "true"}, ["the true number of poisoned rows"], True),
            ({"name": "loss-sanitisation", "fraction": 0.2}, ["assumed: 20 % of the rows"], False),
            ({"name": "oracle-filter"}, [], True),
            ({"name": "epic"}, [], False),
        ],
    )
    def test_stamps_what_nobody_can_know(self, defense: dict[str, Any], rates: list[str], oracle: bool) -> None:
        experiment = tiny(defenses=[defense], controls={"clean": 1, "noise": 1, "drops": []})
        assert facts(experiment).get("poison rate", []) == rates
        assert is_oracle(experiment, Job(kind="attack")) == oracle
        assert any(fact.oracle for fact in ledger(experiment, Job(kind="attack"))) == oracle

    def test_a_control_inherits_the_oracle_of_what_it_controls(self) -> None:
        experiment = tiny(defenses=["none", {"name": "deep-knn", "expected": "true"}])
        for number, stack in enumerate(experiment.stacks()):
            if stack.defenses and isinstance(stack.defenses[0], MatchedControl):
                assert is_oracle(experiment, Job(kind="attack", defense=number))
        assert not is_oracle(experiment, Job(kind="attack"))


class TestTold:
    experiment = tiny(
        defenses=["none", {"name": "deep-knn", "expected": "true"}], controls={"clean": 1, "noise": 0, "drops": []},
        ensemble=2, crews={"one": [0], "two": [0, 1]}, trials=1, runs=1,
    )  # fmt: skip

    def test_gives_back_the_facts_of_every_cell(self) -> None:
        found = read_ledger(told(self.experiment))
        scenario, victim = self.experiment.scenario_names()[0], self.experiment.victim_names()[0]
        for crew, attack in enumerate(self.experiment.attack_names()):
            for number, defense in enumerate(self.experiment.defense_names()):
                expected = ledger(self.experiment, Job(kind="attack", crew=crew, defense=number))
                told_so = found.of(attack, scenario, victim, defense)
                assert [(each.value, each.oracle) for each in told_so] == [(f.value, f.oracle) for f in expected]

    @pytest.mark.parametrize("strange", [None, [], {}, {"facts": [{}], "attackers": [], "stacks": []}])
    def test_of_older_runs_is_empty(self, strange: Any) -> None:
        assert lines(read_ledger(strange)) == []
        assert read_ledger(strange).of("a", "b", "c", "d") == ()

    def test_stands_in_the_summary_and_on_the_page(self, tmp_path: Path) -> None:
        assert not [each.error for each in carried_out(self.experiment, tmp_path) if each.error]
        run = load.read(tmp_path)
        rows = {(row["attack"], row["defense"]): row for row in tables.summary(run)["rows"]}
        assert {key: row["oracle"] for key, row in rows.items()} == {
            (attack, defense): defense != "none"
            for attack in self.experiment.attack_names()
            for defense in self.experiment.defense_names()
        }
        for row in rows.values():
            assert row["oracle"] == any(fact["oracle"] for fact in row["ledger"])
            assert {"training rows", "target", "victim network"} <= {fact["what"] for fact in row["ledger"]}
        first = lines(run.ledger)[0]
        assert (first.fact.oracle, first.fact.what) == (True, "poison rate")
        assert first.holds == "defense deep-knn (oracle)"


def fact(value: str, who: str = "attacker") -> Any:
    return Fact(who=who, what="target", value=value, oracle=False, where="")


class TestLines:
    ledger = Ledger(
        attackers={
            (attack, scenario, victim): (
                fact("all"),
                fact(f"of {attack}"),
                fact(f"of {attack} and {victim}" if victim == "v" else "of w"),
                *([fact("odd")] if (attack == "a" or victim == "v") else []),
            )
            for attack in "ab"
            for scenario in ("base", "more")
            for victim in "vw"
        },
        stacks={(defense,): (fact("worn", "defender"),) if defense != "none" else () for defense in ("none", "d", "e")},
    )

    def test_say_once_where_each_fact_holds(self) -> None:
        found = [(line.fact.value, line.holds) for line in lines(self.ledger)]
        assert found[0] == ("all", "every cell")
        assert ("of a", "attack a") in found
        assert ("of a and v", "attack a; victim v") in found
        assert ("of w", "victim w") in found
        assert found[-1] == ("worn", "defenses d, e")

    def test_split_what_is_no_block(self) -> None:
        found = [line.holds for line in lines(self.ledger) if line.fact.value == "odd"]
        assert found == ["attack a", "attack b; victim v"]
