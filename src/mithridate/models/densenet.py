"""DenseNet-121 for small images, at any growth.

Huang et al., Densely Connected Convolutional Networks, CVPR 2017, https://arxiv.org/abs/1608.06993, table 1, in the
form that Convex Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the paper's DenseNet-121:
1. The stem is a 3 x 3 convolution of stride 1 without normalisation or pool, since images are about 32 x 32.
2. The stem takes as many channels as the images have.
3. Weights start as torch's convolutions do, not from He's initialisation.
4. Dropout stands between the two convolutions of a layer, right after the first (Convex Polytope's); the paper's stands
   after each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, dropout

_BLOCKS = (6, 12, 24, 16)
"""Layers of each block."""
_SMALLEST = 8  # pixels; three halvings leave one


@dataclass(frozen=True, kw_only=True)
class DenseNet121(Architecture):
    """Four blocks of 6, 12, 24 and 16 layers, each fed all before it; transitions halve image and channels between."""

    name: ClassVar[str] = "densenet121"

    growth: int = 32
    """Channels that each layer adds (the paper's: 32, 6.96 million parameters for CIFAR-10)."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each layer, while training (the paper: 0.2 without augmentation)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.growth < 1:
            raise ConfigError(f"growth must be at least 1, but it is {self.growth}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised DenseNet-121 for images of at least 8 x 8; features ``(N, 32 * growth)``.

        Raises :class:`ModelError` for other inputs.
        """
        channels, height, width = image_shape(space, "DenseNet-121")
        if min(height, width) < _SMALLEST:
            raise ModelError(
                f"DenseNet-121 halves the image three times and needs images of at least {_SMALLEST} x {_SMALLEST}, "
                f"but these are {height} x {width}; use 'resnet18' or enlarge the images"
            )
        before = 2 * self.growth
        layers: list[nn.Module] = [nn.Conv2d(channels, before, 3, padding=1, bias=False)]
        for block, count in enumerate(_BLOCKS):
            if block > 0:
                layers.append(_transition(before, before // 2))
                before //= 2
            for _ in range(count):
                layers.append(DenseLayer(before, self.growth, p=self.dropout))
                before += self.growth
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)


class DenseLayer(nn.Module):
    """Appends ``growth`` channels to its input: ``(N, before, H, W)`` to ``(N, before + growth, H, W)``."""

    def __init__(self, before: int, growth: int, *, p: float = 0.0) -> None:
        super().__init__()
        inner = 4 * growth
        self.new = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, inner, 1, bias=False),
            dropout(p),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, growth, 3, padding=1, bias=False),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The input, then the new channels."""
        return torch.cat([inputs, self.new(inputs)], dim=1)


def _transition(before: int, after: int) -> nn.Module:
    """Between two blocks: fewer channels, and the mean of each 2 x 2 pixels (a last odd row or column is left out)."""
    return nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 1, bias=False), nn.AvgPool2d(2))
