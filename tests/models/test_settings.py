"""Settings and images that no network can be built from are refused with a sentence."""

from __future__ import annotations

import pytest

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.models.convnet import ConvNet
from mithridate.models.mlp import MLP
from mithridate.models.mobilenet import MobileNetV2
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.vgg import VGG11


@pytest.mark.parametrize("kind", [ConvNet, ResNet18, VGG11])
def test_width_must_be_positive(kind):
    with pytest.raises(ConfigError, match="width must be at least 1, but it is 0"):
        kind(width=0)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (MobileNetV2, {"multiplier": 0.0}, "multiplier must be positive, but it is 0"),
        (MLP, {"hidden": ()}, r"one or more layers of at least 1 unit, but it is \(\) .*use 'linear'"),
        (MLP, {"hidden": (4, 0)}, r"at least 1 unit, but it is \(4, 0\)"),
        (SmallConvNet, {"widths": ()}, r"one or more blocks of at least 1 channel, but it is \(\)"),
        (SmallConvNet, {"pools": (4,)}, r"from 1 to 3, but it is \(4,\)"),
        (SmallConvNet, {"pools": (0,)}, r"from 1 to 3, but it is \(0,\)"),
        (SmallConvNet, {"pools": (1, 1)}, r"at most once, from 1 to 3, but it is \(1, 1\)"),
    ],
)
def test_impossible_settings_are_refused(kind, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        kind(**settings)


@pytest.mark.parametrize(
    ("architecture", "smallest"), [(ConvNet(width=2), 9), (SmallConvNet(), 4), (SmallConvNet(pools=(1, 2, 3)), 8)]
)
def test_images_that_the_pools_would_swallow_are_refused(architecture, smallest):
    architecture.build(Space(shape=(1, smallest, smallest), num_classes=2))
    with pytest.raises(ModelError, match=f"at least {smallest} x {smallest}, but these are {smallest - 1} x 30"):
        architecture.build(Space(shape=(1, smallest - 1, 30), num_classes=2))
