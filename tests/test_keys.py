"""Keys of jobs: the hash of everything that decides a result, put together from remembered parts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from mithridate import config, methods
from mithridate.defense import HookDefense
from mithridate.errors import ConfigError
from mithridate.experiment import Experiment, Job
from mithridate.learner import Hook, Learner
from mithridate.loading import data_digest, load
from mithridate.seeding import Seed
from mithridate.settings import METHOD, fingerprint
from mithridate.setups import setups
from tests.runs import tiny

SCRATCH = {"epochs": 2, "batch_size": 32, "augmentation": None, "model": {"name": "mlp", "hidden": [9]}}
STARTING = {
    **SCRATCH,
    "model": {"name": "mlp", "hidden": [8]},
    "start": {
        "name": "transfer",
        "weights": {
            "name": "trained",
            "data": {"name": "digits", "classes": [3, 4, 5], "train_rows": 60, "test_rows": 30},
            "learner": {"epochs": 2, "batch_size": 32, "augmentation": None},
        },
    },
}
TWICE = [{"name": "gradient-matching"}, {"name": "gradient-matching", "augment": False}]
OWN_ROWS = {"knows": "own-rows", "rows": "append", "labels": "dirty", "origin": "random-subset"}
GRIDS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "several": {
        "vary": {"budget": ["1 %"], "origin": ["random-subset"]}, "vary_trials": 1, "attacks": TWICE,
        "victims": [SCRATCH, STARTING], "ensemble": 3, "first_trial": 4,
    },
    "adaptive": {
        "adaptive": True, "targets": "correct",
        "defenses": ["none", "cutout", "spectral-signatures", ["cutout", "spectral-signatures"]],
    },
    "resample": {"resample": True, "training_rows": 60, "defenses": ["none", "deep-knn"]},
    "own rows": {
        "training_rows": 30, "attacks": [{"name": "random-flips"}],
        "threat": {"budget": "5 %", "perturbation": {"name": "unbounded"}, **OWN_ROWS},
    },
    "degrade": {
        "threat": {"goal": {"name": "degrade", "known": 20}, "budget": "5 %", "labels": "dirty",
                   "origin": "random-subset"},
        "attacks": [{"name": "random-flips"}], "controls": {"clean": 2, "noise": 0},
    },
    "setups": {"setups": "benchmark-scratch", "share_surrogates": False},
}  # fmt: skip
BEFORE = {
    "tiny": "3c773aef35e778ad", "several": "451e6dd5f40f80fc", "adaptive": "56322a564fbbfafa",
    "resample": "e4b183ac88179918", "own rows": "ac7abbe22a983def", "degrade": "cda944bed9c8c0a1",
    "setups": "1fceffaa945014a2", "quickstart": "a9a81ab1ad681fd8", "quickstart-defenses": "ec265c8edbd8461f",
    "polytope-quick": "1599414593d93c9a", "digits-poisoning": "a8b40efb5b9ca8a2",
}  # fmt: skip
"""Hashes over the sorted keys, made at commit eda16b4, when each was still the fingerprint of all its settings."""
SINCE = {
    "quickstart": [
        "attacks.0.steps=60", "victims.0.epochs=20", "victims.0.batch_size=64", "victims.0.augmentation.mode=bilinear",
        "trials=5", "controls.noise=2",
    ],
}  # fmt: skip
"""What presets said then and no longer say."""


def grid(name: str) -> Experiment:
    """One of the grids above, or a preset."""
    if name in GRIDS:
        return tiny(**GRIDS[name])
    settings = config.read_yaml(config.load_preset(name), where=name)
    return config.parse(Experiment, config.override(settings, SINCE.get(name, ())))


@pytest.mark.parametrize("name", BEFORE)
def test_of_existing_experiments_stay_what_they_were(name: str) -> None:
    """Else the results of every run of them would be lost."""
    told = json.dumps(sorted(job.key for job in grid(name).jobs()))
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == BEFORE[name]


def decided(experiment: Experiment, job: Job) -> list[Any]:
    """Everything that decides a job's result, the slow and obvious way."""
    if job.kind == "pretraining":
        weights = experiment.pretrainings()[job.run]
        return [job.kind, weights, weights.identity()]
    goal, chosen = experiment.threat.goal, experiment.targets != "any"
    found: list[Any] = [job.kind, data_digest(experiment.data), experiment.seed, job.run]
    found += [experiment.training_rows] if experiment.training_rows else []
    cut: dict[str, Any] = {"trial of the rows": job.trial} if experiment.resample else {}
    cut |= {"held out": goal} if goal.holds_out else {}
    cut |= {"knows": "own-rows"} if job.kind == "surrogate" and experiment.threat.knows == "own-rows" else {}
    found += [cut] if cut else []
    if job.kind == "surrogate":
        learner = experiment.crew()[job.run]
        found += [list(learner.beginnings())] if learner.beginnings() else []
        return [*found, experiment.crew(job.defense)[job.run]]
    members = experiment.members(job)
    crew = [] if job.kind == "clean" else [experiment.crew()[number] for number in members]
    crew = list(experiment.crew()) if chosen else crew
    for learner in (*crew, experiment.victims[job.victim]):
        found += [list(learner.beginnings())] if learner.beginnings() else []
    found += [experiment.targets, experiment.crew()] if chosen else []
    if job.kind == "clean":
        judged = setups(experiment.setups) if experiment.setups else goal
        return [*found, experiment.victims[job.victim], experiment.stacks()[job.defense].defenses, judged]
    found += [replace(experiment.trial(job), victims=1), job.trial, experiment.share_surrogates]
    return found if members == tuple(range(len(members))) else [*found, members]


CREWED = {
    "attacks": [*TWICE, {"name": "random-flips"}], "ensemble": 3, "surrogates": [SCRATCH, STARTING], "seeds": 2,
    "crews": {"all": [0, 1, 2], "pretrained": [1], "mixed": [2, 1]}, "defenses": ["none", "deep-knn"],
    "threat": {"budget": "5 %", "labels": "dirty", "origin": "random-subset"},
}  # fmt: skip


@pytest.mark.parametrize("changes", [*GRIDS.values(), CREWED, {**CREWED, "targets": "correct"}])
def test_are_the_fingerprints_of_all_that_decides(changes: dict[str, Any]) -> None:
    experiment = tiny(**changes)
    for job in experiment.jobs():
        assert job.key == fingerprint(METHOD, decided(experiment, job)), job


class TestCrews:
    def test_that_hold_everybody_change_nothing(self) -> None:
        """So a run may give its surrogates a name later."""
        plain, named = tiny(ensemble=2), tiny(ensemble=2, crews={"both": [0, 1]})
        assert {job.key for job in plain.jobs()} == {job.key for job in named.jobs()}

    def test_share_their_surrogates_and_nothing_else(self) -> None:
        experiment = tiny(ensemble=3, crews={"one": [0], "two": [0, 1], "last": [2]})
        jobs = experiment.jobs()
        kinds = {kind: [job for job in jobs if job.kind == kind] for kind in ("surrogate", "clean", "craft")}
        assert [len(each) for each in kinds.values()] == [3, 1, 6]
        assert len({job.key for job in jobs}) == len(jobs)
        names = {job.key: job.run for job in kinds["surrogate"]}
        assert {tuple(names[key] for key in job.needs) for job in kinds["craft"]} == {(0,), (0, 1), (2,)}

    def test_of_the_same_learners_under_other_numbers_are_other_attackers(self) -> None:
        """Their networks start from other weights."""
        crafts = [job for job in tiny(ensemble=2, crews={"one": [0], "other": [1]}).jobs() if job.kind == "craft"]
        assert len({job.key for job in crafts}) == len(crafts) == 4

    def test_are_told_apart_in_tables_where_there_are_several(self) -> None:
        several = tiny(
            attacks=CREWED["attacks"], threat=CREWED["threat"], ensemble=2, crews={"one": [0], "all": [0, 1]}
        )
        assert several.attack_names() == [
            "gradient-matching (augment=True) (crew one)", "gradient-matching (augment=True) (crew all)",
            "gradient-matching (augment=False) (crew one)", "gradient-matching (augment=False) (crew all)",
            "random-flips",
        ]  # fmt: skip
        assert tiny(ensemble=2, crews={"both": [0, 1]}).attack_names() == ["gradient-matching"]

    @pytest.mark.parametrize(
        ("crews", "sentence"),
        [
            ({"one": [0, 3]}, "crew 'one' names surrogate 3, but there are 2 .from 0."),
            ({"one": [-1]}, "crew 'one' names surrogate -1"),
            ({"one": [0, 0]}, "crew 'one' names a surrogate twice"),
            ({"one": []}, "crew 'one' must name at least one surrogate, by number from 0 to 1"),
            ({"one": [0, 1], "two": [1, 0]}, "crews 'one' and 'two' are the same surrogates"),
            ({" ": [0]}, "a crew needs a name"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, crews: dict[str, Any], sentence: str) -> None:
        with pytest.raises(ConfigError, match=sentence):
            tiny(ensemble=2, crews=crews)

    def test_that_could_not_differ_are_refused(self) -> None:
        """Trained anew for each trial, equal learners under other numbers start from the same weights."""
        crews = {"one": [0], "other": [1]}
        with pytest.raises(ConfigError, match="are the same surrogates"):
            tiny(ensemble=2, crews=crews, share_surrogates=False)
        tiny(surrogates=[SCRATCH, STARTING], crews=crews, share_surrogates=False)
        with pytest.raises(ConfigError, match="none of the attacks trains any"):
            tiny(crews={"one": [0]}, attacks=[{"name": "random-flips"}], threat=CREWED["threat"])


class TestSeeds:
    def test_leave_the_first_poison_and_its_victims_as_they_were(self) -> None:
        one, three = tiny(), tiny(seeds=3)
        assert {job.key for job in one.jobs()} < {job.key for job in three.jobs()}

    def test_keep_the_targets_and_change_the_rows(self) -> None:
        experiment = tiny(seeds=3, runs=2)
        jobs = experiment.jobs()
        assert len({job.key for job in jobs}) == len(jobs)
        victims = sorted((job.trial, job.run, job.seed) for job in jobs if job.kind == "attack")
        assert victims == [(trial, run, run // 2) for trial in range(2) for run in range(6)]
        crafts = {job.key: job for job in jobs if job.kind == "craft"}
        assert all(crafts[job.needs[0]].seed == job.seed for job in jobs if job.kind == "attack")
        data, trials = load(experiment.data), [experiment.trial(job) for job in crafts.values() if job.trial == 1]
        targets = {trial.goal(data).judged.inputs.sum().item() for trial in trials}
        picks = {
            tuple(trial.threat.pick(data.train, trial.goal(data).known, trial.crafting.child("pick")).tolist())
            for trial in trials
        }
        assert (len(trials), len(targets), len(picks)) == (3, 1, 3)


@dataclass(frozen=True, kw_only=True)
class Stranger(HookDefense):
    """A defense that is not this package's."""

    name: ClassVar[str] = "stranger"

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        return Hook()


def test_of_methods_that_are_not_ours_change_with_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are in the store's hands, which asks when one has changed."""
    experiment = replace(tiny(), defenses=((), (Stranger(),)))

    def keys(version: str) -> dict[int, set[str]]:
        monkeypatch.setattr(methods, "version", lambda cls: version)
        return {stack: {job.key for job in experiment.jobs() if job.defense == stack} for stack in range(2)}

    one, other = keys("one"), keys("other")
    assert one[0] == other[0] == {job.key for job in tiny().jobs() if job.defense == 0}
    assert len(one[1]) == len(other[1]) > 0
    assert not one[1] & other[1]
