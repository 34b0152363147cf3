"""The referee: what victims are judged on, what counts as a hit, and that both sides draw from named seeds."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from mithridate.attack import Attack
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense
from mithridate.errors import ConfigError
from mithridate.feature_map import feature_map
from mithridate.goal import Aims, Backdoor, Degrade, Misclassify
from mithridate.learner import Learner
from mithridate.model import Classifier
from mithridate.poison import FIRST_APPENDED, Poison, no_poison
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.testing import CornerMark
from mithridate.threat import L2, Linf, ThreatModel
from mithridate.training import observed_training
from mithridate.trial import (
    Trial,
    accuracy,
    beginnings,
    called,
    calls_of,
    confusion,
    judge,
    noise_control,
    noise_like,
)
from mithridate.watch import silent
from tests.conftest import stripes

SPACE = Space(shape=(3,), num_classes=3, bounds=(-9.0, 9.0))


class Reader(Classifier):
    """Calls an input by its largest value: the logits are the input."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def features(self, inputs):
        self.seen.append(inputs)
        return inputs.flatten(1)[:, :3]

    def head(self, features):
        return features

    def head_parameters(self):
        return []


def rows(logits, labels):
    return Dataset.of(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels), space=SPACE)


def aims(logits, labels, wanted, **more):
    wishes = None if wanted is None else torch.tensor(wanted)
    return Aims(inputs=torch.tensor(logits, dtype=torch.float32), labels=torch.tensor(labels), wanted=wishes, **more)


TEST = rows([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], [0, 1, 2, 2])  # the last one is called 0, wrongly


class TestJudge:
    def test_success_is_the_fraction_called_what_was_wanted(self):
        metrics, _ = judge(
            Reader(), aims([[0, 2, 1], [0, 1, 2], [3, 1, 2], [0, 3, 1]], [0, 0, 1, 2], [1, 1, 1, 1]), TEST
        )
        assert metrics["success"] == 0.5

    def test_any_wrong_answer_will_do_where_no_class_is_wanted(self):
        metrics, _ = judge(Reader(), aims([[0, 2, 1], [0, 1, 2], [3, 1, 2]], [0, 2, 1], None), TEST)
        assert metrics["success"] == 2 / 3  # to the last digit, as counts are

    def test_targets_are_shown_as_they_are(self):
        model, shown = Reader(), [[0.1, 0.2, 0.3]]
        judge(model, aims(shown, [0], [1]), TEST)
        assert model.seen[0].tolist() == [pytest.approx(shown[0])]

    def test_a_backdoor_is_judged_with_its_trigger_on(self):
        @dataclass(frozen=True, kw_only=True)
        class Swap(CornerMark):
            def apply(self, inputs):
                return inputs.flip(1)

        metrics, _ = judge(Reader(), aims([[5, 0, 1]], [0], [2], trigger=Swap()), TEST)
        assert metrics["success"] == 1.0

    def test_targets_are_left_out_of_clean_accuracy(self):
        wrong = aims([[1, 0, 0]], [2], [0], ids=torch.tensor([3]))
        assert judge(Reader(), wrong, TEST)[0]["clean_accuracy"] == 1.0
        right = aims([[1, 0, 0]], [0], [1], ids=torch.tensor([0]))
        assert judge(Reader(), right, TEST)[0]["clean_accuracy"] == pytest.approx(2 / 3)

    def test_inputs_of_a_backdoor_count_without_their_trigger(self):
        everything = aims(TEST.inputs.tolist(), TEST.labels.tolist(), [1] * 4, trigger=CornerMark(), ids=TEST.ids)
        everything = replace(everything, trigger=type("Still", (CornerMark,), {"apply": lambda self, x: x})())
        assert judge(Reader(), everything, TEST)[0]["clean_accuracy"] == 0.75

    def test_where_all_rows_are_targets_all_rows_count(self):
        everything = aims(TEST.inputs.tolist(), TEST.labels.tolist(), None, ids=TEST.ids)
        assert judge(Reader(), everything, TEST)[0] == {"success": 0.25, "clean_accuracy": 0.75, "error": 0.25}

    def test_where_any_error_counts_no_row_is_left_out_of_clean_accuracy(self):
        """Not even where only some rows are judged: those that surrogates get right, say."""
        some = aims(TEST.inputs[:2].tolist(), TEST.labels[:2].tolist(), None, ids=TEST.ids[:2])
        assert judge(Reader(), some, TEST)[0] == {"success": 0.0, "clean_accuracy": 0.75, "error": 0.25}

    def test_of_one_confusion_the_other_classes_are_what_there_is_to_be_right_on(self):
        """Rows of class 2 are called 2 and 0: half of them what was wanted; every other row is called its label."""
        drawn = Degrade(kind="specific", source=2, intended=0).draw(TEST, TEST, Seed(0)).judged
        assert judge(Reader(), drawn, TEST)[0] == {"success": 0.5, "clean_accuracy": 1.0, "error": 0.25}

    def test_a_tie_is_no_success_and_no_right_answer(self):
        """argmax names the first of equals, so a network that knows nothing would serve every wish for class 0."""
        tie = aims([[1, 1, 1], [2, 2, 0]], [1, 2], [0, 0])
        metrics, described = judge(Reader(), tie, rows([[1, 1, 0], [0, 1, 0]], [0, 1]))
        assert metrics == {"success": 0.0, "clean_accuracy": 0.5, "error": 0.5}
        assert [each["predicted"] for each in described] == [None, None]
        assert not any(each["hit"] for each in described)

    def test_a_diverged_network_is_no_success(self):
        class Diverged(Reader):
            def head(self, features):
                return torch.where(features > 0, features, torch.nan)

        broken = aims([[-1, -1, -1], [-1, 1, 2]], [1, 2], [0, 0])
        metrics, described = judge(Diverged(), broken, rows([[-1, 2, 1]], [0]))
        assert metrics == {"success": 0.0, "clean_accuracy": 0.0, "error": 1.0}
        assert [each["predicted"] for each in described] == [None, None]
        json.dumps(described, allow_nan=False)

    def test_close_logits_are_told_apart_even_where_probabilities_are_not(self):
        close = torch.tensor([[20.0, 20.0 + 2e-6, -50.0]])
        assert float(close[0, 1]) > float(close[0, 0])
        assert called(close).tolist() == [1]

    def test_what_is_described_is_what_was_judged(self):
        targets = aims([[0, 2, 1], [3, 1, 2]], [2, 1], [1, 2], ids=torch.tensor([7, 9]))
        _, described = judge(Reader(), targets, TEST)
        json.dumps(described)
        assert [(d["id"], d["true"], d["wanted"], d["predicted"], d["hit"]) for d in described] == [
            (7, 2, 1, 1, True),
            (9, 1, 2, 0, False),
        ]
        expected = torch.tensor([0.0, 2.0, 1.0]).softmax(0).tolist()
        assert described[0]["probabilities"] == pytest.approx(expected, abs=1e-5)

    def test_many_targets_are_all_judged_and_a_few_described(self):
        many = aims([[0, 1, 0]] * 20 + [[1, 0, 0]] * 20, [0] * 40, [1] * 40)
        metrics, described = judge(Reader(), many, TEST)
        assert metrics["success"] == 0.5
        assert len(described) == 16

    def test_the_network_is_judged_in_evaluation_mode(self, learner):
        data = stripes(30, seed=2)
        model = learner.fit(stripes(60, seed=1), seed=Seed(0)).model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        drawn = Misclassify().draw(data, data, Seed(0)).judged
        one = judge(model, drawn, data)
        assert one == judge(model.eval(), drawn, data)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_accuracy_counts_every_row_over_batches():
    count = 2500
    labels = torch.arange(count) % 3
    inputs = torch.eye(3)[(labels + (torch.arange(count) % 5 == 0)) % 3]
    assert accuracy(Reader(), Dataset.of(inputs, labels, space=SPACE)) == pytest.approx(0.8)


class TestNoise:
    @pytest.mark.parametrize("perturbation", [Linf(radius=16 / 255), Linf(radius=5.5 / 255), L2(radius=0.7)], ids=str)
    def test_noise_is_on_the_same_rows_within_the_same_radius_and_uses_it(self, perturbation):
        data, ids = stripes(90, seed=1), torch.tensor([40, 3, 17])
        threat = ThreatModel(budget=0.1, perturbation=perturbation)
        noise = noise_control(data, threat=threat, ids=ids, seed=Seed(1))
        threat.check(data, noise)
        clean = data.rows(ids)
        assert noise.rows.ids.tolist() == ids.tolist()
        assert torch.equal(noise.rows.labels, clean.labels)
        moved = noise.rows.inputs.int() - clean.inputs.int()
        inside = (clean.inputs > 20) & (clean.inputs < 235)
        if isinstance(perturbation, Linf):
            assert (moved[inside].abs() == int(perturbation.radius * 255 + 1e-3)).all()
            assert abs(float((moved[inside] > 0).float().mean()) - 0.5) < 0.08
        again = noise_control(data, threat=threat, ids=ids, seed=Seed(1))
        other = noise_control(data, threat=threat, ids=ids, seed=Seed(2))
        assert again.rows.digest() == noise.rows.digest() != other.rows.digest()


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Noise on the picked rows; what it is handed is written down."""

    name: ClassVar[str] = "noise"
    goals: ClassVar = (Misclassify, Backdoor, Degrade)
    needs_surrogate: ClassVar[bool] = False
    seen: list

    def craft(self, data, threat, *, aims, surrogates, seed, watch=silent):
        self.seen.append(aims)
        return noise_control(data, threat=threat, ids=threat.pick(data, aims, seed.child("pick")), seed=seed)


class Recording(Learner):
    """Writes down what it is trained on."""

    name: ClassVar[str] = "recording"

    def __init__(self, inner, calls):
        self.inner, self.calls = inner, calls

    def build(self, space, seed):
        return self.inner.build(space, seed)

    def augment(self, inputs, *, space, generator):
        return self.inner.augment(inputs, space=space, generator=generator)

    def train(self, data, *, seed, hooks=(), resume=None):
        self.calls.append((data, seed))
        yield from self.inner.train(data, seed=seed, hooks=hooks)


class TestTrial:
    data = Split(train=stripes(90, seed=1), test=stripes(30, seed=2))

    def trial(self, learner, **changes):
        threat = ThreatModel(budget=0.1, perturbation=Linf(radius=16 / 255))
        settings = {"attack": Noise(seen=[]), "threat": threat, "surrogates": (), "victim": learner, "seed": Seed(3)}
        return Trial(**{**settings, **changes})

    def test_victims_train_on_the_poisoned_set_from_seeds_of_their_own(self, learner):
        calls = []
        trial = self.trial(Recording(learner, calls), victims=3)
        outcomes = trial.run(self.data)
        assert [outcome.victim for outcome in outcomes] == [0, 1, 2]
        assert len({seed for _, seed in calls}) == 3
        (aims,) = trial.attack.seen
        picked = trial.threat.pick(self.data.train, aims, Seed(3).child("craft").child("pick"))
        for trained_on, _ in calls:
            assert trained_on.ids.tolist() == self.data.train.ids.tolist()
            differs = (trained_on.inputs != self.data.train.inputs).flatten(1).any(1)
            assert trained_on.ids[differs].tolist() == picked.tolist()
            assert trained_on.inputs.dtype == torch.uint8

    @pytest.mark.parametrize(
        "spec", [Misclassify(), Backdoor(trigger=CornerMark(), known=7), Degrade(known=0.3)], ids=lambda spec: spec.name
    )
    def test_outcomes_are_what_an_own_judgement_finds(self, learner, spec):
        """On the rows that are judged, not on those the attacker knows."""
        threat = ThreatModel(goal=spec, budget=0.1, perturbation=Linf(radius=16 / 255))
        trial = self.trial(learner, victims=2, threat=threat)
        goal, train = trial.goal(self.data), trial.rows(self.data).train
        outcomes = trial.run(self.data)
        poison = noise_control(
            train,
            threat=trial.threat,
            ids=trial.threat.pick(train, goal.known, Seed(3).child("craft").child("pick")),
            seed=Seed(3).child("craft"),
        )
        for k, outcome in enumerate(outcomes):
            model = learner.fit(poison.apply(train), seed=Seed(3).child("victim", k)).model
            metrics, targets = judge(model, goal.judged, self.data.test)
            assert {name: outcome.metrics[name] for name in metrics} == metrics
            assert outcome.targets == targets
            assert len(outcome.curve["loss"]) == len(outcome.curve["accuracy"]) == 3

    def test_the_same_trial_twice_is_the_same(self, learner):
        facts = []
        for seed in (3, 3, 4):
            outcomes = self.trial(learner, victims=2, seed=Seed(seed)).run(self.data)
            facts.append([(outcome.targets, outcome.curve) for outcome in outcomes])
        assert facts[0] == facts[1] != facts[2]

    def test_defenses_are_worn_innermost_first(self, learner):
        worn = []

        class Wrapping(Defense):
            def __init__(self, name):
                self.name = name

            def protect(self, learner):
                worn.append((self.name, getattr(learner, "label", "bare")))
                inner = Recording(learner, [])
                inner.label = self.name
                return inner

        self.trial(learner, defenses=(Wrapping("one"), Wrapping("two"))).run(self.data)
        assert worn == [("one", "bare"), ("two", "one")]

    def test_problems_are_found_without_training(self, learner):
        calls = []
        quiet = Recording(learner, calls)
        assert self.trial(quiet).problems(self.data) == []
        threat = ThreatModel(budget=0.9)
        (found,) = self.trial(quiet, threat=threat).problems(self.data)
        assert "asks for 81 rows, but only 30" in found
        (found,) = self.trial(quiet, threat=ThreatModel(goal=Misclassify(target="strip 1"))).problems(self.data)
        assert "did you mean 'stripe 1'" in found
        assert not calls


def test_training_is_observed_epoch_by_epoch(learner):
    steps = []
    found = observed_training(learner, stripes(60, seed=1), seed=Seed(1), watch=steps.append)
    curve = found.curve
    assert not found.model.training
    assert [(step.stage, step.done, step.total) for step in steps] == [("victim", k, 3) for k in (1, 2, 3)]
    assert curve["loss"] == tuple(step.values["loss"] for step in steps)
    assert curve["loss"][-1] < curve["loss"][0]
    assert found.seconds > 0
    assert (found.reused, found.removals, found.facts) == (0, (), {})


class TestFeatureMap:
    data = stripes(90, seed=1)

    def drawn(self, learner, poison):
        aims = Misclassify(target=0, intended=1).draw(self.data, stripes(30, seed=2), Seed(0)).judged
        model = learner.fit(poison.apply(self.data), seed=Seed(0)).model
        return feature_map(model, poison.apply(self.data), aims=aims, poison_ids=poison.rows.ids)

    def test_the_first_axis_leads_from_one_class_to_the_other(self, learner):
        found = self.drawn(learner, no_poison(self.data))
        points = {name: [] for name in found["groups"]}
        for point, name in zip(found["points"], found["groups"], strict=True):
            points[name].append(point)
        assert {name: len(each) for name, each in points.items()} == {
            "target class": 30,
            "intended class": 30,
            "target": 1,
        }
        means = {name: torch.tensor(each).mean(0) for name, each in points.items()}
        assert means["target class"][0] == pytest.approx(-float(means["intended class"][0]), abs=1e-3)
        assert means["target class"][0] < means["intended class"][0]

    def test_poison_is_a_group_of_its_own(self, learner):
        rows = self.data.rows(self.data.ids[self.data.labels == 1][:4])
        found = self.drawn(learner, Poison(rows=rows))
        assert found["groups"].count("poison") == 4
        assert found["groups"].count("intended class") == 26

    def test_a_class_that_is_all_poison_leaves_no_map_and_no_crash(self, learner):
        rows = self.data.rows(self.data.ids[self.data.labels == 1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.drawn(learner, Poison(rows=rows)) is None

    def test_a_diverged_network_leaves_no_map_and_no_crash(self, learner):
        aims = Misclassify(target=0, intended=1).draw(self.data, stripes(30, seed=2), Seed(0)).judged
        model = replace(learner, lr=1e30).fit(self.data, seed=Seed(0)).model
        assert feature_map(model, self.data, aims=aims, poison_ids=torch.zeros(0, dtype=torch.int64)) is None

    def test_without_a_wish_there_is_no_map(self, learner):
        aims = Degrade().draw(self.data, stripes(30, seed=2), Seed(0)).judged
        model = learner.build(self.data.space, Seed(0))
        assert feature_map(model, self.data, aims=aims, poison_ids=torch.zeros(0, dtype=torch.int64)) is None


def test_progress_of_a_learner_without_epochs_is_said(learner):
    class Lazy(Recording):
        def train(self, data, *, seed, hooks=(), resume=None):
            yield from ()

    with pytest.raises(ConfigError, match="trains for no epoch; set epochs to at least 1"):
        Lazy(learner, []).fit(stripes(10, seed=1), seed=Seed(0))


class TestConfusion:
    def test_counts_rows_by_what_they_are_and_what_they_are_called(self):
        """By hand: 2 of class 0 called right, one of class 2 called 0; a tie is called nothing and counts nowhere."""
        data = rows([[2, 1, 0], [9, 0, 0], [1, 1, 0], [5, 0, 1], [0, 0, 1]], [0, 0, 1, 2, 2])
        calls = calls_of(Reader(), data)
        assert calls.tolist() == [0, 0, -1, 0, 2]
        assert confusion(calls, data) == [[2, 0, 0], [0, 0, 0], [1, 0, 1]]

    def test_of_very_many_classes_is_not_kept(self):
        space = Space(shape=(3,), num_classes=21)
        data = Dataset.of(torch.eye(3), torch.arange(3), space=space)
        assert confusion(calls_of(Reader(), data), data) is None

    def test_agrees_with_the_error(self):
        calls = calls_of(Reader(), TEST)
        metrics, _ = judge(Reader(), aims([[0, 2, 1]], [0], [1]), TEST, calls=calls)
        right = sum(row[k] for k, row in enumerate(confusion(calls, TEST)))
        assert metrics["error"] == pytest.approx(1 - right / len(TEST))


class TestNoiseLike:
    DATA = stripes(30, seed=1)
    THREAT = ThreatModel(budget=0.1, perturbation=Linf(radius=16 / 255), labels="dirty", rows="append")

    def poison(self, **changes):
        base = self.DATA.at(torch.tensor([4, 9, 9]))
        rows = replace(base, labels=(base.labels + 1) % 3, ids=FIRST_APPENDED + torch.arange(3))
        return Poison(rows=rows, **changes)

    def test_is_on_the_origins_under_the_ids_and_labels_of_the_poison(self):
        poison = self.poison(origins=self.DATA.ids[[4, 9, 9]], trace={"loss": (1.0,)})
        base = beginnings(poison, None, self.DATA, seed=Seed(0))
        assert base.ids.tolist() == poison.origins.tolist()
        noise = noise_like(poison, base, threat=self.THREAT, seed=Seed(1))
        assert noise.rows.ids.tolist() == poison.rows.ids.tolist()
        assert noise.rows.labels.tolist() == poison.rows.labels.tolist()
        assert noise.trace == {}
        self.THREAT.check(self.DATA, noise)
        moved = noise.rows.inputs.int() - base.inputs.int()
        assert int(moved.abs().max()) == 16
        assert not torch.equal(moved[1], moved[2]), "each row has noise of its own"

    def test_of_replaced_rows_with_dirty_labels_keeps_those_labels(self):
        clean = self.DATA.at(torch.tensor([3, 7]))
        poison = Poison(rows=replace(clean, labels=(clean.labels + 1) % 3))
        noise = noise_like(poison, beginnings(poison, None, self.DATA, seed=Seed(0)), threat=self.THREAT, seed=Seed(1))
        assert noise.rows.labels.tolist() == ((clean.labels + 1) % 3).tolist()
        assert noise.rows.ids.tolist() == clean.ids.tolist()

    def test_of_rows_that_are_no_training_rows_begins_as_the_poison_set_says(self):
        """An attacker's own rows; and where nothing is known, training rows drawn by the seed."""
        own = stripes(5, seed=9, first_id=700)
        poison = self.poison(origins=torch.tensor([701, 702, 701]))
        assert beginnings(poison, own.at(torch.tensor([1, 2, 1])), self.DATA, seed=Seed(0)).ids.tolist() == [
            701,
            702,
            701,
        ]
        drawn = [beginnings(self.poison(), None, self.DATA, seed=Seed(seed)) for seed in (1, 1, 2)]
        assert drawn[0].ids.tolist() == drawn[1].ids.tolist() != drawn[2].ids.tolist()
        assert set(drawn[0].ids.tolist()) <= set(self.DATA.ids.tolist())
