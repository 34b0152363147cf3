"""Published recipes hold the published numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mithridate.datasets.breast_cancer import BreastCancer
from mithridate.datasets.digits import Digits
from mithridate.errors import ConfigError
from mithridate.learners.augment import Augmentation
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.recipes import CLASSICAL, RECIPES, recipe
from mithridate.models.convnet import ConvNet
from mithridate.models.mobilenet import MobileNetV2
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.vgg import VGG11
from mithridate.seeding import Seed
from mithridate.trial import accuracy


def test_the_paper_victim():
    """Spec section 2.1."""
    found = recipe("paper-40", model=ResNet18())
    facts = (found.epochs, found.batch_size, found.lr, found.momentum, found.nesterov, found.weight_decay)
    assert facts == (40, 128, 0.1, 0.9, True, 5e-4)
    assert (found.schedule, found.drops, found.precision) == ("steps", (14, 24, 35), "float32")
    assert found.augmentation == Augmentation(shift=4.0, flip=True, mode="bilinear", cutout=0.0)


def test_the_benchmark_victim():
    """Spec section 2.3."""
    found = recipe("benchmark-200", model=VGG11())
    facts = (found.epochs, found.batch_size, found.lr, found.momentum, found.nesterov, found.weight_decay)
    assert facts == (200, 128, 0.1, 0.9, False, 2e-4)
    assert (found.schedule, found.drops) == ("steps", (100, 150))
    assert found.augmentation == Augmentation(shift=4.0, flip=True, mode="integer", cutout=0.0)


@pytest.mark.parametrize(
    ("model", "lr"), [(ConvNet(), 0.01), (VGG11(), 0.01), (MobileNetV2(), 0.01), (ResNet18(), 0.1)]
)
def test_nets_without_residual_connections_start_slower(model, lr):
    assert recipe("paper-40", model=model).lr == pytest.approx(lr)


def test_changes_come_last():
    found = recipe("paper-40", model=VGG11(), lr=0.3, epochs=2)
    assert (found.lr, found.epochs, found.momentum) == (0.3, 2, 0.9)


@pytest.mark.parametrize(
    ("name", "loss", "hidden", "victim", "attacker"),
    [
        ("adaline", "squared", 0, (2000, 0.01), (60, 0.02)),
        ("logistic", "logistic", 0, (1500, 0.5), (100, 0.1)),
        ("mlp-10", "logistic", 10, (400, 0.1), (200, 0.1)),
    ],
)
def test_the_learners_of_back_gradient_optimization(name, loss, hidden, victim, attacker):
    """Spec section 1.7: what victims and attackers of the released code train, on rows as they are."""
    trained = recipe("logistic-regression" if name == "logistic" else name), recipe(f"{name}-attacker")
    assert [(each.steps, each.lr) for each in trained] == [victim, attacker]
    for each in trained:
        facts = (each.loss, each.hidden, each.momentum, each.l2, each.standardise, each.initial, each.activation)
        assert facts == (loss, hidden, 0.0, 0.0, False, 0.1, "tanh")


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_recipes_learn_digits_and_tables(name):
    """Each at its own rate: none diverges, on two classes of whichever data."""
    for train, test in (pair(Digits(), 1, 7), pair(BreastCancer(), 0, 1)):
        standardised = {"standardise": True} if train.space.columns else {}  # raw columns go to 4254
        found = recipe(name, **standardised).fit(train, seed=Seed(1))
        assert np.isfinite(found.loss)
        assert accuracy(found.model, test) > (0.85 if "attacker" in name else 0.93)


def test_classical_recipes_need_no_network_and_take_changes():
    assert isinstance(recipe("ridge"), GradientDescent)
    assert (recipe("ridge", l2=0.5).l2, recipe("ridge", l2=0.5).loss) == (0.5, "squared")
    assert recipe("softmax-regression").title == "softmax-regression"
    with pytest.raises(ConfigError, match="'paper-40' trains a network; name one"):
        recipe("paper-40")
    with pytest.raises(ConfigError, match="no recipe 'rigde': did you mean 'ridge'"):
        recipe("rigde")


def pair(source, one, other):
    """Train and test rows of two classes of a source."""
    split = source.load()
    return tuple(_two(each, one, other) for each in (split.train, split.test))


def _two(data, one, other):
    rows = data.at((data.labels == one) | (data.labels == other))
    return replace(rows, labels=(rows.labels == other).long(), space=replace(data.space, num_classes=2, classes=()))


def test_recipes_cannot_be_changed():
    for recipes in (RECIPES, CLASSICAL):
        with pytest.raises(TypeError):
            recipes["paper-40"] = {}


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no recipe 'paper40': did you mean 'paper-40'"):
        recipe("paper40", model=SmallConvNet())
