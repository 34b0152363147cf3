"""The bilevel problem of SGD is the training that SGD does: same batches, same rates, same loss after it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mithridate.attack import craft
from mithridate.attacks.back_gradient import BackGradient
from mithridate.attacks.random_flips import RandomFlips
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.goal import Degrade
from mithridate.learner import predictions
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.learners.start import Transfer
from mithridate.learners.weights import Own
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.threat import ThreatModel, Unbounded

DATA, FRESH = toy(33, seed=1), toy(60, seed=2)
LEARNER = SGD(
    model=MLP(hidden=(8,)), epochs=4, batch_size=16, lr=0.1, schedule="one-cycle", weight_decay=0.01, augmentation=None
)
AIMS = Degrade().draw(DATA, FRESH, Seed(0), validation=FRESH).known
WRONG = Degrade(kind="specific", source=0, intended=1).draw(DATA, FRESH, Seed(0), validation=FRESH).known
POISON = toy(4, seed=5)
LABELS = (POISON.labels + 1) % 3


def fitted_loss(learner, inputs, labels, aims):
    """What the attacker wants to move, after the victim's own training; the poison comes last."""
    ids = FIRST_APPENDED + torch.arange(len(labels))
    rows = Dataset(inputs=DATA.space.encode(inputs), labels=labels, ids=ids, space=DATA.space)
    data = replace(DATA, inputs=DATA.all_inputs(), space=replace(DATA.space, levels=None))
    rows = replace(rows, inputs=inputs.float(), space=data.space)
    model = learner.fit(Poison(rows=rows).apply(data), seed=Seed(3)).model
    wanted = aims.labels if aims.wanted is None else aims.wanted
    return float(functional.cross_entropy(predictions(model, aims.seen()), wanted))


@pytest.mark.parametrize("aims", [AIMS, WRONG], ids=["generic", "specific"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"momentum": 0.0, "nesterov": False},
        {"schedule": "steps", "drops": (2,)},
        {"batch_size": 64},
        {"batch_size": 9},
    ],
    ids=str,
)
def test_its_value_is_the_loss_after_the_training_itself(change, aims):
    learner = replace(LEARNER, **change)
    problem = learner.bilevel(DATA, aims, seed=Seed(3))
    inputs = POISON.all_inputs()
    for count in (0, 1, 4):
        said = problem.value(inputs[:count].double(), LABELS[:count])
        assert said == pytest.approx(fitted_loss(learner, inputs[:count], LABELS[:count], aims), abs=1e-5)
    assert problem.steering(inputs.double(), LABELS).value == pytest.approx(said, abs=1e-6)


@pytest.mark.parametrize("method", ["stored", "checkpointed"])
def test_its_slope_is_that_of_the_training_itself(method):
    """Of a linear network: no kinks for differences to step over. Others are tested in float64 in tests/ops."""
    learner = replace(LEARNER, model=Linear())
    inputs = 0.25 + 0.5 * POISON.all_inputs()
    found = learner.bilevel(DATA, AIMS, seed=Seed(3)).steering(inputs.double(), LABELS, method=method, by_labels=True)
    along = found.inputs / found.inputs.norm()
    up, down = (fitted_loss(learner, inputs + h * along.float(), LABELS, AIMS) for h in (0.05, -0.05))
    assert (up - down) / 0.1 == pytest.approx(float(found.inputs.norm()), rel=1e-3)
    assert found.labels.shape == (4, 3)
    assert bool((found.labels != 0).any())


def test_poison_moved_along_it_does_more_harm_than_the_flips_it_began_as():
    threat = ThreatModel(goal=Degrade(), budget=0.15, perturbation=Unbounded(), labels="dirty", rows="append")
    harm = {
        attack.name: fitted_loss(LEARNER, poison.rows.all_inputs(), poison.rows.labels, AIMS)
        for attack in (BackGradient(steps=8), RandomFlips())
        for poison in [craft(attack, DATA, threat=threat, aims=AIMS, surrogates=(LEARNER,), seed=Seed(4))]
    }
    assert harm["back-gradient"] > harm["random-flips"] + 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimiser": "adam"}, "optimiser: adam"),
        ({"augmentation": Augmentation()}, "augmentation"),
        ({"start": Transfer(weights=Own())}, "start: transfer"),
    ],
    ids=str,
)
def test_a_training_that_cannot_be_differentiated_is_a_sentence(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(LEARNER, **change).bilevel(DATA, AIMS, seed=Seed(0))


@pytest.mark.parametrize("asked", [{"method": "implicit"}, {"method": "approximate-reversal"}, {"last": 3}], ids=str)
def test_methods_of_dense_learners_are_refused(asked):
    with pytest.raises(ConfigError, match="for gradient-descent learners"):
        LEARNER.bilevel(DATA, AIMS, seed=Seed(0)).steering(POISON.all_inputs().double(), LABELS, **asked)
