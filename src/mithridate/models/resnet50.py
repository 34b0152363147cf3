"""ResNet-50 for small images, at any width.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385, table 1, in the
form that Convex Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the paper's ResNet-50:
1. The stem is a 3 x 3 convolution of stride 1 without max pool, since images are about 32 x 32.
2. The stem takes as many channels as the images have.
3. The 3 x 3 convolution of a block has its stride, not the first 1 x 1.
4. Weights start as torch's convolutions do, not from He's initialisation.
5. There may be dropout before the last convolution of each block (Convex Polytope's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import Bottleneck, check_dropout, convolution

_BLOCKS = (3, 4, 6, 3)
"""Blocks of each stage; channels double from stage to stage."""
_EXPANSION = 4
"""Channels that a block gives, in units of those inside it."""


@dataclass(frozen=True, kw_only=True)
class ResNet50(Architecture):
    """Four stages of 3, 4, 6 and 3 bottleneck blocks, each stage but the first halving the image."""

    name: ClassVar[str] = "resnet50"

    width: int = 64
    """Channels inside the blocks of the first stage (the paper's: 64, 23.5 million parameters for CIFAR-10)."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised ResNet-50; features ``(N, 32 * width)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "ResNet-50")
        layers, before = convolution(channels, self.width, kernel=3), self.width
        for stage, blocks in enumerate(_BLOCKS):
            inner = 2**stage * self.width
            after = _EXPANSION * inner
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Bottleneck(before, inner, after, stride=stride, p=self.dropout))
                before = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)
