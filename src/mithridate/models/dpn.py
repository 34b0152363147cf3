"""DPN-92 for small images, at any width.

Chen et al., Dual Path Networks, NeurIPS 2017, https://arxiv.org/abs/1707.01629, table 1, in the form that Convex
Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the paper:
1. The stem is a 3 x 3 convolution of stride 1 without max pool, since images are about 32 x 32.
2. The stem takes as many channels as the images have.
3. Batch normalisation and ReLU follow the convolutions, and ReLU the joining of the paths, as in a ResNet.
4. The dense path of a stage begins with one increment, not two.
5. Features are averaged over the image, without a last normalisation.
6. There may be dropout before the last convolution of each block (Convex Polytope's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import bottleneck, check_dropout, convolution, projection

_STAGES = ((3, 3, 8, 1 / 2), (4, 6, 16, 1), (20, 12, 32, 3 / 4), (3, 24, 64, 4))
"""Blocks, and channels in units of the groups: inside a block, of the residual path, and a block's dense increment."""
_STEM = 2
"""Channels of the stem in the same unit."""


@dataclass(frozen=True, kw_only=True)
class DPN92(Architecture):
    """Four stages of 3, 4, 20 and 3 dual path blocks, each stage but the first halving the image."""

    name: ClassVar[str] = "dpn92"

    groups: int = 32
    """Groups of each 3 x 3 convolution, a multiple of 4; all channels are in proportion (the paper's: 32, 34.2 million
    parameters for CIFAR-10)."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse groups that the paper's proportions do not divide, and dropout of everything."""
        if self.groups < 1 or self.groups % 4:
            raise ConfigError(f"groups must be a positive multiple of 4, but it is {self.groups}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised DPN-92; features ``(N, 80 * groups)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "DPN-92")
        before = _STEM * self.groups
        layers = convolution(channels, before, kernel=3)
        for stage, (blocks, *units) in enumerate(_STAGES):
            inner, kept, grown = (int(unit * self.groups) for unit in units)
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    DualPath(
                        before, inner, kept, grown, stride=stride, first=block == 0, groups=self.groups, p=self.dropout
                    )
                )
                before = kept + (block + 2) * grown
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=before)


class DualPath(nn.Module):
    """A bottleneck whose first ``kept`` channels are added to the input's and whose last ``grown`` are appended.

    ``(N, before, H, W)`` to ``(N, before + grown, H, W)``; the ``first`` block of a stage projects its input to
    ``kept + grown`` channels beforehand, and strides: ``(N, kept + 2 * grown, H / stride, W / stride)``.
    """

    def __init__(
        self, before: int, inner: int, kept: int, grown: int, *, stride: int, first: bool, groups: int, p: float = 0.0
    ) -> None:
        super().__init__()
        self.kept = kept
        self.residual = bottleneck(before, inner, kept + grown, stride=stride, groups=groups, p=p)
        self.shortcut = projection(before, kept + grown, stride=stride) if first else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum of the residual channels, then the dense channels so far, then the new ones."""
        new, old = self.residual(inputs), self.shortcut(inputs)
        total = new[:, : self.kept] + old[:, : self.kept]
        outputs: Tensor = self.relu(torch.cat([total, old[:, self.kept :], new[:, self.kept :]], dim=1))
        return outputs
