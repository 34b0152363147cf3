"""SENet-18 for small images, at any width: a pre-activation ResNet-18 whose channels are weighted.

Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507, in the blocks of He et al.,
Identity Mappings in Deep Residual Networks, ECCV 2016, https://arxiv.org/abs/1603.05027, in the form that Convex
Polytope trains on CIFAR-10 (Zhu et al., https://arxiv.org/abs/1905.05897).

Differences from the papers:
1. The stem is a 3 x 3 convolution of stride 1 without max pool, since images are about 32 x 32.
2. The stem takes as many channels as the images have, and is normalised and rectified before the first block.
3. The last block is followed by the pool at once, without normalisation and ReLU.
4. Weights start as torch's convolutions do, not from He's initialisation.
5. There may be dropout between the two convolutions of each block, right after the first (Convex Polytope's).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, convolution, dropout

_REDUCTION = 16
"""Channels of a block in units of those that their weights are computed in; the paper's r."""


@dataclass(frozen=True, kw_only=True)
class SENet18(Architecture):
    """Four stages of two blocks, of widths w, 2w, 4w, 8w, each but the first halving the image."""

    name: ClassVar[str] = "senet18"

    width: int = 64
    """Channels of the first stage (64 has 11.3 million parameters for CIFAR-10)."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised SENet-18; features ``(N, 8 * width)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "SENet-18")
        w = self.width
        layers = convolution(channels, w, kernel=3)
        for before, after in pairwise((w, w, 2 * w, 4 * w, 8 * w)):
            stride = 1 if before == after else 2
            layers += [
                WeightedBlock(before, after, stride=s, p=self.dropout) for before, s in ((before, stride), (after, 1))
            ]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=8 * w)


class WeightedBlock(nn.Module):
    """A pre-activation block: ``x + s(F(x)) * F(x)``, ``(N, before, H, W)`` to ``(N, after, H', W')``.

    The weights ``s``, ``(N, after, 1, 1)`` in (0, 1), follow from the mean of each channel.
    """

    def __init__(self, before: int, after: int, *, stride: int, p: float = 0.0) -> None:
        super().__init__()
        self.active = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            dropout(p),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        squeezed = max(1, after // _REDUCTION)
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(after, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, after, 1),
            nn.Sigmoid(),
        )
        self.projects = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False) if self.projects else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """The block's output, ``(N, after, H / stride, W / stride)``; only a projection sees the rectified input."""
        active = self.active(inputs)
        found = self.residual(active)
        outputs: Tensor = self.weights(found) * found + self.shortcut(active if self.projects else inputs)
        return outputs
