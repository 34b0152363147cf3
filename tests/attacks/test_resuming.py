"""Crafting that is interrupted after any step and begun again makes the same poison, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from torch import nn

from mithridate.attack import craft
from mithridate.attacks.back_gradient import BackGradient
from mithridate.attacks.bullseye_polytope import BullseyePolytope
from mithridate.attacks.convex_polytope import ConvexPolytope
from mithridate.attacks.feature_collision import FeatureCollision
from mithridate.attacks.gradient_matching import GradientMatching, _Surrogate
from mithridate.goal import Degrade, Misclassify
from mithridate.learners.augment import Augmentation
from mithridate.learners.cached import Cached
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Stack
from mithridate.models.mlp import MLP
from mithridate.notes import Notes
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.testing.resuming import Interruption, crafted_with_stops
from mithridate.threat import Linf, ThreatModel

DATA, TEST = toy(48, seed=1, side=6), toy(24, seed=2, side=6)
NET = SGD(model=MLP(hidden=(8,)), epochs=2, batch_size=16, lr=0.05, augmentation=Augmentation(shift=1.0))
DENSE = GradientDescent(loss="softmax", steps=15, lr=0.2)
CHANGED = ThreatModel(goal=Misclassify(target=0, intended=1), budget=0.1, perturbation=Linf(radius=32 / 255))
FLIPPED = replace(CHANGED, labels="dirty", rows="append", goal=Degrade())
MANY = replace(FLIPPED, budget=0.3)


@dataclass(frozen=True, kw_only=True)
class Dropping(Architecture):
    """A perceptron with dropout."""

    name: ClassVar[str] = "dropping"

    def build(self, space):
        flat = space.shape[0] * space.shape[1] * space.shape[2]
        body = nn.Sequential(nn.Flatten(), nn.Linear(flat, 8), nn.ReLU(), nn.Dropout(0.3))
        return Stack(space, body=body, width=8)


GM = GradientMatching(steps=4, restarts=1)
BG = BackGradient(steps=3)
CASES = {
    "restarts": (replace(GM, steps=8, restarts=2), (NET,), CHANGED),
    "halved restarts": (replace(GM, steps=8, restarts=4, halving=True), (NET,), CHANGED),
    "momentum, full data": (replace(GM, optimiser="momentum", full_data=True), (NET,), CHANGED),
    "plain signed steps": (replace(GM, optimiser="pgd", init="rand"), (NET, NET), CHANGED),
    "surrogates trained again": (replace(GM, steps=6, retrain_every=2, restarts=2), (NET, NET), CHANGED),
    "convex polytope, dropout": (ConvexPolytope(steps=6), (replace(NET, model=Dropping()), NET), CHANGED),
    "bullseye, signed": (BullseyePolytope(steps=5, optimiser="signed-adam"), (NET,), CHANGED),
    "bullseye, sgd": (BullseyePolytope(steps=5, optimiser="sgd"), (NET,), CHANGED),
    "collision, dropout": (FeatureCollision(steps=8, step_size=30.0), (replace(NET, model=Dropping()),), CHANGED),
    "collision, done early": (FeatureCollision(steps=60, tolerance=0.1), (NET,), CHANGED),
    "rows together": (replace(BG, steps=6), (DENSE,), FLIPPED),
    "line search": (replace(BG, steps=6, step_rule="line-search"), (DENSE,), FLIPPED),
    "patience": (replace(BG, steps=20, patience=3, step_size=5.0, step_rule="constant"), (DENSE,), MANY),
    "rows added": (replace(BG, schedule="greedy"), (DENSE,), FLIPPED),
    "rows replaced one by one": (replace(BG, schedule="greedy"), (DENSE,), replace(FLIPPED, rows="replace")),
    "rows by turns": (replace(BG, schedule="passes", labels="repick", step_rule="constant"), (DENSE,), FLIPPED),
    "drift": (replace(BG, method="approximate-reversal"), (replace(DENSE, momentum=0.5),), FLIPPED),
}


def crafting(name, folder):
    """What crafts in this case; its surrogates are remembered, as they are in a campaign."""
    attack, learners, threat = CASES[name]
    goal = threat.goal.draw(DATA, TEST, Seed(2), validation=TEST)
    crew = learners if isinstance(attack, BackGradient) else [Cached(learner=each, folder=folder) for each in learners]

    def crafted(watch, notes):
        more = {"surrogates": crew, "seed": Seed(1), "watch": watch, "notes": notes}
        return craft(attack, DATA, threat=threat, aims=goal.known, **more)

    return crafted


def same(one, two):
    return one.rows.digest() == two.rows.digest() and one.trace == two.trace


@pytest.mark.parametrize("name", CASES)
def test_after_any_step(tmp_path, name):
    crafted, steps = crafting(name, tmp_path), []
    whole = crafted(steps.append, Notes(None))
    own = [each for each in steps if each.stage.startswith("crafting")]
    assert len({(each.stage, each.done) for each in own}) == len(own) > 2 or "collision" in name
    for place in sorted({0, 1, 2, len(own) // 2, len(own) - 2, len(own) - 1}):
        found, again = crafted_with_stops(crafted, [own[place]])
        assert same(whole, found)
        left = [each for each in again if each.stage.startswith("crafting")]
        assert len(left) <= len(own) - place


@pytest.mark.parametrize("name", CASES)
def test_after_two_interruptions(tmp_path, name):
    crafted, steps = crafting(name, tmp_path), []
    whole = crafted(steps.append, Notes(None))
    own = [each for each in steps if each.stage.startswith("crafting")]
    found, _ = crafted_with_stops(crafted, [own[0], own[len(own) // 2], own[-1]])
    assert same(whole, found)


@pytest.mark.parametrize("where", ["augmentation", "scoring", "training again"])
def test_wherever_it_is_interrupted(tmp_path, monkeypatch, where):
    """Not only where it reports: in the midst of a step, of comparing restarts, or of training a surrogate."""
    place = {
        "augmentation": (SGD, "augment"),
        "scoring": (_Surrogate, "objective"),
        "training again": (SGD, "train"),
    }
    crafted = crafting("surrogates trained again", tmp_path / "one")
    whole, total = crafted(lambda step: None, Notes(None)), counted(monkeypatch, *place[where])
    crafted = crafting("surrogates trained again", tmp_path / "other")
    crafted(lambda step: None, Notes(None))
    calls = total[0]
    for stop in sorted({1, calls // 3, calls // 2, calls - 1, calls}):
        crafted = crafting("surrogates trained again", tmp_path / f"stopped {stop}")
        total[0], total[1] = 0, stop
        with pytest.raises(Interruption):
            crafted(lambda step: None, Notes(tmp_path / "note", every=0))
        total[1] = -1
        assert same(whole, crafted(lambda step: None, Notes(tmp_path / "note", every=0)))
        (tmp_path / "note").unlink(missing_ok=True)


def counted(monkeypatch, kind, name):
    """How often a method was called, and the call at which it raises."""
    calls, method = [0, -1], getattr(kind, name)

    def counting(self, *args, **kwargs):
        calls[0] += 1
        if calls[0] == calls[1]:
            raise Interruption
        return method(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, counting)
    return calls


def test_notes_of_surrogates_trained_again_find_them(tmp_path):
    """What the note leaves out is in the memory of the learners: nothing is trained twice."""
    crafted, steps = crafting("surrogates trained again", tmp_path), []
    crafted(steps.append, Notes(None))
    stop = [each for each in steps if each.stage.startswith("crafting")][7]
    _, again = crafted_with_stops(crafted, [stop])
    assert all(each.done == each.total for each in again if each.stage.startswith("surrogate"))
