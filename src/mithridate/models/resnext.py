"""ResNeXt-29 for small images, at any width.

Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017, https://arxiv.org/abs/1611.05431,
section 5.2, in the form that Convex Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the paper:
1. Two groups of 64 channels ("2x64d"), where the paper has 8 or 16 of 64.
2. The stem is a 1 x 1 convolution; the paper's is 3 x 3.
3. The stem takes as many channels as the images have.
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

_STAGES, _BLOCKS = 3, 3
_EXPANSION = 2
"""Channels that a block gives, in units of those inside it."""


@dataclass(frozen=True, kw_only=True)
class ResNeXt29(Architecture):
    """Three stages of three bottleneck blocks with grouped convolutions; the last two stages halve the image."""

    name: ClassVar[str] = "resnext29"

    groups: int = 2
    """Groups of each 3 x 3 convolution, the paper's cardinality (Convex Polytope: 2; the paper: 8 or 16)."""
    width: int = 64
    """Channels of a group in the first stage (the paper's: 64); with 2 groups 9.1 million parameters for CIFAR-10."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.groups < 1:
            raise ConfigError(f"groups must be at least 1, but it is {self.groups}")
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised ResNeXt-29; features ``(N, 8 * groups * width)``.

        Raises :class:`ModelError` without images.
        """
        channels, _, _ = image_shape(space, "ResNeXt-29")
        layers, before = convolution(channels, self.width, kernel=1), self.width
        for stage in range(_STAGES):
            inner = 2**stage * self.groups * self.width
            after = _EXPANSION * inner
            for block in range(_BLOCKS):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Bottleneck(before, inner, after, stride=stride, groups=self.groups, p=self.dropout))
                before = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)
