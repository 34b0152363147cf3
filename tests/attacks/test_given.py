"""Given poison: the set for the target of a trial is found by what it holds, or a sentence says why there is none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mithridate import config, poisonset
from mithridate.attack import craft, problems
from mithridate.attacks.given import Given
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError, FormatError, ThreatModelError
from mithridate.goal import Aims, Misclassify
from mithridate.peerfiles import write_benchmark
from mithridate.poison import Poison
from mithridate.poisonset import PoisonSet
from mithridate.seeding import Seed
from mithridate.settings import plain
from mithridate.testing import CornerMark
from mithridate.threat import Linf, ThreatModel
from tests.conftest import stripes

TRAIN, TEST = stripes(60, seed=1, size=6), stripes(12, seed=2, size=6)  # class of row k: k % 3
FORMATS = ["ours", "benchmark"]


def threat(target: int, intended: int = 2, **changes) -> ThreatModel:
    goal = Misclassify(ids=(target,), intended=intended)
    return ThreatModel(goal=goal, budget=0.05, perturbation=Linf(radius=8 / 255), **changes)


def aims_of(target: int, intended: int = 2) -> Aims:
    return threat(target, intended).goal.draw(TRAIN, TEST, Seed(0)).known


def moved(ids: list[int], by: int = 8) -> Dataset:
    rows = TRAIN.rows(torch.tensor(ids))
    return replace(rows, inputs=(rows.inputs.int() + by).clamp(0, 255).to(torch.uint8))


def given_set(folder: Path, form: str, *, target: int, ids: list[int], intended: int = 2, by: int = 8, **changes):
    """A poison set on disk, and its rows."""
    rows, aims = moved(ids, by), replace(aims_of(target, intended), **changes)
    base = TRAIN.rows(rows.ids)
    if form == "benchmark":
        write_benchmark(folder, PoisonSet(poison=Poison(rows=rows), base=base, aims=aims, manifest={}))
    else:
        poisonset.write(folder, poison=Poison(rows=rows), base=base, aims=aims, details={}, data_digest=TRAIN.digest())
    return rows


def crafted(folder: Path, target: int, intended: int = 2, data: Dataset = TRAIN, **changes) -> Poison:
    allowed, aims = threat(target, intended, **changes), aims_of(target, intended)
    return craft(Given(folder=folder), data, threat=allowed, aims=aims, seed=Seed(0))


@pytest.fixture(params=FORMATS)
def form(request) -> str:
    return request.param


def test_finds_the_rows_of_each_trial_by_its_target(tmp_path, form):
    """Whatever the folders are called, and for two wishes of one target."""
    first = given_set(tmp_path / "b", form, target=3, ids=[2, 5, 8])
    second = given_set(tmp_path / "a", form, target=7, ids=[11, 14, 17], by=-3)
    third = given_set(tmp_path / "c", form, target=3, ids=[1, 4], intended=1)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".a.half-written").mkdir()
    (tmp_path / ".a.half-written" / "manifest.json").write_text("{")
    for target, intended, expected in ((3, 2, first), (7, 2, second), (3, 1, third)):
        found = crafted(tmp_path, target, intended).rows
        assert found.digest() == expected.digest()


def test_finds_a_set_that_lies_directly_in_the_folder(tmp_path, form):
    expected = given_set(tmp_path / "set", form, target=3, ids=[2, 5, 8])
    assert crafted(tmp_path / "set", 3).rows.digest() == expected.digest()


def test_reads_no_more_of_the_other_trials_than_their_targets(tmp_path):
    """A victim's part of the training set holds the base rows of its own trial alone."""
    given_set(tmp_path / "a", "benchmark", target=3, ids=[2, 5, 8])
    given_set(tmp_path / "b", "benchmark", target=3, ids=[1, 4], intended=1)
    given_set(tmp_path / "c", "benchmark", target=7, ids=[11, 14, 17])
    part = TRAIN.without(torch.tensor([1, 4, 11, 14, 17, 20]))
    assert crafted(tmp_path, 3, data=part, base_ids=(8, 5, 2)).rows.ids.tolist() == [2, 5, 8]
    with pytest.raises(FormatError, match="id 11 is not in the data set"):
        crafted(tmp_path, 7, data=part)


def test_for_a_target_without_a_set_says_how_many_were_looked_at(tmp_path, form):
    given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8])
    given_set(tmp_path / "b", form, target=7, ids=[11, 14, 17])
    sentence = "none of the 2 poison sets in '.*' have the target of this trial with test id 6, of class 'stripe 0', "
    with pytest.raises(ConfigError, match=sentence + "to be called 'stripe 2'"):
        crafted(tmp_path, 6)
    with pytest.raises(ConfigError, match=r"none of the 2 poison sets.* to be called 'stripe 1'"):
        crafted(tmp_path, 3, intended=1)


def test_for_a_target_with_two_sets_names_both(tmp_path, form):
    given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8])
    given_set(tmp_path / "b", form, target=3, ids=[11, 14, 17])
    with pytest.raises(ConfigError, match=r"2 of the 2 poison sets \('a', 'b'; keep one\).*with test id 3"):
        crafted(tmp_path, 3)


def test_a_set_of_which_a_file_is_missing_is_a_problem(tmp_path):
    for name in ("whole", "broken"):
        given_set(tmp_path / name, "benchmark", target=3 if name == "whole" else 7, ids=[2, 5, 8])
    (tmp_path / "broken" / "target.pickle").unlink()
    (sentence,) = Given(folder=tmp_path).problems()
    assert sentence == f"'{tmp_path / 'broken'}' is no whole poison set: it lacks target.pickle"


def test_takes_no_set_that_is_judged_with_a_trigger(tmp_path):
    given_set(tmp_path / "a", "ours", target=3, ids=[2, 5, 8], trigger=CornerMark())
    with pytest.raises(ConfigError, match="none of the 1 poison sets"):
        crafted(tmp_path, 3)


def test_is_held_to_the_rules_like_any_poison(tmp_path, form):
    given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8], by=9)
    with pytest.raises(ThreatModelError, match="exceeds the allowed change"):
        crafted(tmp_path, 3)
    gate = replace(threat(3), perturbation=Linf(radius=8 / 255, slack=1 / 255))
    found = craft(Given(folder=tmp_path), TRAIN, threat=gate, aims=aims_of(3), seed=Seed(0))
    assert found.rows.digest() == moved([2, 5, 8], by=9).digest()
    with pytest.raises(ThreatModelError, match=r"has 3 rows, but a budget of 0\.01 pays for 1"):
        craft(Given(folder=tmp_path), TRAIN, threat=replace(gate, budget=0.01), aims=aims_of(3), seed=Seed(0))


def test_must_keep_to_the_rows_that_a_trial_fixes(tmp_path, form):
    given_set(tmp_path / "a", form, target=3, ids=[2, 5])
    assert len(crafted(tmp_path, 3, base_ids=(8, 5, 2)).rows) == 2
    with pytest.raises(ThreatModelError, match=r"'.*a' changes training rows other than the 2 that this trial fixes"):
        crafted(tmp_path, 3, base_ids=(5, 8))


class TestIdentity:
    def test_follows_the_content_and_not_the_names(self, tmp_path, form):
        given_set(tmp_path / "x" / "a", form, target=3, ids=[2, 5, 8])
        given_set(tmp_path / "x" / "b", form, target=7, ids=[11, 14])
        shutil.copytree(tmp_path / "x" / "b", tmp_path / "y" / "0")
        shutil.copytree(tmp_path / "x" / "a", tmp_path / "y" / "1")
        (tmp_path / "y" / "1" / "readme.txt").write_text("no part of the poison")
        before = Given(folder=tmp_path / "x").digest
        assert len(before) == 64
        assert Given(folder=tmp_path / "y").digest == before
        shutil.rmtree(tmp_path / "x" / "b")
        assert Given(folder=tmp_path / "x").digest != before
        given_set(tmp_path / "x" / "b", form, target=7, ids=[11, 14], by=7)
        assert Given(folder=tmp_path / "x").digest != before

    @pytest.mark.parametrize("name", ["poisons", "base_indices", "target"])
    def test_follows_each_of_the_three_files(self, tmp_path, name):
        given_set(tmp_path / "a", "benchmark", target=3, ids=[2, 5, 8])
        before = Given(folder=tmp_path).digest
        path = tmp_path / "a" / f"{name}.pickle"
        path.write_bytes(path.read_bytes() + b"\0")
        assert Given(folder=tmp_path).digest != before

    def test_of_settings_that_were_kept_is_checked(self, tmp_path, form):
        given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8])
        kept = plain(Given(folder=tmp_path))
        settings = {name: value for name, value in kept.items() if name != "name"}
        assert config.parse(Given, settings) == Given(folder=tmp_path)
        given_set(tmp_path / "b", form, target=7, ids=[11, 14])
        with pytest.raises(ConfigError, match="these are other poisons than those meant"):
            config.parse(Given, settings)


class TestProblems:
    @pytest.mark.parametrize("what", ["absent", "empty", "a file"])
    def test_of_a_folder_without_poison_are_named_and_nothing_is_raised(self, tmp_path, what):
        folder = tmp_path / "there"
        if what == "empty":
            folder.mkdir()
        elif what == "a file":
            folder.write_text("x")
        found = problems(Given(folder=folder), threat(3), surrogates=())
        assert len(found) == 1
        assert ("holds no poison set" if what == "empty" else "there is no folder '") in found[0]
        assert str(folder) in found[0]

    def test_are_none_where_there_is_poison(self, tmp_path, form):
        given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8])
        assert problems(Given(folder=tmp_path), threat(3), surrogates=()) == []

    def test_of_a_damaged_set_are_a_sentence(self, tmp_path, form):
        given_set(tmp_path / "a", form, target=3, ids=[2, 5, 8])
        path = tmp_path / "a" / ("poison.safetensors" if form == "ours" else "target.pickle")
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(FormatError, match=path.name):
            crafted(tmp_path, 3)


def test_keeps_the_curves_of_a_set_of_ours(tmp_path):
    poison, base = Poison(rows=moved([2, 5]), trace={"loss": (1.0, 0.5)}), TRAIN.rows(torch.tensor([2, 5]))
    poisonset.write(tmp_path / "a", poison=poison, base=base, aims=aims_of(3), details={}, data_digest="")
    assert crafted(tmp_path, 3).trace == {"loss": (1.0, 0.5)}
