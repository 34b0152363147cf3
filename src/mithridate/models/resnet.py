"""ResNet-18 for small images, at any width.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385, with the stem
and initialisation that the poisoning literature trains on CIFAR-10 (Geiping et al., https://arxiv.org/abs/2009.02276).

Differences from the paper's ResNet-18:
1. The stem is a 3 x 3 convolution of stride 1 without max pool, since images are about 32 x 32.
2. The stem takes as many channels as the images have.
3. The last normalisation of a block starts at 1, as all others (not at 0).
4. There may be dropout between the two convolutions of each block (Convex Polytope's, https://arxiv.org/abs/1905.05897).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, dropout, projection


@dataclass(frozen=True, kw_only=True)
class ResNet18(Architecture):
    """Four stages of two basic blocks, of widths w, 2w, 4w, 8w, each but the first halving the image."""

    name: ClassVar[str] = "resnet18"

    width: int = 64
    """Channels of the first stage (the paper's: 64, 11.17 million parameters for CIFAR-10; 16 has 0.70 million)."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised ResNet-18; features ``(N, 8 * width)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "ResNet-18")
        w = self.width
        layers: list[nn.Module] = [nn.Conv2d(channels, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU()]
        for before, after in pairwise((w, w, 2 * w, 4 * w, 8 * w)):
            stride = 1 if before == after else 2
            layers += [
                BasicBlock(before, after, stride=stride, p=self.dropout),
                BasicBlock(after, after, stride=1, p=self.dropout),
            ]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        body = nn.Sequential(*layers)
        _initialise(body)
        return Stack(space, body=body, width=8 * w)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut: ``relu(x + F(x))``, ``(N, before, H, W)`` to ``(N, after, H', W')``."""

    def __init__(self, before: int, after: int, *, stride: int, p: float = 0.0) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.Sequential(nn.ReLU(), dropout(p)),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Identity() if stride == 1 and before == after else projection(before, after, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """The block's output, ``(N, after, H / stride, W / stride)``."""
        outputs: Tensor = self.relu(self.residual(inputs) + self.shortcut(inputs))
        return outputs


def _initialise(body: nn.Module) -> None:
    """Kaiming normal, fan-out, for every convolution; normalisations start at scale 1 and shift 0 by themselves."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
