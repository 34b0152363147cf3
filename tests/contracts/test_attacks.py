"""Every attack in the registry keeps every promise; and the checks catch attacks that break them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from mithridate import registry
from mithridate.attack import Attack
from mithridate.errors import ThreatModelError
from mithridate.goal import Misclassify
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.seeding import Seed
from mithridate.testing import ATTACK_CHECKS, bench_of, check_attack, toy_bench
from mithridate.trial import noise_control
from mithridate.watch import silent

QUICK = {
    "gradient-matching": {"steps": 30, "restarts": 1},
    "convex-polytope": {"steps": 60},
    "bullseye-polytope": {"steps": 60},
    "feature-collision": {"steps": 40},
    "back-gradient": {"steps": 5},
    "loss-flips": {"rounds": 2},
}
"""Settings with which an attack is done in a tenth of a second; its defaults where it is not here."""

MAKERS = sorted(set(registry.KINDS[Attack]) - {"given"})
"""Attacks that make poison: what is only given to be judged promises nothing (tests/attacks/test_given.py)."""


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("promise", ATTACK_CHECKS)
def test_every_attack_keeps_its_promises(name, promise):
    attack = registry.kind(Attack, name)(**QUICK.get(name, {}))
    ATTACK_CHECKS[promise](attack, _bench_of(attack, name))


@pytest.mark.parametrize("name", MAKERS)
def test_every_goal_of_an_attack_can_be_pursued(name):
    attack = registry.kind(Attack, name)(**QUICK.get(name, {}))
    for goal in attack.goals:
        alone = _bench_of(_with_goals(attack, (goal,)), name)
        ATTACK_CHECKS["beats noise"](attack, alone)


def _with_goals(attack, goals):
    shared = {each: getattr(attack, each) for each in ("name", "rows", "needs_dirty_labels")}
    return type("Other", (), {"goals": goals, **shared})()


def _bench_of(attack, name):
    """The bench of an attack; with a learner that is quick to differentiate for the one that does so."""
    bench = bench_of(attack)
    return replace(bench, learner=DENSE) if name == "back-gradient" else bench


DENSE = GradientDescent(loss="softmax", steps=60, lr=0.2)


@dataclass(frozen=True, kw_only=True)
class Broken(Attack):
    """Noise that breaks one promise, as told."""

    name: ClassVar[str] = "broken"
    goals: ClassVar = (Misclassify,)
    needs_surrogate: ClassVar[bool] = False

    how: str

    def craft(self, data, threat, *, aims, surrogates, seed, watch=silent):
        if self.how == "global randomness":
            torch.rand(1)
        if self.how == "numpy":
            np.random.rand()  # noqa: NPY002
        if self.how == "aims":
            aims.inputs.add_(0.1)
        if self.how == "data":
            data.inputs[0] += 1
        seed = Seed(int(torch.randint(1000, (1,)))) if self.how == "unseeded" else seed
        wider = replace(threat, perturbation=replace(threat.perturbation, radius=0.5)) if self.how == "far" else threat
        ids = threat.pick(data, aims, seed.child("pick"))
        return noise_control(data, threat=wider, ids=ids, seed=seed)


@pytest.mark.parametrize(
    ("how", "promise", "sentence"),
    [
        ("unseeded", "same seed, same poison", "two poisons from one seed"),
        ("no target", "the target matters", "ignores its target"),
        ("global randomness", "leaves everything alone", "torch's global random state"),
        ("numpy", "leaves everything alone", "NumPy's global random state"),
        ("aims", "leaves everything alone", "inputs of its aims"),
        ("data", "leaves everything alone", "writes into its data"),
        ("just noise", "beats noise", "no better than noise"),
        ("no source", "cites its paper", "cites no paper"),
    ],
)
def test_a_broken_promise_is_found(how, promise, sentence):
    with pytest.raises(AssertionError, match=sentence):
        ATTACK_CHECKS[promise](Broken(how=how), toy_bench())


def test_a_poison_beyond_the_radius_never_leaves_craft():
    with pytest.raises(ThreatModelError, match="exceeds the allowed change"):
        check_attack(Broken(how="far"))
