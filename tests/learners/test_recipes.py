"""Published recipes hold the published numbers."""

from __future__ import annotations

import pytest

from mithridate.errors import ConfigError
from mithridate.learners.augment import Augmentation
from mithridate.learners.recipes import RECIPES, recipe
from mithridate.models.convnet import ConvNet
from mithridate.models.mobilenet import MobileNetV2
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.vgg import VGG11


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


def test_recipes_cannot_be_changed():
    with pytest.raises(TypeError):
        RECIPES["paper-40"] = {}


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no recipe 'paper40': did you mean 'paper-40'"):
        recipe("paper40", model=SmallConvNet())
