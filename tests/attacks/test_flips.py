"""Label flips: random ones are what they say, and those chosen by loss are those of the alternation written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mithridate.attack import craft
from mithridate.attack import problems as attack_problems
from mithridate.attacks.loss_flips import LossFlips
from mithridate.attacks.random_flips import RandomFlips
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.flipping import flipped
from mithridate.goal import Aims, Degrade
from mithridate.learner import predictions
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.poison import FIRST_APPENDED
from mithridate.seeding import Seed
from mithridate.threat import Linf
from tests.attacks.degrading import DATA, FRESH, LEARNER, THREAT, crafted, error, harm
from tests.learners.blobs import aims_of, blobs

REPLACE = replace(THREAT, rows="replace")
SOFTMAX = GradientDescent(loss="softmax", steps=40, lr=0.3)
ATTACKS = [RandomFlips(), LossFlips(rounds=3)]
MANY = blobs(60, classes=5, spread=1.2, dim=3)


def known_as(attack):
    return attack.name


@pytest.mark.parametrize("attack", ATTACKS, ids=known_as)
class TestBoth:
    @pytest.mark.parametrize(("budget", "count"), [(0.01, 1), (0.1, 3), (0.11, 4), (1.0, 30)])
    def test_as_many_rows_as_the_budget_pays_for_have_another_label(self, attack, budget, count):
        poison = crafted(attack, threat=replace(REPLACE, budget=budget))
        clean = DATA.rows(poison.rows.ids)
        assert len(poison.rows) == count
        assert torch.equal(poison.rows.inputs, clean.inputs)
        assert torch.equal(poison.rows.labels, 1 - clean.labels)
        assert poison.origins is None

    def test_appended_rows_are_copies_that_say_of_what(self, attack):
        poison = crafted(attack)
        clean = DATA.rows(poison.origins)
        assert poison.rows.ids.tolist() == list(range(FIRST_APPENDED, FIRST_APPENDED + 6))
        assert len(set(poison.origins.tolist())) == 6
        assert torch.equal(poison.rows.inputs, clean.inputs)
        assert torch.equal(poison.rows.labels, 1 - clean.labels)
        assert len(poison.apply(DATA)) == 36

    def test_of_several_classes_any_other_one_is_given(self, attack):
        poison = crafted(attack, data=MANY, threat=replace(REPLACE, budget=1.0), learner=SOFTMAX)
        offsets = ((poison.rows.labels - MANY.rows(poison.rows.ids).labels) % 5).bincount(minlength=5).tolist()
        assert offsets[0] == 0
        assert min(offsets[1:]) > 4

    @pytest.mark.parametrize("origin", ["either-class", "random-subset", "self-betrayal"])
    def test_what_is_wanted_is_swapped(self, attack, origin):
        """Rows of class 2 are to be called 4."""
        aims, threat = aims_of(MANY, source=2, wanted=4), replace(REPLACE, goal=Degrade(kind="specific"), origin=origin)
        poison = crafted(attack, data=MANY, threat=threat, aims=aims, learner=SOFTMAX)
        pairs = list(zip(MANY.rows(poison.rows.ids).labels.tolist(), poison.rows.labels.tolist(), strict=True))
        expected = {0: 4, 1: 4, 2: 4, 3: 4, 4: 2}
        assert all(expected[true] == given for true, given in pairs)
        if origin == "self-betrayal":
            assert set(pairs) == {(2, 4)}

    def test_small_changes_are_no_matter(self, attack):
        poison = crafted(attack, threat=replace(REPLACE, perturbation=Linf(radius=0.001)))
        assert torch.equal(poison.rows.inputs, DATA.rows(poison.rows.ids).inputs)

    def test_the_order_of_the_data_is_no_matter(self, attack):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
        one, two = (crafted(attack, data=each, learner=SOFTMAX) for each in (MANY, MANY.at(order)))
        assert torch.equal(one.origins, two.origins)
        assert torch.equal(one.rows.labels, two.rows.labels)

    def test_fixed_rows_are_those_flipped(self, attack):
        poison = crafted(attack, threat=replace(REPLACE, base_ids=(4, 20, 9)))
        assert sorted(poison.rows.ids.tolist()) == [4, 9, 20]

    def test_clean_labels_are_refused(self, attack):
        threat = replace(THREAT, labels="clean")
        assert attack_problems(attack, threat, surrogates=[LEARNER]) == [
            f"{attack.name} changes labels, but the threat model says clean labels; set threat.labels: dirty"
        ]

    def test_too_few_rows_is_a_sentence(self, attack):
        threat = replace(THREAT, goal=Degrade(kind="specific"), budget=0.9, origin="self-betrayal")
        with pytest.raises(ThreatModelError, match="asks for 27 rows, but only 15 rows may be poisoned"):
            crafted(attack, threat=threat, aims=aims_of(FRESH, source=0, wanted=1))


class TestSwaps:
    """Labels under aims at several classes, as targeted attacks have them."""

    @pytest.mark.parametrize(
        ("true", "wanted", "expected"),
        [
            ([1], [3], [3, 3, 3, 1, 3]),
            ([1, 0], [3, 2], [2, 3, 0, 1, 3]),  # each pair is swapped, the rest is called what the first aim wants
            ([1, 3], [3, 1], [3, 3, 3, 1, 3]),
            ([1, 3], [3, 4], [3, 3, 3, 4, 3]),  # what a class is to be taken for goes before what is taken for it
            ([1, 1], [3, 4], [3, 3, 3, 1, 1]),
        ],
    )
    def test_follow_the_pairs(self, true, wanted, expected):
        found = flipped(torch.arange(5), aims(true, wanted), MANY, Seed(1))
        assert found.tolist() == expected
        assert bool((found != torch.arange(5)).all())


def aims(true, wanted):
    return Aims(inputs=torch.zeros(len(true), 3), labels=torch.tensor(true), wanted=torch.tensor(wanted))


class TestRandomFlips:
    def test_are_other_ones_under_another_seed(self):
        chosen = {tuple(crafted(RandomFlips(), seed=k).origins.tolist()) for k in range(5)}
        assert len(chosen) == 5

    def test_need_no_surrogate(self):
        how = {"threat": THREAT, "aims": aims_of(FRESH), "seed": Seed(1)}
        assert craft(RandomFlips(), DATA, **how).rows.digest() == crafted(RandomFlips()).rows.digest()

    def test_may_copy_validation_rows(self):
        poison = crafted(RandomFlips(start="validation"), threat=replace(THREAT, budget=1.0))
        assert poison.origins is None
        matches = (poison.rows.inputs[:, None] == FRESH.inputs).all(2)
        assert bool(matches.any(1).all())
        assert torch.equal(poison.rows.labels, 1 - FRESH.labels[matches.int().argmax(1)])
        assert len(poison.rows) == 30
        with pytest.raises(ConfigError, match="needs rows: append"):
            crafted(RandomFlips(start="validation"), threat=REPLACE)

    def test_do_harm(self):
        clean = error(crafted(RandomFlips(), threat=replace(THREAT, budget=0.0)))
        flips = np.mean([error(crafted(RandomFlips(), threat=replace(REPLACE, budget=0.4), seed=k)) for k in range(5)])
        assert flips > clean + 0.03


def written_out(attack, data, aims, *, count, append, seed):
    """The alternation, row by row and choice by choice: the ids of the best set of flips, and its objectives."""

    def trained(flips):
        labels = data.labels.clone()
        inputs, ids = data.inputs, data.ids
        for row in flips:
            labels[row] = 1 - labels[row]
        if append:
            labels = torch.cat([data.labels, 1 - data.labels[flips]])
            inputs = torch.cat([inputs, inputs[flips]])
            ids = torch.arange(len(labels))
        rows = replace(data, inputs=inputs, labels=labels, ids=ids)
        return LEARNER.fit(rows, seed=seed).model

    def loss(model, row, label):
        likely = predictions(model, data.inputs[row : row + 1]).softmax(1)
        return -float(likely[0, label].log())

    def rise(model, row):
        true = int(data.labels[row])
        return loss(model, row, 1 - true) - loss(model, row, true)

    clean = LEARNER.fit(data, seed=seed).model
    before, gains = [rise(clean, row) for row in range(len(data))], None
    gains, seen, curve = before, [], []
    for _ in range(attack.rounds):
        flips = sorted(sorted(range(len(data)), key=lambda row: -gains[row])[:count])
        if seen and flips == seen[-1]:
            break
        model = trained(flips)
        seen.append(flips)
        curve.append(float(functional.cross_entropy(predictions(model, aims.inputs), aims.labels)))
        gains = [old - rise(model, row) for row, old in enumerate(before)]
    return data.ids[seen[int(np.argmax(curve))]].tolist(), curve


class TestLossFlips:
    @pytest.mark.parametrize("by", ["append", "replace"])
    @pytest.mark.parametrize("spread", [1.2, 2.5])
    def test_are_those_of_the_alternation_written_out(self, by, spread):
        data, valid, attack = blobs(16, seed=3, spread=spread), aims_of(blobs(30, seed=4, spread=spread)), LossFlips()
        ids, curve = written_out(attack, data, valid, count=4, append=by == "append", seed=Seed(1))
        poison = crafted(attack, data=data, aims=valid, threat=replace(THREAT, budget=0.25, rows=by))
        assert (poison.origins if by == "append" else poison.rows.ids).tolist() == ids
        assert poison.trace["objective"] == pytest.approx(curve, rel=1e-6)

    def test_one_round_flips_what_a_clean_model_finds_least_likely(self):
        model = LEARNER.fit(DATA, seed=Seed(7)).model
        margins = predictions(model, DATA.inputs).diff(dim=1)[:, 0] * (2 * DATA.labels - 1)
        poison = crafted(LossFlips(rounds=1))
        assert poison.origins.tolist() == sorted(margins.argsort(descending=True)[:6].tolist())
        assert len(poison.trace["objective"]) == 1

    def test_more_rounds_are_never_worse_for_the_attacker(self):
        for seed in range(4):
            data, valid = blobs(30, seed=seed, spread=2.0), aims_of(blobs(60, seed=seed + 50, spread=2.0))
            found = [harm(crafted(LossFlips(rounds=k), data=data, aims=valid), data=data, aims=valid) for k in (1, 5)]
            assert found[1] >= found[0] - 1e-9

    def test_do_more_harm_than_random_ones_on_average(self):
        found = []
        threat = replace(THREAT, budget=0.3)
        for seed in range(10):
            data, valid = blobs(30, seed=seed, spread=1.5), aims_of(blobs(100, seed=seed + 50, spread=1.5))
            test = blobs(300, seed=99, spread=1.5)
            poisons = [crafted(each, data=data, threat=threat, aims=valid, seed=seed) for each in ATTACKS]
            found.append([error(each, data=data, test=test) for each in poisons])
        random, chosen = np.mean(found, axis=0)
        assert chosen > random + 0.02

    def test_serve_what_is_wanted(self):
        """Of three classes, class 0 is to be called 1: more often than after random swaps of the two."""
        data, valid = blobs(60, classes=3, spread=1.5), blobs(150, classes=3, spread=1.5, seed=8)
        goal, threat = aims_of(valid, source=0, wanted=1), replace(THREAT, goal=Degrade(kind="specific"))
        threat = replace(threat, origin="self-betrayal", budget=0.15)
        test, found = blobs(300, classes=3, spread=1.5, seed=9), []
        for attack in (RandomFlips(), LossFlips()):
            poisons = [crafted(attack, data=data, threat=threat, aims=goal, learner=SOFTMAX, seed=k) for k in range(4)]
            found.append(np.mean([called(each, data, test, 0, 1) for each in poisons]))
        assert found[1] > found[0] + 0.05
        best = max(poisons[0].trace["objective"])
        assert best == pytest.approx(harm(poisons[0], data=data, aims=goal, learner=SOFTMAX), rel=1e-6)
        assert best < 0

    def test_report_each_round(self):
        seen = []
        how = {"threat": THREAT, "aims": aims_of(FRESH), "surrogates": [LEARNER], "seed": Seed(1)}
        poison = craft(LossFlips(rounds=2), DATA, **how, watch=seen.append)
        assert [(each.done, each.total) for each in seen] == [(1, 2), (2, 2)][: len(seen)]
        assert tuple(each.values["objective"] for each in seen) == poison.trace["objective"]

    @pytest.mark.parametrize("settings", [{"rounds": 0}, {"surrogate": -1}], ids=str)
    def test_wrong_settings_are_a_sentence(self, settings):
        with pytest.raises(ConfigError, match="must be at least"):
            LossFlips(**settings)

    def test_choose_with_the_surrogate_that_is_named(self):
        learners = [replace(LEARNER, hidden=3, initial=2.0), LEARNER]
        how = {"threat": THREAT, "aims": aims_of(FRESH), "surrogates": learners, "seed": Seed(1)}
        found = craft(LossFlips(surrogate=1), DATA, **how)
        assert found.rows.digest() == crafted(LossFlips()).rows.digest()
        with pytest.raises(ConfigError, match=r"surrogate 2 is asked for, but there are 2 \(from 0\)"):
            craft(LossFlips(surrogate=2), DATA, **how)


def called(poison, data, test, source, wanted):
    """Share of the test rows of a class that a victim calls another."""
    rows = test.at(test.labels == source)
    logits = predictions(SOFTMAX.fit(poison.apply(data), seed=Seed(5)).model, rows.inputs)
    return float((logits.argmax(1) == wanted).double().mean())
