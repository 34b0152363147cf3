"""Back-gradient: every option does harm, and never less than its start; its steps against cases solved by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mithridate.attack import craft
from mithridate.attacks.back_gradient import BackGradient
from mithridate.attacks.random_flips import RandomFlips
from mithridate.dataset import Dataset, channel_statistics
from mithridate.datasets.digits import Digits
from mithridate.defense import protect
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.goal import Degrade
from mithridate.learner import predictions
from mithridate.learners.cached import Cached
from mithridate.learners.estimator import Estimator
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.seeding import Seed
from mithridate.threat import L2, Linf
from tests.attacks.degrading import (
    DATA,
    FRESH,
    LEARNER,
    THREAT,
    begins_as,
    crafted,
    error,
    harm,
    solved,
    wider,
)
from tests.learners.blobs import aims_of, blobs, images
from tests.learners.test_recipes import pair
from tests.tables import COLUMNS, TABLE, rows

OPTIONS = [
    {},
    {"step_rule": "constant", "step_size": 0.5},
    {"step_rule": "line-search"},
    {"schedule": "greedy"},
    {"schedule": "greedy", "step_rule": "line-search"},
    {"schedule": "passes", "steps": 4},
    {"start": "validation"},
    {"start": "loss"},
    {"start": "stealthy"},
    {"labels": "repick"},
    {"labels": "repick", "schedule": "passes", "steps": 3, "step_rule": "line-search"},
    {"method": "checkpointed"},
    {"method": "approximate-reversal"},
    {"last": 20},
    {"patience": 2},
]
IDS = [", ".join(map(str, each.values())) or "defaults" for each in OPTIONS]
RANDOM = RandomFlips()
ONE = replace(THREAT, budget=1 / 30)
DOWN = -torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64)


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_every_option_does_more_harm_than_its_start(options):
    attack = BackGradient(**{"steps": 8, **options})
    poison, start = crafted(attack), begins_as(attack)
    assert harm(poison) > harm(start) + 0.2
    assert error(poison) > error(start)
    assert len(poison.rows) == 6
    assert all(np.isfinite(curve).all() for curve in poison.trace.values())


def test_implicit_gradients_do_more_harm_than_their_start():
    learner = GradientDescent(steps=300, lr=0.3, l2=0.1)
    attack = BackGradient(steps=8, method="implicit")
    assert harm(crafted(attack, learner=learner), learner=learner) > harm(begins_as(attack), learner=learner) + 0.1
    with pytest.raises(ConfigError, match="needs an L2 penalty"):
        crafted(attack)


@pytest.mark.parametrize("schedule", ["joint", "greedy", "passes"])
@pytest.mark.parametrize("rule", ["decay", "constant", "line-search"])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_iterate_is_returned_and_is_never_worse_than_the_first(rule, schedule, seed):
    """Also where steps are so long that most make things better for the victim."""
    attack = BackGradient(steps=3, step_size=60.0, step_rule=rule, schedule=schedule, passes=1)
    poison = crafted(attack, seed=seed)
    assert harm(poison) >= harm(begins_as(attack, seed=seed)) - 1e-9
    if rule != "line-search":
        assert harm(poison) >= max(poison.trace["objective"]) - 1e-6  # which knows all but the last place


def test_the_trace_tells_the_objective_from_the_start_on():
    poison = crafted(BackGradient(steps=5))
    assert len(poison.trace["objective"]) == 5
    assert poison.trace["objective"][0] == pytest.approx(harm(begins_as(BackGradient())), rel=1e-9)
    assert set(poison.trace) == {"objective"}
    drifting = crafted(BackGradient(steps=5, method="approximate-reversal"))
    assert len(drifting.trace["drift"]) == 5
    assert min(drifting.trace["drift"]) > 0


def test_victims_of_digits_err_more_than_those_of_random_flips():
    """What it is for: 1 against 7, 50 rows and 10 of poison, judged on rows that nobody trained on."""
    train, test = pair(Digits(), 1, 7)
    learner, found = GradientDescent(steps=120, lr=0.5, standardise=False), []
    for seed in range(3):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        data, aims = train.at(order[:50]), aims_of(train.at(order[50:150]))
        poisons = [
            crafted(each, data=data, aims=aims, learner=learner, seed=seed) for each in (RANDOM, BackGradient(steps=12))
        ]
        found.append([error(each, data=data, test=test, learner=learner) for each in poisons])
    random, moved = np.mean(found, axis=0)
    assert moved > random + 0.05
    assert all(one[1] > one[0] for one in found)


class TestSteps:
    """On losses with slopes that are known."""

    @pytest.mark.parametrize(("schedule", "largest"), [("joint", 1e200), ("passes", 1e4)])
    def test_each_row_goes_its_own_way_up_by_the_length_of_the_step(self, schedule, largest):
        weights = torch.tensor([1.0, 30.0, 1e-6, -4.0, largest, 0.0], dtype=torch.float64)  # of the six rows
        learner, _ = solved(lambda x, y: (x @ DOWN * weights).sum() / 6)
        attack = BackGradient(steps=3, step_rule="constant", step_size=0.6, schedule=schedule, passes=1)
        start = begins_as(attack, data=wider(DATA)).rows.inputs
        moved = crafted(attack, data=wider(DATA), learner=learner).rows.inputs - start
        expected = 3 * 0.6 * weights.sign()[:, None] * DOWN / 3
        assert torch.allclose(moved.double(), expected, atol=1e-5)

    def test_steps_fall_as_promised(self):
        learner, asked = solved(lambda x, y: (x @ DOWN).sum())
        crafted(BackGradient(steps=30, step_size=0.9), data=wider(DATA), learner=learner)
        places = torch.stack([each[1] for each in asked])
        lengths = (places[1:] - places[:-1]).norm(dim=-1)
        expected = torch.tensor([0.9 / (1 + number / 20) for number in range(30)], dtype=torch.float64)
        assert torch.allclose(lengths, expected[:, None].expand(30, 6), rtol=1e-4)
        assert [each[0] for each in asked] == ["steering"] * 30 + ["value"]  # one sweep for all rows a step

    def test_a_victim_that_is_to_call_something_else_is_led_down(self):
        learner, _ = solved(lambda x, y: (x @ DOWN).sum())
        data, attack = wider(blobs(30, classes=3, dim=3)), BackGradient(steps=2, step_rule="constant")
        threat = replace(THREAT, goal=Degrade(kind="specific"), origin="either-class")
        aims = aims_of(data, source=0, wanted=1)
        moved = crafted(attack, data=data, threat=threat, aims=aims, learner=learner).rows.inputs
        start = begins_as(attack, data=data, threat=threat, aims=aims).rows.inputs
        assert torch.allclose((moved - start).double(), (-2 * DOWN / 3).expand(6, 3), atol=1e-5)

    def test_line_search_doubles_and_halves(self):
        """One row on a parabola around 5 from where it begins: 1, 2, 4 and 8 are tried, then 4 is taken, then 1."""
        begun = begins_as(BackGradient(), threat=ONE, data=wider(DATA)).rows.inputs.double()
        learner, asked = solved(
            lambda x, y: -((x - begun)[:, 0] - 5).square().sum() - (x - begun)[:, 1:].square().sum()
        )
        poison = crafted(BackGradient(steps=2, step_rule="line-search"), data=wider(DATA), threat=ONE, learner=learner)
        tried = [(each[0], round(float((each[1] - begun)[0, 0]), 3)) for each in asked]
        first = [("steering", 0.0), ("value", 1.0), ("value", 2.0), ("value", 4.0), ("value", 8.0)]
        second = [("steering", 4.0), ("value", 8.0), ("value", 6.0), ("value", 5.0)]
        assert tried == [*first, *second, ("value", 5.0)]
        assert float(poison.rows.inputs[0, 0]) == pytest.approx(float(begun[0, 0]) + 5, abs=1e-4)

    def test_line_search_ends_where_nothing_helps(self):
        begun = begins_as(BackGradient(), threat=ONE).rows.inputs.double()
        learner, asked = solved(lambda x, y: -(x - begun).abs().sum() + 1e-9 * x.sum())
        poison = crafted(BackGradient(steps=5, step_rule="line-search"), threat=ONE, learner=learner)
        assert torch.equal(poison.rows.inputs, begins_as(BackGradient(), threat=ONE).rows.inputs)
        assert [each[0] for each in asked] == ["steering", *["value"] * 10, "value"]  # down to a thousandth

    def test_the_best_place_is_returned_not_the_last(self):
        """A ridge at 1.5 from the start: steps of 1 go to 1, 2, 1, 2, ...; 0.25 from it is better than 0.75."""
        begun = begins_as(BackGradient(), threat=ONE).rows.inputs.double()
        learner, _ = solved(lambda x, y: -((x - begun)[:, 0] - 1.25).abs().sum())
        for steps in (3, 4, 5):
            attack = BackGradient(steps=steps, step_rule="constant")
            found = crafted(attack, data=wider(DATA), threat=ONE, learner=learner).rows.inputs - begun
            assert found[0].tolist() == pytest.approx([1, 0, 0], abs=1e-5)

    def test_patience_ends_a_search_that_finds_nothing_better(self):
        learner, asked = solved(lambda x, y: (0 * x).sum())
        crafted(BackGradient(steps=50, patience=3), learner=learner)
        assert [each[0] for each in asked] == ["steering"] * 4 + ["value"]

    @pytest.mark.parametrize("kind", ["generic", "specific"])
    def test_repicked_labels_are_those_that_the_slope_speaks_for(self, kind):
        """Three classes; the slope by labels is flat for two of six rows, which keep theirs."""
        data, sign = blobs(30, classes=3, dim=3), 1 if kind == "generic" else -1
        aims = None if kind == "generic" else aims_of(data, source=0, wanted=1)
        threat = replace(THREAT, goal=Degrade(kind=kind), origin="random-subset")
        start = begins_as(BackGradient(), data=data, threat=threat, aims=aims).rows.labels
        slopes = torch.zeros(6, 3, dtype=torch.float64)
        slopes[:2, 1], slopes[2:4, 0], slopes[2:4, 2] = 1.0, 3.0, 2.0
        learner, _ = solved(lambda x, y: sign * (y != start).sum() + 0 * x.sum(), lambda x: sign * slopes)
        poison = crafted(BackGradient(steps=2, labels="repick"), data=data, threat=threat, aims=aims, learner=learner)
        assert poison.rows.labels.tolist() == [1, 1, 0, 0, *start[4:].tolist()]
        kept = crafted(BackGradient(steps=2), data=data, threat=threat, aims=aims, learner=learner)
        assert torch.equal(kept.rows.labels, start)

    @pytest.mark.parametrize("by", ["append", "replace"])
    def test_greedy_adds_one_row_after_the_other_and_leaves_the_earlier_ones(self, by):
        threat = replace(THREAT, rows=by, budget=0.1, base_ids=(3, 8, 20))
        learner, asked = solved(lambda x, y: (x @ DOWN).sum())
        crafted(BackGradient(steps=2, schedule="greedy"), threat=threat, learner=learner, data=wider(DATA))
        begun = begins_as(BackGradient(), threat=threat).rows
        stages = [asked[0:3], asked[3:6], asked[6:9]]
        for k, stage in enumerate(stages):
            count = k + 1 if by == "append" else 3
            _, inputs, labels, clean, _ = stage[-1]
            assert inputs.shape == (count, 3)
            assert len(clean) == (30 if by == "append" else 27)
            assert torch.equal(labels[: k + 1], begun.labels[: k + 1])
            assert float((inputs[k] - begun.inputs[k].double()).norm()) == pytest.approx(1 + 1 / 1.05, rel=1e-5)
            if by == "replace":  # those whose turn has not come stand as they were
                assert torch.equal(inputs[k + 1 :].float(), begun.inputs[k + 1 :])
                assert torch.equal(labels[k + 1 :], 1 - begun.labels[k + 1 :])
            if k:
                assert torch.equal(inputs[:k], stages[k - 1][-1][1][:k])

    def test_a_row_without_slope_stays_and_does_no_harm(self):
        weights = torch.tensor([1.0, 0.0, 1.0, 1e-25, 1.0, 0.0], dtype=torch.float64)
        learner, _ = solved(lambda x, y: (x @ DOWN * weights).sum())
        poison, start = crafted(BackGradient(steps=2), learner=learner), begins_as(BackGradient())
        stayed = (poison.rows.inputs == start.rows.inputs).all(1)
        assert stayed.tolist() == [False, True, False, True, False, True]

    def test_several_networks_begin_from_several_seeds(self):
        learner, asked = solved(lambda x, y: (x @ DOWN).sum())
        crafted(BackGradient(steps=1, networks=3), learner=learner)
        assert len({each[4].value for each in asked}) == 3
        perceptron = replace(LEARNER, hidden=3)
        found = crafted(BackGradient(steps=4, networks=2), learner=perceptron)
        seeds = [Seed(1).child("surrogates").child(k) for k in range(2)]
        parts = [perceptron.bilevel(DATA, aims_of(FRESH), seed=each) for each in seeds]
        begun = begins_as(BackGradient()).rows
        start = [each.value(begun.inputs.double(), begun.labels) for each in parts]
        assert start[0] != start[1]
        assert found.trace["objective"][0] == pytest.approx(np.mean(start))
        assert found.trace["objective"][-1] > np.mean(start)


class TestRows:
    def test_without_a_slope_they_are_those_of_random_flips(self):
        """So that the two can be compared pair by pair."""
        still, _ = solved(lambda x, y: (0 * x).sum())
        for by in ("append", "replace"):
            for start in ("train", "validation") if by == "append" else ("train",):
                for data in (DATA, blobs(30, classes=4, dim=3)):
                    threat = replace(THREAT, rows=by)
                    one = crafted(BackGradient(steps=2, start=start), threat=threat, data=data, learner=still, seed=4)
                    two = crafted(RandomFlips(start=start), threat=threat, data=data, seed=4)
                    assert one.rows.digest() == two.rows.digest()
                    assert (one.origins is None) == (two.origins is None)
                    assert one.origins is None or torch.equal(one.origins, two.origins)

    @pytest.mark.parametrize(("start", "first"), [("loss", True), ("stealthy", False)])
    def test_those_of_greatest_and_least_loss_can_be_chosen(self, start, first):
        """Of their flipped labels under a clean model; of two classes, the margin decides."""
        model = LEARNER.fit(DATA, seed=Seed(5)).model
        margins = predictions(model, DATA.inputs).diff(dim=1)[:, 0] * (2 * DATA.labels - 1)
        still, _ = solved(lambda x, y: (0 * x).sum())
        poison = crafted(BackGradient(steps=1, start=start), learner=still)
        assert poison.origins.tolist() == sorted(margins.argsort(descending=first)[:6].tolist())
        assert torch.equal(poison.rows.labels, 1 - DATA.rows(poison.origins).labels)

    def test_which_rows_are_chosen_does_not_depend_on_the_order_of_the_data(self):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
        data = blobs(30, classes=3, spread=1.2, dim=3)
        learner = GradientDescent(loss="softmax", steps=40, lr=0.3)
        for start in ("train", "loss"):
            attack = BackGradient(steps=3, start=start)
            one, two = (crafted(attack, data=each, learner=learner) for each in (data, data.at(order)))
            assert torch.equal(one.origins, two.origins)
            assert torch.equal(one.rows.labels, two.rows.labels)
            assert torch.allclose(one.rows.inputs, two.rows.inputs, atol=1e-4)

    @pytest.mark.parametrize("rule", ["decay", "line-search"])
    def test_tables_stay_tables(self, rule):
        """All kinds of columns; craft checks the promise of each, the box, and those that are not mutable."""
        data, fresh = table(40, seed=1), table(60, seed=2)
        attack, aims = BackGradient(steps=8, step_rule=rule), aims_of(fresh)
        threat = replace(THREAT, budget=0.25)
        poison = crafted(attack, data=data, threat=threat, aims=aims)
        before = data.rows(poison.origins).inputs
        changed = (poison.rows.inputs != before).any(0).tolist()
        assert [each.mutable for each in COLUMNS] == changed  # every column that may be is used by some row
        assert torch.equal(poison.rows.inputs, data.space.quantise(poison.rows.inputs))
        start = begins_as(attack, data=data, threat=threat, aims=aims)
        assert harm(poison, data=data, aims=aims) > harm(start, data=data, aims=aims) + 0.05

    @pytest.mark.parametrize("perturbation", [Linf(radius=0.3), L2(radius=0.8), L2(radius=2.0)], ids=str)
    def test_tables_are_judged_as_they_are_released(self, perturbation):
        """Rounding to whole numbers may lead out of a radius; what is released then is what the trace speaks of."""
        data, aims = table(40, seed=1), aims_of(table(60, seed=2))
        for by in ("append", "replace"):
            threat = replace(THREAT, budget=0.25, perturbation=perturbation, rows=by)
            attack = BackGradient(steps=6)
            poison = crafted(attack, data=data, threat=threat, aims=aims)
            start = begins_as(attack, data=data, threat=threat, aims=aims)
            found = harm(poison, data=data, aims=aims)
            assert found > harm(start, data=data, aims=aims)
            assert found >= max(poison.trace["objective"]) - 1e-6

    def test_replaced_rows_keep_their_ids_and_move_no_further_than_allowed(self):
        data, aims = images(40, seed=1), aims_of(images(60, seed=2))
        threat = replace(THREAT, rows="replace", perturbation=Linf(radius=40 / 255))
        poison = crafted(BackGradient(steps=6), data=data, threat=threat, aims=aims)
        assert poison.origins is None
        assert set(poison.rows.ids.tolist()) < set(data.ids.tolist())
        clean = data.rows(poison.rows.ids)
        assert int((poison.rows.inputs.int() - clean.inputs.int()).abs().max()) == 40
        assert torch.equal(poison.rows.labels, 1 - clean.labels)
        start = begins_as(BackGradient(), data=data, threat=threat, aims=aims)
        assert harm(poison, data=data, aims=aims) > harm(start, data=data, aims=aims)

    @pytest.mark.parametrize("by", ["append", "replace"])
    def test_clean_labels_stay_clean(self, by):
        threat = replace(THREAT, labels="clean", rows=by)
        for labels in ("flip", "repick"):
            poison = crafted(BackGradient(steps=6, labels=labels), threat=threat)
            ids = poison.origins if by == "append" else poison.rows.ids
            assert torch.equal(poison.rows.labels, DATA.rows(ids).labels)
        assert harm(poison) > harm(begins_as(BackGradient(), threat=threat)) + 0.1

    def test_labels_of_several_classes_are_never_the_true_ones_and_not_always_the_same(self):
        data, learner = blobs(90, classes=5, dim=3), GradientDescent(loss="softmax", steps=10, lr=0.3)
        poison = crafted(BackGradient(steps=1), data=data, learner=learner, threat=replace(THREAT, budget=0.5))
        true = data.rows(poison.origins).labels
        offsets = ((poison.rows.labels - true) % 5).bincount(minlength=5).tolist()
        assert offsets[0] == 0
        assert min(offsets[1:]) > 3

    def test_a_column_that_is_always_zero_does_no_harm(self):
        bare = [replace(each, inputs=each.inputs * torch.tensor([1.0, 1.0, 0.0])) for each in (DATA, FRESH)]
        poison = crafted(BackGradient(steps=6), data=bare[0], aims=aims_of(bare[1]))
        assert torch.equal(poison.rows.inputs[:, 2], torch.zeros(6))
        zeros = [replace(each, inputs=torch.zeros_like(each.inputs)) for each in (DATA, FRESH)]
        poison = crafted(BackGradient(steps=3), data=zeros[0], aims=aims_of(zeros[1]))
        assert bool(torch.isfinite(poison.rows.inputs).all())

    @pytest.mark.parametrize("options", OPTIONS, ids=IDS)
    def test_a_training_that_diverges_gives_a_valid_poison(self, options):
        for lr in (1e3, 1e200):
            learner = GradientDescent(loss="squared", lr=lr, steps=60, l2=0.1)
            poison = crafted(BackGradient(**{"steps": 3, **options}), learner=learner)  # craft refuses NaN
            assert len(poison.rows) == 6
            assert all(np.isfinite(curve).all() for curve in poison.trace.values())


class TestSpecific:
    """Three clouds, of which the first is to be taken for the second."""

    DATA, FRESH, TEST = (
        blobs(count, classes=3, seed=seed, spread=0.9) for seed, count in ((1, 60), (2, 150), (3, 300))
    )
    LEARNER = GradientDescent(loss="softmax", steps=100, lr=0.5)
    THREAT = replace(THREAT, goal=Degrade(kind="specific", source=0, intended=1), origin="either-class")

    def confusion(self, poison):
        data = self.DATA if poison is None else poison.apply(self.DATA)
        called = predictions(self.LEARNER.fit(data, seed=Seed(1)).model, self.TEST.all_inputs()).argmax(1)
        return torch.stack(
            [(called[self.TEST.labels == k][:, None] == torch.arange(3)).double().mean(0) for k in range(3)]
        )

    def test_the_wanted_error_rises_and_others_less_than_half_as_much(self):
        aims = aims_of(self.FRESH, source=0, wanted=1)
        poison = crafted(BackGradient(steps=15), data=self.DATA, threat=self.THREAT, aims=aims, learner=self.LEARNER)
        before, after = self.confusion(None), self.confusion(poison)
        wanted = float(after[0, 1] - before[0, 1])
        others = float((1 - after[1:].diagonal(offset=1)).mean() - (1 - before[1:].diagonal(offset=1)).mean())
        assert wanted > 0.3
        assert others < wanted / 2
        flips = crafted(RANDOM, data=self.DATA, threat=self.THREAT, aims=aims)
        assert wanted > float(self.confusion(flips)[0, 1] - before[0, 1]) + 0.1

    def test_the_two_classes_are_swapped(self):
        aims = aims_of(self.FRESH, source=0, wanted=1)
        for origin, swapped in (("either-class", {0: 1, 1: 0}), ("random-subset", {0: 1, 1: 0, 2: 1})):
            threat = replace(self.THREAT, origin=origin)
            poison = crafted(BackGradient(steps=1), data=self.DATA, threat=threat, aims=aims, learner=self.LEARNER)
            pairs = zip(self.DATA.rows(poison.origins).labels.tolist(), poison.rows.labels.tolist(), strict=True)
            assert dict(pairs) == swapped


def table(count, *, seed):
    """Rows of every kind of column, of which some tell the two classes apart, normalised by their own statistics."""
    data = rows(count, seed=seed)
    inputs = data.inputs.clone()
    inputs[:, 0] = torch.where(data.labels == 1, 40 + inputs[:, 0] / 2, inputs[:, 0] / 2 + 17).round()
    inputs[:, 5] = torch.where(torch.arange(count) % 5 < 4, data.labels.float(), 1 - data.labels.float())
    mean, std = channel_statistics(inputs, TABLE)
    space = replace(TABLE, mean=mean, std=std)
    return Dataset.of(space.quantise(inputs), data.labels, space=space)


def test_more_budget_does_more_harm_on_average():
    found = []
    for budget in (0.05, 0.15, 0.4):
        threat = replace(THREAT, budget=budget)
        found.append(np.mean([harm(crafted(BackGradient(steps=6), threat=threat, seed=k), seed=k) for k in range(3)]))
    assert found == sorted(found)
    assert found[2] > found[0] + 0.2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, but it is 0"),
        ({"passes": 0}, "passes must be at least 1, but it is 0"),
        ({"networks": 0}, "networks must be at least 1, but it is 0"),
        ({"surrogate": -1}, "surrogate must be at least 0, but it is -1"),
        ({"patience": -1}, "patience must be at least 0, but it is -1"),
        ({"step_size": 0.0}, "step_size must be positive, but it is 0"),
        ({"step_size": float("nan")}, "step_size must be positive, but it is nan"),
        ({"last": 0}, "last must be at least 1 step"),
    ],
    ids=str,
)
def test_wrong_settings_are_a_sentence_each(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BackGradient(**settings)


@pytest.mark.parametrize(
    ("learner", "what"),
    [
        (protect(LEARNER, [Mixup()]), "a defense around it"),
        (protect(SGD(model=Linear()), [Mixup()]), "a defense around it"),
        (Cached(learner=protect(LEARNER, [Mixup()]), folder=Path("nowhere")), "a defense around it"),
        (Cached(learner=Estimator(estimator="knn"), folder=Path("nowhere")), "'sklearn'"),
        (protect(Estimator(estimator="knn"), [Mixup()]), "'sklearn'"),
    ],
    ids=["defended", "defended sgd", "defended and remembered", "sklearn remembered", "sklearn defended"],
)
def test_a_surrogate_that_cannot_be_differentiated_is_a_sentence(learner, what):
    with pytest.raises(ConfigError, match=f"differentiates the training of its surrogate, which {what} does not allow"):
        crafted(BackGradient(), learner=learner)


def test_it_crafts_with_the_surrogate_that_is_named():
    learners = [Estimator(estimator="knn"), LEARNER]
    how = {"threat": THREAT, "aims": aims_of(FRESH), "surrogates": learners, "seed": Seed(1)}
    found = craft(BackGradient(surrogate=1, steps=2), DATA, **how)
    assert found.rows.digest() == crafted(BackGradient(steps=2)).rows.digest()
    with pytest.raises(ConfigError, match=r"surrogate 2 is asked for, but there are 2 \(from 0\)"):
        craft(BackGradient(surrogate=2), DATA, **how)


def test_starts_that_do_not_go_with_the_threat_are_a_sentence():
    attack = BackGradient(start="validation", steps=1)
    for threat in (
        replace(THREAT, rows="replace"),
        replace(THREAT, labels="clean"),
        replace(THREAT, perturbation=Linf()),
    ):
        with pytest.raises(ConfigError, match="start: validation copies rows that are not in the training set"):
            crafted(attack, threat=threat)
    with pytest.raises(ConfigError, match="columns that are all mutable; use start: train"):
        crafted(attack, data=table(40, seed=1), aims=aims_of(table(60, seed=2)))
    for start in ("train", "loss"):
        threat = replace(THREAT, goal=Degrade(kind="specific"), budget=0.9, origin="self-betrayal")
        with pytest.raises(ThreatModelError, match="asks for 27 rows, but only 15 rows may be poisoned"):
            crafted(BackGradient(start=start), threat=threat, aims=aims_of(FRESH, source=0, wanted=1))


def test_it_reports_every_step():
    seen, threat = [], replace(THREAT, budget=2 / 30)
    for attack in (BackGradient(steps=2), BackGradient(steps=1, schedule="passes")):
        how = {"threat": threat, "aims": aims_of(FRESH), "surrogates": [LEARNER], "seed": Seed(1)}
        craft(attack, DATA, **how, watch=seen.append)
    rows = [f"crafting row {row} of 2, pass {turn}" for turn in (1, 2) for row in (1, 2)]
    assert [(each.stage, each.done, each.total) for each in seen] == [
        ("crafting", 1, 2),
        ("crafting", 2, 2),
        *((stage, 1, 1) for stage in rows),
    ]
    assert all(each.values["objective"] > 0 for each in seen)
