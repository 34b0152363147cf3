"""Every learner in the registry keeps every promise; and the checks catch learners that break them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mithridate import registry
from mithridate.learner import Learner
from mithridate.learners.augment import Augmentation
from mithridate.learners.cached import Cached
from mithridate.learners.estimator import Estimator
from mithridate.learners.fast import Fast
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.recipes import CLASSICAL, RECIPES, recipe
from mithridate.learners.sgd import SGD
from mithridate.models.fastnet import FastNet
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from mithridate.testing import LEARNER_CHECKS, check_learner, toy

NET = SmallConvNet(widths=(4, 6))
QUICK = {
    "sgd": SGD(model=NET, epochs=6, batch_size=16, lr=0.05, schedule="one-cycle"),
    "fast": Fast(model=FastNet(widths=(6, 8)), epochs=6),
    "gradient-descent": GradientDescent(loss="softmax", hidden=5, steps=60, lr=0.5),
    "sklearn": Estimator(estimator="random-forest", parameters={"n_estimators": 8}),
}
"""A small instance of every learner, since a learner needs a model."""


@pytest.mark.parametrize("name", sorted(registry.KINDS[Learner]))
@pytest.mark.parametrize("promise", LEARNER_CHECKS)
def test_every_learner_keeps_its_promises(name, promise):
    assert name in QUICK, f"add a small '{name}' to QUICK"
    assert type(QUICK[name]) is registry.kind(Learner, name)
    LEARNER_CHECKS[promise](QUICK[name], toy(120, seed=1))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_keeps_its_promises(name):
    rate = {"lr": 1e-3} if "fine-tune" in name else {}  # from scratch, its own rate gets nowhere in six epochs
    check_learner(recipe(name, model=NET, epochs=6, batch_size=16, drops=(4,), **rate), data=toy(120, seed=1))


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_every_classical_recipe_keeps_its_promises(name):
    data = toy(120, seed=1)
    two = replace(data.at(data.labels < 2), space=replace(data.space, num_classes=2))
    check_learner(recipe(name), data=two)


@pytest.mark.parametrize(
    "learner",
    [
        SGD(model=MLP(hidden=(8,)), epochs=3, augmentation=None, batch_size=16),
        SGD(model=NET, epochs=6, batch_size=16, augmentation=Augmentation(shift=1, mode="integer", cutout=0.3)),
        SGD(
            model=NET,
            epochs=6,
            batch_size=16,
            augmentation=Augmentation(shift=1, flip=False),
            precision="bf16",
            channels_last=True,
        ),
    ],
    ids=["perceptron", "integer shifts and holes", "bf16 channels-last"],
)
def test_the_choices_of_sgd_keep_its_promises(learner):
    check_learner(learner, data=toy(120, seed=1))


def test_a_cached_learner_keeps_its_promises_once_it_knows_the_network(tmp_path):
    cached = Cached(learner=QUICK["sgd"], folder=tmp_path)
    for promise, check in LEARNER_CHECKS.items():
        if promise != "reports every epoch":  # a network found is one item
            check(cached, toy(120, seed=1))


class Broken(Learner):
    """SGD that breaks one promise, as told."""

    name = "broken"

    def __init__(self, how):
        self.how = how

    def __repr__(self):
        return f"broken ({self.how})"

    def build(self, space, seed):
        return QUICK["sgd"].build(space, Seed(0) if self.how == "one start" else seed)

    @property
    def seeded(self):
        return self.how != "denies its seed"

    def augment(self, inputs, *, space, generator):
        return inputs.detach() + 0 * inputs if self.how == "detached" else inputs

    def train(self, data, *, seed, hooks=(), resume=None):
        for progress in QUICK["sgd"].train(data, seed=seed):
            if self.how == "global randomness":
                torch.rand(1)
            if self.how == "unseeded":
                next(progress.model.parameters()).data += torch.rand(1) * 1e-3
            if self.how == "learns nothing":
                next(progress.model.parameters()).data.zero_()
            yield progress


@pytest.mark.parametrize(
    ("how", "promise", "sentence"),
    [
        ("unseeded", "same seed, same weights", "two networks from one seed"),
        ("one start", "other seed, other weights", "starts with the same weights from two seeds, but seeded is True"),
        ("denies its seed", "other seed, other weights", "with other weights from two seeds, but seeded is False"),
        ("learns nothing", "the loss falls", "ends with a loss of"),
        ("global randomness", "leaves everything alone", "torch's global random state"),
        ("detached", "augmentation is differentiable", "stops gradients"),
    ],
)
def test_a_broken_promise_is_found(how, promise, sentence):
    with pytest.raises(AssertionError, match=sentence):
        LEARNER_CHECKS[promise](Broken(how), toy(120, seed=1))
