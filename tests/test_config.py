"""The configuration: names looked up, values checked, every problem listed with its place, never a traceback."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mithridate import config, registry
from mithridate.datasets.digits import Digits
from mithridate.errors import ConfigError, MithridateError, ProblemsError
from mithridate.experiment import Controls, Experiment
from mithridate.learner import Learner
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.sgd import SGD
from mithridate.learners.start import FineTune, Scratch
from mithridate.learners.weights import Own, Trained
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.preflight import problems
from mithridate.settings import plain
from mithridate.threat import Linf, ThreatModel

LEAST = {
    "name": "least",
    "data": "digits",
    "attacks": ["gradient-matching"],
    "victims": [{"model": {"name": "mlp", "hidden": [4]}}],
}


def complaints(**changes: Any) -> list[str]:
    with pytest.raises(ProblemsError) as caught:
        config.parse(Experiment, {**LEAST, **changes})
    return list(caught.value.problems)


def read(**changes: Any) -> Experiment:
    return config.parse(Experiment, {**LEAST, **changes})


class TestProblems:
    def test_are_all_listed_with_their_places_in_one_go(self) -> None:
        found = complaints(
            trials="many",
            runs=0,
            treat={},
            attacks=[{"name": "gradient-matchin"}, {"name": "gradient-matching", "steps": 0, "restarts": 0}],
            victims=[{"model": {"name": "mlp", "hidden": ["a", "b"]}, "epochs": 0, "lr": -1, "batch_sise": 3}],
        )
        starts = [
            "trials:",
            "experiment: runs must be at least 1",
            "treat: there is no such setting: did you mean 'threat'?",
            "attacks[0].name: there is no attack called 'gradient-matchin': did you mean 'gradient-matching'?",
            "attacks[1]: steps must be at least 1",
            "attacks[1]: restarts must be at least 1",
            "victims[0].model.hidden[0]:",
            "victims[0].model.hidden[1]:",
            "victims[0]: epochs must be at least 1",
            "victims[0]: lr must be positive",
            "victims[0].batch_sise: there is no such setting: did you mean 'batch_size'?",
        ]
        for start in starts:
            assert [each for each in found if each.startswith(start)], (start, found)
        assert len(found) == len(starts)

    def test_of_a_valid_neighbour_are_not_invented(self) -> None:
        """A check that looks at two settings stays silent about the good one when the other cannot be read."""
        model = {"name": "smallconvnet", "widths": "wide", "pools": [1, 2, 3, 4]}
        found = complaints(victims=[{"model": model}])
        assert len([each for each in found if "widths" in each]) >= 1
        assert not [each for each in found if each.startswith("experiment")]

    def test_name_a_missing_setting(self) -> None:
        with pytest.raises(ProblemsError) as caught:
            config.parse(Experiment, {})
        assert [each.partition(":")[0] for each in caught.value.problems] == ["name", "data", "attacks", "victims"]

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"threat": {"perturbation": {"name": "linf", "radius": 8}}}, "did you mean 8/255?"),
            ({"threat": {"budget": 5}}, "did you mean 0.05, that is 5 %?"),
            ({"threat": {"budget": 1.01}}, "threat: budget must be a fraction"),
            ({"threat": {"budget": -0.1}}, "threat: budget must be a fraction"),
            ({"threat": {"budget": float("nan")}}, "threat.budget: input should be a finite number"),
            ({"threat": {"budget": "1e400"}}, "threat.budget: "),
            ({"threat": {"labels": "dirt"}}, "threat.labels: input should be 'clean' or 'dirty'"),
            ({"threat": None}, "threat: a mapping of settings is needed"),
            ({"data": "digit"}, "data.name: there is no source called 'digit': did you mean 'digits'?"),
            ({"data": 3}, "data: a name, or a mapping with a 'name', is needed, but this is 3"),
            ({"data": {"train_rows": 5}}, "data: a 'name' is needed (allowed: adult, arrays, "),
            ({"data": {"name": ["digits"]}}, "data: a 'name' is needed"),
            ({"attacks": "gradient-matching"}, "attacks: a list is needed"),
            ({"attacks": []}, "attacks must name at least one"),
            ({"attacks": ["gradient-matching"] * 2}, "attacks must all be different, but numbers 0 and 1 are equal"),
            ({"victims": [{"recipe": "paper-4", "model": "mlp"}]}, "did you mean 'paper-40'?"),
            ({"victims": [{"recipe": ["paper-40"], "model": "mlp"}]}, "victims[0].recipe: there is no recipe"),
            ({"victims": [{"recipe": "paper-40"}]}, "victims[0].model: this setting is needed"),
            ({"victims": [{"recipe": "logistic"}]}, "no recipe 'logistic': did you mean 'logistic-attacker'"),
            ({"victims": [{"recipe": "ridge", "steps": 0}]}, "victims[0]: steps must be at least 1, but it is 0"),
            ({"victims": [{"recipe": "ridge", "loss": "hinge"}]}, "victims[0].loss: input should be 'logistic', "),
            ({"defenses": "none"}, "defenses: a list is needed"),
            ({"defenses": ["nothing"]}, "defenses[0][0].name: there is no defense called 'nothing'"),
            ({"defenses": [[], "none"]}, "defenses must all be different"),
            ({"controls": {"drops": ["random-dropp"]}}, "did you mean 'random-drop'?"),
            ({"trials": 0}, "trials must be at least 1, but it is 0"),
            ({"trials": 2.5}, "trials: "),
            ({"trials": 10**9}, "but at most 1000000 can be run together"),
            ({"controls": {"clean": 10**12}}, "but at most 1000000 can be run together"),
            ({"ensemble": 10**15}, "but at most 1000000 can be run together"),
            ({"seed": 10**5000}, "seed: whole numbers have at most 63 bits here, but this is a number of 16610 bits"),
            ({"controls": {"clean": -1}}, "controls: "),
            ({"name": ""}, "name must be fit for a folder"),
            ({"name": ".."}, "name must be fit for a folder"),
            ({"name": "../../etc"}, "name must be fit for a folder"),
            ({"name": "a\0b"}, "name must be fit for a folder"),
            ({"vary": {"budget": 0.1}}, "vary.budget: input should be a valid tuple"),
        ],
    )
    def test_say_what_is_allowed(self, change: dict[str, Any], sentence: str) -> None:
        assert any(sentence in each for each in complaints(**change)), complaints(**change)

    @pytest.mark.parametrize(
        ("vary", "sentence"),
        [
            ({"budgt": [0.1]}, "vary: the threat model has no setting 'budgt' here: did you mean 'budget'?"),
            ({"budget": ["lots"]}, "vary: budget: "),
            ({"budget": [2]}, "vary: budget must be a fraction"),
            ({"labels": ["odd"]}, "vary: labels: input should be 'clean' or 'dirty'"),
            ({"perturbation.radius": ["8/255", 8]}, "did you mean 8/255?"),
            ({"perturbation": [{"name": "linff"}]}, "vary: perturbation.name: there is no perturbation"),
            ({"goal.targets": [1, 2]}, "vary: goal.targets cannot be varied"),
        ],
    )
    def test_of_variations_are_found_before_training(self, vary: dict[str, Any], sentence: str) -> None:
        found = problems(read(vary=vary, threat={"perturbation": {"name": "linf", "radius": "32/255"}}))
        assert len(found) == 1
        assert sentence in found[0]

    def test_of_data_networks_and_goals_are_found_before_training(self) -> None:
        def found(**changes: Any) -> list[str]:
            threat = {"perturbation": {"name": "linf", "radius": "32/255"}, **changes.pop("threat", {})}
            return problems(read(threat=threat, **changes))

        assert found() == []
        assert found(data={"name": "digits", "classes": [0, 77]})[0].startswith("data: ")
        conv = {"model": {"name": "smallconvnet", "widths": [4] * 5, "pools": [1, 2, 3, 4, 5]}}
        assert found(victims=[conv])[0].startswith("victims[0].model: ")
        assert found(surrogates=[conv])[0].startswith("surrogates[0].model: ")
        huge = {"model": {"name": "mlp", "hidden": [10**12]}}
        assert "victims[0].model: this network cannot be built" in found(victims=[huge])[0]
        assert found(threat={"budget": 1})[0].startswith("threat: a budget of 1 asks for ")
        assert found(threat={"goal": {"name": "misclassify", "target": 12}})[0].startswith("threat: class 12")
        assert found(threat={"goal": {"name": "degrade"}})[0].startswith("attacks[0]: gradient-matching cannot pursue")
        assert found(threat={"rows": "append"})[0].startswith("attacks[0]: gradient-matching cannot append")
        assert found(vary={"rows": ["append"]})[0].startswith("attacks[0]: gradient-matching cannot append")
        assert found(setups="nowhere.json")[0].startswith("setups: ")
        assert len(found(setups="nowhere.json", trials=3)) == 1


class TestValues:
    def test_may_be_fractions_and_percentages(self) -> None:
        threat = read(threat={"budget": "5 %", "perturbation": {"name": "linf", "radius": "8/255"}}).threat
        assert threat == ThreatModel(budget=0.05, perturbation=Linf(radius=8 / 255))
        assert read(threat={"budget": "1e-2"}).threat.budget == 0.01
        assert read(vary={"perturbation.radius": ["4/255", "16/255"]}).scenarios()[2].perturbation == Linf(
            radius=16 / 255
        )

    def test_that_are_text_stay_text_even_when_they_look_like_numbers(self) -> None:
        found = read(name="2024", about="5 %", notes=["1/2", "7"])
        assert (found.name, found.about, found.notes) == ("2024", "5 %", ("1/2", "7"))
        goal = {"name": "misclassify", "target": "7", "intended": 3}
        assert (read(threat={"goal": goal}).threat.goal.target, read(threat={"goal": goal}).threat.goal.intended) == (
            "7",
            3,
        )

    def test_of_zero_budget_give_no_rows(self) -> None:
        experiment = read(threat={"budget": 0})
        assert experiment.threat.count(Digits().load().train) == 0

    def test_of_recipes_lie_under_those_given(self) -> None:
        victim = read(victims=[{"recipe": "paper-40", "model": "mlp", "epochs": 3}]).victims[0]
        assert isinstance(victim, SGD)
        assert (victim.epochs, victim.batch_size, victim.lr) == (3, 128, 0.1)
        slow = read(victims=[{"recipe": "paper-40", "model": "convnet"}]).victims[0]
        assert isinstance(slow, SGD)
        assert slow.lr == 0.01  # a tenth for networks without residual connections

    def test_of_classical_recipes_need_no_network(self) -> None:
        learners: list[dict[str, Any]] = [
            {"recipe": "logistic-regression"},
            {"recipe": "mlp-10", "hidden": 4},
            {"name": "gradient-descent", "loss": "squared", "l2": 0.1},
        ]
        victims = read(victims=learners, surrogates=[{"recipe": "logistic-attacker"}]).victims
        assert list(victims) == [
            GradientDescent(loss="logistic", steps=1500, lr=0.5, standardise=False),
            GradientDescent(loss="logistic", hidden=4, steps=400, lr=0.1, standardise=False),
            GradientDescent(loss="squared", l2=0.1),
        ]
        for learner in victims:
            assert config.parse(Learner, plain(learner)) == learner  # type: ignore[type-abstract]


class TestPretraining:
    """A pretraining that names no network pretrains the one that starts from it."""

    @staticmethod
    def settings(learner: Any, **changes: Any) -> dict[str, Any]:
        weights = {"name": "trained", "data": "digits", "learner": learner}
        return {"model": {"name": "mlp", "hidden": [4]}, "start": {"name": "transfer", "weights": weights}, **changes}

    @staticmethod
    def found(settings: dict[str, Any]) -> SGD:
        learner = config.parse(Learner, settings)  # type: ignore[type-abstract]
        assert isinstance(learner, SGD)
        return learner

    def pretraining(self, learner: Any, **changes: Any) -> SGD:
        weights = self.found(self.settings(learner, **changes)).start.source()
        assert isinstance(weights, Trained)
        assert isinstance(weights.learner, SGD)
        return weights.learner

    @pytest.mark.parametrize(
        "learner", [{"epochs": 3}, {"recipe": "benchmark-200"}, {"name": "sgd", "epochs": 3}], ids=str
    )
    def test_shares_the_network(self, learner: dict[str, Any]) -> None:
        assert self.pretraining(learner).model == MLP(hidden=(4,))
        assert self.pretraining(learner, recipe="benchmark-transfer").model == MLP(hidden=(4,))
        assert self.pretraining(learner, model="linear").model == Linear()

    def test_gets_the_rate_of_its_recipe_for_that_network(self) -> None:
        assert self.pretraining({"recipe": "paper-40"}, model="convnet").lr == 0.01
        assert self.pretraining({"recipe": "paper-40"}).lr == 0.1

    def test_of_a_pretraining_shares_it_too(self) -> None:
        deepest = self.settings({"epochs": 2})["start"]
        middle = self.pretraining({"epochs": 3, "start": deepest})
        source = middle.start.source()
        assert isinstance(source, Trained)
        assert isinstance(source.learner, SGD)
        assert (source.learner.model, source.learner.epochs, middle.model) == (MLP(hidden=(4,)), 2, MLP(hidden=(4,)))

    def test_keeps_a_network_of_its_own(self) -> None:
        assert self.pretraining({"model": {"name": "mlp", "hidden": [5]}}).model == MLP(hidden=(5,))

    def test_leaves_what_is_no_pretraining_alone(self) -> None:
        own = self.settings({}, start={"name": "fine-tune", "weights": "own"})
        assert self.found(own).start == FineTune(weights=Own())
        assert self.found(self.settings({}, start="scratch")).start == Scratch()

    def test_leaves_the_settings_it_was_given_alone(self) -> None:
        settings = self.settings({"epochs": 3})
        before = deepcopy(settings)
        self.found(settings)
        assert settings == before

    def test_is_written_with_its_network(self) -> None:
        learner = self.found(self.settings({"epochs": 3}))
        assert self.found(config.read_yaml(config.write_yaml(learner), where="f")) == learner

    @pytest.mark.parametrize(
        ("start", "sentences"),
        [
            ({"name": "transfer"}, ["start.weights: this setting is needed"]),
            ({"name": "transfer", "weights": {"name": "trained", "data": "digits", "learner": 3}},
             ["start.weights.learner: a name, or a mapping with a 'name', is needed, but this is 3"]),
            ({"name": "transfer", "weights": {"name": "trained", "learner": {"epochs": 0}}},
             ["start.weights.learner: epochs must be at least 1, but it is 0",
              "start.weights.data: this setting is needed"]),
            ({"name": "transfer", "weights": [1]},
             ["start.weights: a name, or a mapping with a 'name', is needed, but this is a list of 1"]),
        ],
    )  # fmt: skip
    def test_that_is_none_is_refused_in_sentences(self, start: dict[str, Any], sentences: list[str]) -> None:
        with pytest.raises(ProblemsError) as caught:
            self.found({"model": "linear", "start": start})
        assert sorted(each.removeprefix(".") for each in caught.value.problems) == sorted(sentences)

    def test_of_a_network_that_is_none_is_refused_twice(self) -> None:
        with pytest.raises(ProblemsError) as caught:
            self.found(self.settings({}, model=3))
        sentence = "model: a name, or a mapping with a 'name', is needed, but this is 3"
        assert [each.removeprefix(".") for each in caught.value.problems] == [
            sentence,
            f"start.weights.learner.{sentence}",
        ]


class TestText:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("trials: 1\ntrials: 2", "f.yaml: line 2: this is no valid YAML (the key 'trials' is written twice)"),
            ("a: [1, 2", "f.yaml: line 1: this is no valid YAML"),
            ("- 1\n- 2", "an experiment is a mapping of settings, but this is a list of 2"),
            ("", "but this is None"),
            ("1: 2", "an experiment is a mapping of settings"),
            ("? [a]\n: b", "no valid YAML"),
            ("a: &x [1]\nb: *x", "line 2: this is no valid YAML (aliases such as *x are not read"),
            ("a: &x [*x]", "aliases such as *x are not read"),
            ("a: !!python/object/apply:os.system [ls]", "no valid YAML"),
            ("a: !!int ''", "no valid YAML"),
            ("a: !!timestamp x", "no valid YAML"),
            ("a: !!bool x", "no valid YAML"),
            ("a: 2001-99-99", "no valid YAML"),
            ('a: "\\ud800"', "no valid YAML (half a character"),
            ("a: " + "9" * 5000, "no valid YAML"),
            ("a: " + "[" * 20000, "nested too deep"),
            ("a: '" + "x" * 300000 + "'", "at most 200000 characters are read"),
            ("a: \0", "no valid YAML"),
            ("\t- a", "no valid YAML"),
        ],
    )
    def test_that_is_no_experiment_is_refused_in_a_sentence(self, text: str, sentence: str) -> None:
        with pytest.raises(ConfigError) as caught:
            config.read_yaml(text, where="f.yaml")
        assert sentence in str(caught.value)
        assert str(caught.value).startswith("f.yaml:")

    def test_that_multiplies_by_aliases_is_refused_at_once(self) -> None:
        lines = ['a0: &a0 ["lol"]'] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
        started = time.monotonic()
        with pytest.raises(ConfigError):
            config.read_yaml("\n".join(lines), where="laughs.yaml")
        assert time.monotonic() - started < 2

    def test_of_presets_is_an_experiment(self) -> None:
        for name in config.presets():
            assert config.parse(Experiment, config.presets()[name]).name

    def test_of_an_unknown_preset_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
            config.load_preset("quikstart")


def examples_of(noun: type, name: str, folder: Path) -> dict[str, Any]:
    """Settings of a kind with everything it needs, none of them the default where that is easy."""
    needed: dict[str, dict[str, Any]] = {
        "sgd": {"model": {"name": "linear"}, "epochs": 7, "drops": [2, 3], "augmentation": {"shift": 1.5}},
        "fast": {"model": {"name": "fastnet", "widths": [8, 16, 16]}, "epochs": 7, "lr": 0.75},
        "sklearn": {"estimator": "knn", "parameters": {"n_neighbors": 3}},
        "gradient-descent": {"loss": "squared", "steps": 7, "l2": 0.25},
        "table": {"file": "a.csv", "target": "label", "ignore": ["id"], "kinds": {"age": "integer"}},
        "back-gradient": {"steps": 7, "labels": "repick"},
        "wrapped": {"factory": "tests.test_config:examples_of", "head": "classifier.2"},
        "parquet": {"train": "train.parquet", "test": ["a.parquet", "b.parquet"], "classes": ["cat", 3]},
        "folder": {"train": str(folder), "path": str(folder)},
        "arrays": {"path": str(folder / "x.npz"), "bounds": [0, 2]},
        "given": {"folder": str(folder), "digest": "12ab"},
        "hub": {"dataset": "somebody/something", "path": "somebody/something", "repository": "somebody/something"},
        "backdoor": {"trigger": {"name": "patch"}},
        "gradient-matching": {"steps": 11, "loss": "similarity", "optimiser": "adam", "init": "zero"},
        "timm": {"model": "resnet18"},
        "torchvision": {"model": "resnet18"},
        "first-of": {"sources": [{"name": "digits"}, {"name": "bundled"}]},
        "trained": {"data": {"name": "digits"}, "learner": {"model": "linear", "epochs": 3}, "seed": 4},
        "file": {"path": str(folder / "weights.safetensors")},
        "fine-tune": {"weights": {"name": "own"}, "head": "kept", "rate": 0.25},
        "transfer": {"weights": {"name": "file", "path": "w.safetensors"}, "head": "kept"},
        "mlp": {"hidden": [3, 4]},
        "l2": {"radius": 0.75},
        "random-drop": {"like": {"name": "oracle-filter", "poison_ids": [3]}, "per_class": True},
        "top-loss-drop": {"like": {"name": "oracle-filter"}},
    }
    cls = registry.kind(noun, name)
    known = {each["name"] for each in registry.settings(cls)}
    return {"name": name} | {key: value for key, value in needed.get(name, {}).items() if key in known}


def everything() -> list[tuple[type, str]]:
    return [(noun, name) for noun in registry.KINDS for name in registry.places(noun)]


def importable(noun: type, name: str) -> bool:
    """Kinds that are announced before their module is written are no concern of these tests."""
    try:
        registry.kind(noun, name)
    except ConfigError:
        return False
    return True


class TestRoundTrip:
    @pytest.mark.parametrize(("noun", "name"), everything(), ids=lambda each: getattr(each, "__name__", each))
    def test_of_every_kind_gives_an_equal_object(self, noun: type, name: str, tmp_path: Path) -> None:
        if not importable(noun, name) or (name == "backdoor" and not importable(*trigger())):
            pytest.skip("this kind is announced, but not written yet")
        settings = examples_of(noun, name, tmp_path)
        found = config.parse(registry.kind(noun, name), {k: v for k, v in settings.items() if k != "name"})
        text = config.write_yaml(found)
        again = config.parse(registry.kind(noun, name), config.read_yaml(text, where="again"))
        assert again == found
        for key, value in settings.items():
            if isinstance(value, (str, int, float)) and key != "name":
                assert plain(found)[key] == value, "a setting was lost on the way in"

    def test_of_a_whole_experiment_gives_an_equal_one(self) -> None:
        experiment = read(
            about="naïve: 'quotes', #hash and\nlines",
            notes=["one", "5 %"],
            threat={"budget": "5 %", "origin": "random-subset", "perturbation": {"name": "l2", "radius": 0.5}},
            vary={"budget": [0.01, "2 %"], "perturbation": [{"name": "linf", "radius": "8/255"}]},
            attacks=[{"name": "gradient-matching", "steps": 5}, {"name": "gradient-matching", "augment": False}],
            victims=[{"recipe": "cpu-fast", "model": "smallconvnet"}, {"model": "linear", "augmentation": None}],
            surrogates=[{"model": {"name": "mlp", "hidden": [4]}}],
            controls={"clean": 3, "noise": 0},
            ensemble=2,
            seed=5,
        )
        assert config.parse(Experiment, config.read_yaml(config.write_yaml(experiment), where="x")) == experiment
        assert config.parse(Experiment, plain(experiment)) == experiment
        assert experiment.controls == Controls(clean=3, noise=0)


def trigger() -> tuple[type, str]:
    return registry.PLURALS["triggers"], "patch"


class TestSet:
    @pytest.mark.parametrize(
        ("assignment", "place", "value"),
        [
            ("threat.budget=0.02", ("threat", "budget"), 0.02),
            ("threat.perturbation.radius=4/255", ("threat", "perturbation", "radius"), "4/255"),
            ("attacks.0.steps=50", ("attacks", 0, "steps"), 50),
            ("attacks.0.name=gradient-matching", ("attacks", 0, "name"), "gradient-matching"),
            ("victims.0.model.hidden=[8, 8]", ("victims", 0, "model", "hidden"), [8, 8]),
            ("victims.0.model.hidden.0=9", ("victims", 0, "model", "hidden", 0), 9),
            ("data.train_rows=300", ("data", "train_rows"), 300),
            ("about=a=b", ("about",), "a=b"),
            ("victims.0.augmentation=null", ("victims", 0, "augmentation"), None),
        ],
    )
    def test_reaches_every_place(self, assignment: str, place: tuple[str | int, ...], value: Any) -> None:
        found: Any = config.override(LEAST, [assignment])
        for step in place:
            found = found[step]
        assert found == value

    def test_turns_a_name_into_a_mapping_and_leaves_its_input_alone(self) -> None:
        changed = config.override(LEAST, ["attacks.0.steps=5", "data.train_rows=300"])
        assert changed["attacks"] == [{"name": "gradient-matching", "steps": 5}]
        assert changed["data"] == {"name": "digits", "train_rows": 300}
        assert LEAST["attacks"] == ["gradient-matching"]
        assert config.parse(Experiment, changed).data == Digits(train_rows=300)

    @pytest.mark.parametrize(
        "assignment",
        ["", "=", "=3", "trials", "attacks.1.steps=5", "attacks.x=5", "attacks.-1=5", "attacks.²=5", "name.x.y=[",
         "victims.0.model.hidden.0.deeper=1", f"attacks.{'9' * 5000}=1", "trials=2001-99-99", "a=*x", "a={b: 1, b: 2}"],
    )  # fmt: skip
    def test_refuses_nonsense_in_a_sentence(self, assignment: str) -> None:
        with pytest.raises(ConfigError, match="--set"):
            config.override(LEAST, [assignment])

    @pytest.mark.parametrize("assignment", ["..=1", "trials.x=1", "name.x=1", "vary.perturbation.radius=[1]", " =1"])
    def test_of_a_place_that_is_no_setting_is_refused_later(self, assignment: str) -> None:
        with pytest.raises(ConfigError):
            config.parse(Experiment, config.override(LEAST, [assignment]))


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**9, 10**18, 2**63, 2**3000, 1e308, 1e-320]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["8/255", "5 %", "1/0", "1e400", "...", "digits", "linf", "gradient-matching", "\ud800"]),
    st.binary(max_size=3),
    st.dates(),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(["name", "recipe", "model", "budget"]), SCALARS), inner, max_size=3),
    ),
    max_leaves=8,
)
FULL = plain(config.parse(Experiment, LEAST))
FUZZ = settings(max_examples=150, deadline=4000, suppress_health_check=[HealthCheck.too_slow])


def places_in(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for key, inner in items for each in places_in(inner, (*place, key)))]


def changed(settings: Any, place: tuple[str | int, ...], value: Any) -> Any:
    if not place:
        return value
    first, *rest = place
    if isinstance(settings, dict):
        return {**settings, first: changed(settings[first], tuple(rest), value)}
    return [changed(each, tuple(rest), value) if k == first else each for k, each in enumerate(settings)]


def sentence(work: Callable[[], object]) -> str:
    """What a piece of work ends in: a deliberate error's words, or nothing. Any other error goes on."""
    try:
        work()
    except MithridateError as error:
        return str(error)
    return "nothing"


class TestAnything:
    @FUZZ
    @given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`, \n\t?0123456789./~<="), max_size=60))
    def test_written_is_a_mapping_or_a_sentence(self, text: str) -> None:
        assert sentence(lambda: config.parse(Experiment, config.read_yaml(text, where="random")))

    @FUZZ
    @given(NESTED)
    def test_nested_is_an_experiment_or_a_sentence(self, value: Any) -> None:
        assert sentence(lambda: config.parse(Experiment, value))

    @FUZZ
    @given(st.sampled_from(places_in(FULL)), NESTED)
    def test_put_into_a_valid_experiment_is_one_that_comes_back_or_a_sentence(
        self, place: tuple[str | int, ...], value: Any
    ) -> None:
        def there_and_back() -> None:
            experiment = config.parse(Experiment, changed(FULL, place, value))
            assert plain(config.parse(Experiment, plain(experiment))) == plain(experiment)

        assert sentence(there_and_back)

    @FUZZ
    @given(st.text(max_size=12), NESTED)
    def test_set_is_put_or_refused_in_a_sentence(self, path: str, value: Any) -> None:
        found = sentence(lambda: config.override(LEAST, [f"{path}={value}"]))
        assert found == "nothing" or "--set" in found
