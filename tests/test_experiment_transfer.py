"""Experiments whose networks start from pretrained ones: the jobs, the rows each trial trains on, and what is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mithridate import loading, poisonset
from mithridate.defense import protect
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ProblemsError
from mithridate.experiment import Experiment, Job
from mithridate.feature_attack import trained_networks
from mithridate.learners.cached import training_key
from mithridate.learners.sgd import SGD
from mithridate.loading import load
from mithridate.polytope_view import polytope_view
from mithridate.preflight import problems
from mithridate.sampling import training_part
from mithridate.seeding import Seed
from mithridate.work import cached_crew, data_of, perform
from tests.runs import CPU, TINY, carried_out, results, tiny
from tests.test_experiment import keys, numbered, setup

POISONED = ("craft", "attack", "noise")
EVERYTHING = ("pretraining", "surrogate", "clean", *POISONED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pretrained networks are kept: a folder of the test's own."""
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "networks"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[SGD]:
    """The learners that trained so far, in order."""
    found: list[SGD] = []
    train = SGD.train

    def counted(self: SGD, *args: Any, **more: Any) -> Any:
        found.append(self)
        return train(self, *args, **more)

    monkeypatch.setattr(SGD, "train", counted)
    return found


RECIPE = {"epochs": 2, "batch_size": 32, "augmentation": None}


def source(**changes: Any) -> dict[str, Any]:
    """Weights pretrained on three other digits."""
    data = {"name": "digits", "classes": [3, 4, 5], "train_rows": 60, "test_rows": 30}
    return {"name": "trained", "data": data, "learner": RECIPE, **changes}


def starting(weights: Mapping[str, Any], kind: str = "transfer", **changes: Any) -> dict[str, Any]:
    """A learner that starts from such weights."""
    model = {"name": "mlp", "hidden": [8]}
    return {"model": model, **RECIPE, "start": {"name": kind, "weights": weights}, **changes}


def moving(**changes: Any) -> Experiment:
    """The tiny experiment with a feature-space attack and pretrained victims."""
    settings = {"attacks": [{"name": "bullseye-polytope", "steps": 3}], "victims": [starting(source())], **changes}
    return tiny(**settings)


BASE = moving()


class TestJobs:
    def test_of_pretraining_come_first_and_everything_waits_for_them(self) -> None:
        experiment = moving(victims=[starting(source()), starting(source(seed=1))], controls={"clean": 2, "noise": 1})
        jobs = experiment.jobs()
        assert [job.kind for job in jobs[:3]] == ["pretraining", "pretraining", "clean"]
        first, waits = {job.key for job in jobs[:2]}, dict[str, set[str]]()
        for job in jobs:
            assert set(job.needs) <= waits.keys()
            waits[job.key] = {*job.needs, *(key for need in job.needs for key in waits[need])}
        assert all(first <= waits[job.key] for job in jobs[2:])
        assert not any(waits[key] for key in first)

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"victims": [starting(source()), starting(source(), "fine-tune")]}, 1),
            ({"surrogates": [starting(source(), lr=0.5)]}, 1),
            ({"surrogates": [starting(source(seed=1)), starting(source(seed=2)), TINY["victims"][0]]}, 3),
            ({"victims": [starting(source()), starting(source(), model="linear")]}, 2),
            ({"victims": TINY["victims"], "surrogates": [starting(source())]}, 1),
            ({"victims": TINY["victims"]}, 0),
            ({"victims": [starting({"name": "own"})]}, 0),
        ],
        ids=["two victims", "victim and surrogate", "seeds", "networks", "surrogate alone", "scratch", "own"],
    )
    def test_of_pretraining_are_one_for_each_network(self, settings: dict[str, Any], expected: int) -> None:
        jobs = moving(**settings).jobs()
        assert sum(job.kind == "pretraining" for job in jobs) == expected
        assert len({job.key for job in jobs}) == len(jobs)

    def test_of_pretraining_that_start_from_others_come_after_those(self) -> None:
        """Weights of weights: both are pretrained here, the inner first."""
        deep = source(learner={**starting(source(seed=1)), **RECIPE}, seed=2)
        first, second, *rest = moving(victims=[starting(deep)]).jobs()
        assert [first.kind, second.kind, rest[0].kind] == ["pretraining", "pretraining", "clean"]
        assert second.needs == (first.key,)
        (inner, outer) = moving(victims=[starting(deep)]).pretrainings()
        assert (inner.seed, outer.seed) == (1, 2)

    def test_with_surrogates_of_their_own_wait_too(self) -> None:
        jobs = moving(share_surrogates=False).jobs()
        assert [job.kind for job in jobs[:2]] == ["pretraining", "clean"]
        assert all(jobs[0].key in job.needs for job in jobs if job.kind in ("clean", "craft"))


class TestKeys:
    @pytest.mark.parametrize(
        "weights",
        [
            source(seed=1),
            source(learner={**RECIPE, "epochs": 3}),
            source(data={"name": "digits", "classes": [3, 4, 6], "train_rows": 60, "test_rows": 30}),
        ],
        ids=["seed", "recipe", "data"],
    )
    def test_all_change_with_the_pretraining(self, weights: dict[str, Any]) -> None:
        assert not keys(BASE, *EVERYTHING) & keys(moving(victims=[starting(weights)]))

    def test_all_change_with_the_data_of_the_pretraining(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though the settings name the same file."""
        path = numbered(tmp_path / "data.npz")
        experiment = moving(victims=[starting(source(data={"name": "arrays", "path": str(path)}))])
        before = keys(experiment)
        path.write_bytes(numbered_otherwise(tmp_path / "other.npz").read_bytes())
        monkeypatch.setattr(loading, "_LOADED", {})
        assert not before & keys(experiment)

    def test_of_trainings_change_with_the_data_of_the_weights_they_start_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a run that goes on would find networks that started from what the file held before."""
        path, data = numbered(tmp_path / "data.npz"), load(BASE.data).train
        weights = source(data={"name": "arrays", "path": str(path)})
        deep = source(learner={**starting(weights), **RECIPE})
        learners = [moving(victims=[starting(each)]).victims[0] for each in (weights, deep)]
        learners.append(protect(learners[0], [Mixup()]))
        before = [training_key(each, data, Seed(0), []) for each in learners]
        assert before == [training_key(each, data, Seed(0), []) for each in learners]
        path.write_bytes(numbered_otherwise(tmp_path / "other.npz").read_bytes())
        monkeypatch.setattr(loading, "_LOADED", {})
        assert not {*before} & {training_key(each, data, Seed(0), []) for each in learners}

    def test_of_pretraining_stay_where_others_start_from_it(self) -> None:
        other = moving(
            seed=3, victims=[starting(source(), "fine-tune", epochs=5)], data={**TINY["data"], "train_rows": 90}
        )
        assert keys(BASE, "pretraining") == keys(other, "pretraining")
        assert not keys(BASE, "surrogate", "clean", *POISONED) & keys(other)

    @pytest.mark.parametrize(
        "more",
        [
            starting(source(seed=1)),
            starting(source(data="digits")),
            starting(source(), "fine-tune"),
            TINY["victims"][0],
        ],
        ids=["another seed", "other data", "fine-tuning", "from scratch"],
    )
    def test_stay_where_a_victim_is_added(self, more: dict[str, Any]) -> None:
        """Whatever that one is pretrained on."""
        assert keys(BASE) <= keys(moving(victims=[starting(source()), more]))

    def test_change_with_the_number_of_training_rows_but_that_of_pretraining(self) -> None:
        fewer = moving(training_rows=60)
        assert not keys(BASE, "surrogate", "clean", *POISONED) & keys(fewer)
        assert keys(BASE, "pretraining") <= keys(fewer)


def numbered_otherwise(path: Path) -> Path:
    """The data of ``numbered`` with one pixel changed."""
    arrays = dict(np.load(numbered(path)))
    arrays["x_train"][0, 0, 0, 0] ^= 1
    np.savez(path, **arrays)
    return path


def with_setups(folder: Path, **changes: Any) -> Experiment:
    """Two fixed trials on forty rows, whose victims train on twenty of them."""
    setups = [setup(), setup(**{"target index": 5, "base indices": [30, 38, 32]})]
    (folder / "setups.json").write_text(json.dumps(setups))
    data = {"name": "arrays", "path": str(numbered(folder / "data.npz"))}
    settings = {
        "data": data,
        "setups": str(folder / "setups.json"),
        "threat": {"budget": 0.15, "perturbation": {"name": "linf", "radius": "64/255"}},
        "training_rows": 20,
    }
    return moving(**{**settings, **changes})


class TestTrainingRows:
    def test_are_each_trial_s_own(self, tmp_path: Path) -> None:
        experiment = with_setups(tmp_path)
        everything = load(experiment.data)
        for number, bases in enumerate([(4, 6, 10), (30, 32, 38)]):
            for kind in POISONED:
                found = data_of(experiment, Job(kind=kind, trial=number))  # type: ignore[arg-type]
                expected = training_part(everything.train, size=20, base_ids=bases)
                assert found.train.digest() == expected.digest()
                assert set(bases) <= set(found.train.ids.tolist())
                assert found.test is everything.test

    def test_of_what_all_trials_share_are_the_first(self, tmp_path: Path) -> None:
        experiment = with_setups(tmp_path)
        for kind in ("surrogate", "clean", "pretraining"):
            assert data_of(experiment, Job(kind=kind)).train.ids.tolist() == list(range(20))  # type: ignore[arg-type]

    def test_are_all_where_no_number_is_given(self, tmp_path: Path) -> None:
        experiment = with_setups(tmp_path, training_rows=0)
        assert len(data_of(experiment, Job(kind="craft")).train) == 40

    def test_are_what_is_poisoned_trained_on_and_told(self, tmp_path: Path) -> None:
        experiment = with_setups(tmp_path, runs=1)
        assert [each.error for each in carried_out(experiment, tmp_path / "run")] == [""] * len(experiment.jobs())
        found = results(tmp_path / "run").values()
        assert {row["training_rows"] for row in found if "training_rows" in row} == {20}
        for row in found:
            if "polytope" in row:
                ids = poisonset.read(tmp_path / "run" / row["folder"]).poison.rows.ids.tolist()
                assert sorted(ids) == ([4, 6, 10], [30, 32, 38])[row["trial"]]
        clean = [row for row in found if row.get("control") == "clean"]
        assert sorted(row["trial"] for row in clean) == [0, 1]
        assert [row["map"]["groups"].count("poison") for row in clean] == [3, 3], "the rows that would be poisoned"
        assert {row["box"] for row in clean} == {None}


def finished(experiment: Experiment, folder: Path) -> list[dict[str, Any]]:
    assert not [each.error for each in carried_out(experiment, folder) if each.error]
    return list(results(folder, without=()).values())


class TestRun:
    def test_with_transfer_and_fine_tuning_is_whole(self, tmp_path: Path, cache: Path, trainings: list[SGD]) -> None:
        victims = [starting(source()), starting(source(), "fine-tune"), {**TINY["victims"][0], "epochs": 3}]
        experiment = moving(victims=victims, surrogates=[starting(source())], runs=1, trials=2)
        rows = finished(experiment, tmp_path / "run")
        (pretraining,) = [row for row in rows if "classes" in row]
        assert pretraining["learner"] == "mlp, 2 epochs, on digits, seed 0"
        assert (pretraining["classes"], pretraining["rows"], pretraining["reused"]) == (["3", "4", "5"], 60, 0)
        assert pretraining["data"]["classes"] == [3, 4, 5]
        assert 0 <= pretraining["accuracy"] <= 1
        (weights,) = experiment.pretrainings()
        assert trainings.count(weights.learner) == 1  # type: ignore[arg-type]
        assert list(cache.iterdir()) == [weights.path()]
        boxes = {
            "mlp, transfer, 2 epochs": "white-box",
            "mlp, fine-tune, 2 epochs": "white-box",
            "mlp, 3 epochs": "grey-box",
        }
        attacked = [row for row in rows if row.get("control") in ("attack", "noise")]
        assert {(row["victim"], row["box"]) for row in attacked} == set(boxes.items())
        assert [row["boxes"] for row in rows if "boxes" in row] == [["white-box", "white-box", "grey-box"]] * 2
        again = finished(experiment, tmp_path / "again")
        assert trainings.count(weights.learner) == 1, "runs share what they pretrain"  # type: ignore[arg-type]
        assert next(row for row in again if "classes" in row)["reused"] > 0

    def test_of_an_attack_with_some_of_the_surrogates_tells_what_those_know(self, tmp_path: Path) -> None:
        attacks = [{"name": "bullseye-polytope", "steps": 1, "networks": networks} for networks in ([0], [1], [])]
        surrogates = [starting(source()), {**TINY["victims"][0], "model": {"name": "mlp", "hidden": [9]}}]
        experiment = moving(attacks=attacks, surrogates=surrogates, trials=1, runs=1, controls={"clean": 0, "noise": 0})
        rows = finished(experiment, tmp_path)
        names = {
            row["attack"]: (row["boxes"], [view["network"] for view in row["polytope"]])
            for row in rows
            if "polytope" in row
        }
        assert list(names.values()) == [
            (["white-box"], ["mlp, transfer, 2 epochs"]),
            (["black-box"], ["mlp, 2 epochs"]),
            (["white-box"], ["mlp, transfer, 2 epochs", "mlp, 2 epochs"]),
        ]

    def test_in_which_a_network_does_not_fit_its_weights_is_not_begun(self, trainings: list[SGD]) -> None:
        other = source(learner={**RECIPE, "model": {"name": "mlp", "hidden": [9]}})
        (sentence,) = problems(moving(victims=[starting(source()), starting(other)]))
        assert sentence.startswith(
            "victims[1].model: start: 'body.1.weight' has shape (8, 64) in this network, but (9, 64)"
        )
        assert problems(BASE) == []
        assert trainings == []

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            (
                {"attacks": [{"name": "bullseye-polytope", "layers": ["penultimate", "nowhere"]}]},
                "attacks[0].layers: this network has no layer 'nowhere'",
            ),
            (
                {"attacks": [{"name": "convex-polytope", "layers": ["last"]}]},
                "attacks[0].layers: the layer 'last' is never run on the way to the features",
            ),
            (
                {"attacks": [{"name": "convex-polytope", "networks": [0, 0]}]},
                "attacks[0]: networks of convex-polytope names a surrogate twice",
            ),
            ({"training_rows": 7}, "training_rows: training_rows must be a multiple of the 3 classes, but it is 7"),
            ({"training_rows": 3000}, "training_rows: training_rows of 3000 asks for 1000 rows of class '0'"),
            ({"protocol": {"name": "nonsense", "version": 1}}, "protocol: there is no preset"),
        ],
        ids=lambda each: "" if isinstance(each, dict) else each.partition(":")[0],
    )
    def test_with_a_mistake_is_not_begun(self, changes: dict[str, Any], sentence: str, trainings: list[SGD]) -> None:
        (found,) = problems(moving(**changes))
        assert found.startswith(sentence)
        assert trainings == []

    def test_that_pays_for_fewer_rows_than_its_set_ups_fix_is_not_begun(self, tmp_path: Path) -> None:
        """The budget is a share of the rows that are trained on, not of all."""
        threat = {"budget": 0.1, "perturbation": {"name": "linf", "radius": "64/255"}}
        (sentence,) = problems(with_setups(tmp_path, threat=threat))
        assert "3 base ids are fixed, but a budget of 0.1 pays for 2" in sentence

    def test_with_settings_that_contradict_each_other_is_none(self) -> None:
        goal = {"name": "misclassify", "ids": [3]}
        with pytest.raises(ProblemsError, match=r"targets can be 'correct' only where they are drawn, but .*ids"):
            moving(targets="correct", threat={**TINY["threat"], "goal": goal})
        with pytest.raises(ProblemsError, match="an ensemble of 2 over 1 surrogates repeats frozen features"):
            moving(ensemble=2)
        for able in (
            {"surrogates": [starting(source()), starting(source(seed=1))]},
            {"surrogates": [starting(source(), "fine-tune")]},
            {"attacks": TINY["attacks"]},  # which has the gradients of the heads, and those differ
        ):
            assert moving(ensemble=2, **able).ensemble == 2

    def test_layers_are_those_of_the_networks_inside_the_defense_where_the_attacker_knows_it(self) -> None:
        """Partition aggregation makes one network of many, whose layers have names of their own."""
        stacks = {"defenses": [["partition-aggregation"]], "adaptive": True}
        attack = {"name": "bullseye-polytope", "steps": 3}
        found = problems(moving(attacks=[{**attack, "layers": ["members.0.body.1"]}], **stacks))
        assert not [each for each in found if ".layers" in each]
        (sentence,) = problems(moving(attacks=[{**attack, "layers": ["body.1"]}], **stacks))
        assert sentence.startswith("attacks[0].layers: this network has no layer 'body.1'")

    def test_of_poison_from_elsewhere_says_nothing_of_what_its_maker_knew(self, tmp_path: Path) -> None:
        given = moving(attacks=[{"name": "given", "folder": str(tmp_path)}, *TINY["attacks"]])
        assert [given.box(0, 0), given.box(1, 0)] == [None, "white-box"]


class TestPolytope:
    def crafted(self, experiment: Experiment, folder: Path) -> tuple[Job, dict[str, Any]]:
        """The first craft job, done with all it waits for, and its row."""
        for job in experiment.jobs():
            if job.kind in ("pretraining", "surrogate", "craft"):
                (found,) = perform(experiment, job, folder=folder, device=CPU)
                if job.kind == "craft":
                    return job, dict(found.row)
        raise AssertionError

    @pytest.mark.parametrize("shared", [True, False])
    def test_is_of_the_poison_as_exported_in_the_networks_it_was_crafted_with(
        self, shared: bool, tmp_path: Path, trainings: list[SGD]
    ) -> None:
        attacks = [{"name": "bullseye-polytope", "steps": 40, "step_size": 0.2}]
        experiment = moving(attacks=attacks, share_surrogates=shared)
        job, row = self.crafted(experiment, tmp_path)
        assert trainings.count(experiment.victims[0]) == 1, "the surrogate is trained once"  # type: ignore[arg-type]
        trial, data = experiment.trial(job), load(experiment.data).train
        stored = poisonset.read(tmp_path / row["folder"])
        (network,) = trained_networks(
            cached_crew(experiment, tmp_path), data, seed=trial.seed.child("craft").child("surrogates")
        )
        assert len(trainings) == 2, "pretraining and surrogate"
        view = polytope_view(network, data, poison=stored.poison, aims=stored.aims)
        assert row["polytope"] == [{"network": "mlp, transfer, 2 epochs", **(view or {})}]
        last = row["trace"]["distance to the target, network 1"][-1]
        assert view is not None
        assert view["mean"] == pytest.approx(last, abs=0.02)
        assert view["mean"] < view["clean_mean"]

    def test_is_none_of_attacks_elsewhere_and_of_no_poison(self, tmp_path: Path) -> None:
        _, elsewhere = self.crafted(moving(attacks=TINY["attacks"]), tmp_path)
        assert elsewhere["polytope"] is None
        _, nothing = self.crafted(moving(threat={"budget": 0}), tmp_path)
        assert (nothing["rows"], nothing["polytope"]) == (0, None)


def test_pinned_surrogates_are_the_same_in_every_trial(tmp_path: Path) -> None:
    """Crafting and drawing ask for them with different seeds."""
    one, other = (
        trained_networks(cached_crew(BASE, tmp_path), load(BASE.data).train, seed=Seed(seed))[0] for seed in (1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    free = replace(BASE, share_surrogates=False)
    third = trained_networks(cached_crew(free, tmp_path), load(BASE.data).train, seed=Seed(2))[0]
    assert not torch.equal(third.last.weight, other.last.weight)  # type: ignore[union-attr,arg-type]
