"""VGG-11 with batch normalisation and a single linear layer, at any width.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015,
https://arxiv.org/abs/1409.1556, configuration A, in the form the poisoning benchmarks train on CIFAR-10.

Differences from the paper:
1. Each convolution is followed by batch normalisation (and keeps its bias).
2. One linear layer from 8w features replaces the three fully connected ones, and there is no dropout before it; there
   may be some after each ReLU.
3. Pools round up and a global average pool ends the body, so any image size works; at 32 x 32 both do nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, dropout

_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Width of each convolution in units of the first; every stage ends with a pool (configuration A)."""


@dataclass(frozen=True, kw_only=True)
class VGG11(Architecture):
    """Eight 3 x 3 convolutions in five stages, each of which halves the image."""

    name: ClassVar[str] = "vgg11"
    slow_start: ClassVar[bool] = True

    width: int = 64
    """Channels of the first convolution; the last has eight times as many (the paper's: 64)."""
    dropout: float = 0.0
    """Chance that a value is dropped after each ReLU, while training."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised VGG-11; features ``(N, 8 * width)``. Raises :class:`ModelError` without images."""
        before, _, _ = image_shape(space, "VGG-11")
        layers: list[nn.Module] = []
        for stage in _STAGES:
            for factor in stage:
                after = factor * self.width
                rectified = nn.Sequential(nn.ReLU(), dropout(self.dropout))
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), rectified]
                before = after
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)
