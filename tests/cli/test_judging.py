"""Poison that others made is judged under a protocol as if it had been made here; what does not fit is a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mithridate import poisonset
from mithridate.attacks.given import Given
from mithridate.cli import judging
from mithridate.experiment import Experiment
from mithridate.store import Store
from tests.cli.calls import Caller
from tests.cli.given import TRIALS, poison_set, protocol, theirs
from tests.runs import results


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    with Store(folder) as store:
        return list(store.rows(kind))


def test_trains_victims_on_their_poison_and_prints_the_table(call: Caller, tmp_path: Path) -> None:
    folder, run = theirs(tmp_path / "theirs"), tmp_path / "run"
    said = call("judge", folder, "--protocol", protocol(tmp_path), "--out", run, "--workers", "1")
    assert said.code == 0, said.err
    assert said.out.startswith(
        "tiny-theirs: 7 jobs on cpu, one at a time"
    )  # a clean victim; 2 x (craft, victim, noise)
    for text in ("success (95 %)", "noise control", "given", "2 x 1", f"Report: {run / 'report.html'}"):
        assert text in said.out
    for craft in rows(run, "craft"):
        found = poisonset.read(run / craft["folder"])
        target, true, wanted, ids = TRIALS[craft["trial"]]
        assert torch.equal(found.poison.rows.inputs, poison_set(craft["trial"]).poison.rows.inputs)
        assert found.poison.rows.ids.tolist() == ids
        assert (found.aims.ids.tolist(), found.aims.labels.tolist(), found.aims.wanted.tolist()) == (
            [target],
            [true],
            [wanted],
        )
    victims = rows(run, "victim")
    assert sorted((each["control"], each["trial"]) for each in victims) == [
        (control, trial) for control in ("attack", "clean", "noise") for trial in (0, 1)
    ]
    assert {each["training_rows"] for each in victims} == {30}


def test_is_a_run_with_the_poison_as_its_attack(call: Caller, tmp_path: Path) -> None:
    folder, path = theirs(tmp_path / "theirs"), protocol(tmp_path)
    assert call("judge", folder, "--protocol", path, "--out", tmp_path / "a", "--workers", "1").code == 0
    attack = f"attacks=[{{name: given, folder: '{folder}'}}]"
    assert call("run", path, "--set", attack, "--out", tmp_path / "b", "--workers", "1").code == 0
    assert results(tmp_path / "a") == results(tmp_path / "b")
    again = call("judge", folder, "--protocol", path, "--out", tmp_path / "a", "--workers", "1")
    assert "; 7 are done already" in again.out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiments that would be carried out, none of which is."""
    found: list[Experiment] = []
    monkeypatch.setattr(judging, "carry_out", lambda experiment, **_: found.append(experiment))
    return found


def test_judges_as_many_trials_as_there_are_sets_or_as_told(
    call: Caller, tmp_path: Path, asked: list[Experiment]
) -> None:
    path, one, both = protocol(tmp_path), theirs(tmp_path / "one", trials=(1,)), theirs(tmp_path / "both")
    assert call("judge", one, "--protocol", path, "--set", "first_trial=1", "--set", "runs=3").code == 0
    assert call("judge", both, "--protocol", path, "--set", "name=mine").code == 0
    assert call("judge", both, "--protocol", path, "--trials", "1").code == 0
    found = [(each.name, list(each.numbers()), each.runs) for each in asked]
    assert found == [("tiny-one", [1], 3), ("mine", [0, 1], 1), ("tiny-both", [0], 1)]
    for each in asked:
        assert [type(attack) for attack in each.attacks] == [Given]
        assert each.surrogates == ()


def test_keeps_the_surrogates_where_they_decide_the_targets(
    call: Caller, tmp_path: Path, asked: list[Experiment]
) -> None:
    crew = [{"model": "linear", "epochs": 1, "batch_size": 15, "augmentation": None}]
    path = protocol(tmp_path, surrogates=crew, ensemble=2, setups="", training_rows=0, targets="correct")
    assert call("judge", theirs(tmp_path / "theirs"), "--protocol", path).code == 0
    assert len(asked[0].crew()) == 2


def test_asks_nothing_of_crews_and_seeds(call: Caller, tmp_path: Path, asked: list[Experiment]) -> None:
    """Poison that was not crafted here is one, whoever else crafts under the protocol."""
    crew = [{"model": "linear", "epochs": 1, "batch_size": 15, "augmentation": None}]
    path = protocol(tmp_path, surrogates=crew, ensemble=2, crews={"one": [0], "both": [0, 1]}, seeds=3)
    said = call("judge", theirs(tmp_path / "theirs"), "--protocol", path)
    assert said.code == 0, said.err
    assert (asked[0].crews, asked[0].seeds, len(asked[0].attack_names())) == ({}, 1, 1)


def test_forgives_a_level_where_the_protocol_does_and_no_more(
    call: Caller, tmp_path: Path, asked: list[Experiment]
) -> None:
    path = protocol(tmp_path)
    assert call("judge", theirs(tmp_path / "nine", by=9), "--protocol", path).code == 0
    assert len(asked) == 1
    said = call("judge", theirs(tmp_path / "ten", by=10), "--protocol", path)
    assert said.code == 1
    assert [line[:14] for line in said.err.splitlines()] == ["error: trial 0", "error: trial 1"]
    assert "exceeds the allowed change by 0.0039" in said.err
    assert len(asked) == 1, "nothing is trained before all is seen to fit"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "--protocol", "tiny.yaml"], "there is no folder 'nowhere' to take poison from"),
        (["empty", "--protocol", "tiny.yaml"], "'empty' holds no poison set"),
        (["theirs", "--protocol", "tiny.yml"], "there is no file 'tiny.yml'"),
        (["theirs", "--protocol", "benchmark-trasnfer"], "there is no preset 'benchmark-trasnfer'"),
        (["theirs", "--protocol", "tiny.yaml", "--trials", "3"], "trial 2 was asked for, but there are 2 set-ups"),
        (["theirs", "--protocol", "tiny.yaml", "--set", "threat.budget=0.01"], "threat: 4 base ids are fixed, but"),
        (["theirs", "--protocol", "tiny.yaml", "--set", "attacks.0.digest=ab"], "other poisons than those meant"),
        (["twice", "--protocol", "tiny.yaml"], "2 of the 2 poison sets ('number 0', 'other'; keep one)"),
        (["theirs/number 1", "--protocol", "tiny.yaml"], "trial 0: none of the 1 poison sets in 'theirs/number 1'"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence(
    words: list[str], sentence: str, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    protocol(tmp_path)
    theirs(tmp_path / "theirs")
    theirs(tmp_path / "twice", trials=(0,))
    theirs(tmp_path / "other", trials=(0,))
    (tmp_path / "other" / "number 0").rename(tmp_path / "twice" / "other")
    (tmp_path / "empty").mkdir()
    said = call("judge", *words)
    assert said.code == 1
    assert all(line.startswith("error: ") for line in said.err.splitlines())
    assert sentence in said.err
    assert not (tmp_path / "runs").exists()


def test_a_check_of_settings_names_poison_that_is_not_there(call: Caller, tmp_path: Path) -> None:
    said = call("check", protocol(tmp_path), "--set", f"attacks=[{{name: given, folder: '{tmp_path / 'gone'}'}}]")
    assert said.code == 1
    assert f"attacks[0]: there is no folder '{tmp_path / 'gone'}' to take poison from" in said.out


DEGRADE = {
    "threat": {
        "goal": {"name": "degrade", "known": 20},
        "budget": 0.1,
        "perturbation": "unbounded",
        "labels": "dirty",
        "rows": "append",
    },
    "vary": {"budget": [0.05]},
    "setups": "",
    "training_rows": 40,
    "resample": True,
    "controls": {"clean": 1, "noise": 1},
}


class TestDegrading:
    """Poison crafted against one victim in one run, judged on another victim in another."""

    def exported(self, call: Caller, folder: Path, *, start: str, **changes: Any) -> tuple[Path, Path]:
        """The protocol, and the poison sets of its two trials."""
        flips = [{"name": "random-flips", "start": start}]
        path = protocol(folder, **{**DEGRADE, "attacks": flips, **changes})
        assert call("run", path, "--out", folder / "first", "--workers", "1").code == 0
        to = ["--scenario", rows(folder / "first", "craft")[0]["scenario"], "--to", folder / "sets"]
        assert call("export", folder / "first", "--all", *to).code == 0
        return path, folder / "sets"

    @pytest.mark.parametrize(
        ("start", "changes"),
        [
            ("validation", {}),
            ("train", {"resample": False, "training_rows": 42}),
            ("train", {"threat": {**DEGRADE["threat"], "knows": "own-rows"}}),  # type: ignore[dict-item]
        ],
        ids=["resampled", "shared rows", "own rows"],
    )
    def test_is_the_same_poison_on_the_same_rows(
        self, start: str, changes: dict[str, Any], call: Caller, tmp_path: Path
    ) -> None:
        path, sets = self.exported(call, tmp_path, start=start, **changes)
        same = call("judge", sets, "--protocol", path, "--out", tmp_path / "again", "--workers", "1")
        assert same.code == 0, same.err
        for trial in (0, 1):
            first, again = (self.craft(tmp_path / run, trial) for run in ("first", "again"))
            assert first.poison.rows.digest() == again.poison.rows.digest()
            assert (first.poison.origins is None) == (again.poison.origins is None) == (start == "validation")
            assert first.base is not None
            assert again.base is not None
            assert first.base.digest() == again.base.digest()
        assert self.errors(tmp_path / "first") == self.errors(tmp_path / "again")
        other = "victims=[{name: gradient-descent, loss: softmax, steps: 5}]"
        said = call("judge", sets, "--protocol", path, "--set", other, "--out", tmp_path / "b", "--workers", "1")
        assert said.code == 0, said.err
        assert len(self.errors(tmp_path / "b")) == 2

    def test_of_other_trials_or_rows_is_a_sentence(
        self, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        path, sets = self.exported(call, tmp_path, start="train")
        for change in (
            "seed=1",
            "training_rows=41",
            "first_trial=2",
            "threat.goal.kind=specific",
        ):
            said = call("judge", sets, "--protocol", path, "--set", change)
            assert said.code == 1
            lines = said.err.splitlines()
            assert len(lines) == 2, change
            assert "none of the 2 poison sets in" in lines[0]
            assert "are of this trial and its training rows (trials there: 0, 1;" in lines[0]

    @staticmethod
    def craft(run: Path, trial: int) -> Any:
        """The poison set of a trial, of the base scenario."""
        return poisonset.read(run / next(each for each in rows(run, "craft") if each["trial"] == trial)["folder"])

    @staticmethod
    def errors(run: Path) -> dict[int, float]:
        """The victims' error in each trial of the base scenario."""
        found = [each for each in rows(run, "victim") if each["control"] == "attack" and each["budget"] == 0.1]
        return {each["trial"]: each["error"] for each in found}
