"""GoogLeNet with batch normalisation for small images, at any width.

Szegedy et al., Going Deeper with Convolutions, CVPR 2015, https://arxiv.org/abs/1409.4842, table 1, in the form that
Convex Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the paper:
1. The stem is one 3 x 3 convolution of stride 1 to 192 channels, since images are about 32 x 32.
2. The stem takes as many channels as the images have.
3. Each convolution is followed by batch normalisation (and keeps its bias), in place of local response normalisation.
4. Two 3 x 3 convolutions stand for the 5 x 5 one of each block.
5. There are no auxiliary classifiers, and no dropout before the head.
6. There may be dropout after each block (Convex Polytope's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, convolution, dropout

_STEM = 192
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Channels of each block, in the order of the paper's table: 1 x 1, 3 x 3 before and after, 5 x 5 likewise, pool."""


@dataclass(frozen=True, kw_only=True)
class GoogLeNet(Architecture):
    """Three stages of 2, 5 and 2 Inception blocks, with max pools that halve the image between them."""

    name: ClassVar[str] = "googlenet"

    multiplier: float = 1.0
    """Scales all channels, rounded down, but to at least 1 (the paper's: 1, 6.2 million parameters for CIFAR-10)."""
    dropout: float = 0.0
    """Chance that a value is dropped after each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if not self.multiplier > 0:
            raise ConfigError(f"multiplier must be positive, but it is {self.multiplier:g}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised GoogLeNet; features ``(N, 1024)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "GoogLeNet")
        before = self._scaled(_STEM)
        layers = convolution(channels, before, kernel=3, bias=True)
        for stage, blocks in enumerate(_STAGES):
            if stage > 0:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for block in blocks:
                inception = Inception(before, *(self._scaled(each) for each in block), p=self.dropout)
                layers.append(inception)
                before = inception.after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)

    def _scaled(self, channels: int) -> int:
        return max(1, int(channels * self.multiplier))


class Inception(nn.Module):
    """Four branches side by side: 1 x 1, 3 x 3, twice 3 x 3, and a pool. ``(N, before, H, W)`` to ``(N, after, H, W)``.

    The channels are those of the paper's table: of the 1 x 1 branch, of the 3 x 3 branch before and after its 3 x 3
    convolution, of the next likewise, and of the pool's.
    """

    def __init__(
        self, before: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int, *, p: float = 0.0
    ) -> None:
        super().__init__()
        self.one = nn.Sequential(*convolution(before, one, kernel=1, bias=True))
        self.three = nn.Sequential(
            *convolution(before, three_in, kernel=1, bias=True), *convolution(three_in, three, kernel=3, bias=True)
        )
        self.five = nn.Sequential(
            *convolution(before, five_in, kernel=1, bias=True),
            *convolution(five_in, five, kernel=3, bias=True),
            *convolution(five, five, kernel=3, bias=True),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *convolution(before, pool, kernel=1, bias=True))
        self.dropout = dropout(p)
        self.after = one + three + five + pool

    def forward(self, inputs: Tensor) -> Tensor:
        """The branches' outputs behind one another, ``(N, after, H, W)``."""
        branches = (self.one, self.three, self.five, self.pool)
        outputs: Tensor = self.dropout(torch.cat([branch(inputs) for branch in branches], dim=1))
        return outputs
