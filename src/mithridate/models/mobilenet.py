"""MobileNetV2 for small images.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, https://arxiv.org/abs/1801.04381,
table 2.

Differences from the paper:
1. The stem and the 24-channel stage have stride 1 instead of 2, since images are about 32 x 32; the strides left take
   32 x 32 to 4 x 4.
2. There is no dropout before the head; there may be some before the last convolution of each block (Convex Polytope's,
   https://arxiv.org/abs/1905.05897).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, dropout

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of the first block: the paper's t, c, n and s."""
_STEM, _LAST = 32, 1280


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(Architecture):
    """Seventeen inverted residual blocks between a 3 x 3 and a 1 x 1 convolution."""

    name: ClassVar[str] = "mobilenetv2"
    slow_start: ClassVar[bool] = True

    multiplier: float = 1.0
    """The paper's width multiplier: scales all channels, rounded to multiples of 8; the last layer only above 1."""
    dropout: float = 0.0
    """Chance that a value is dropped inside each block, while training (Convex Polytope: 0.2, 0.25 and 0.3)."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if not self.multiplier > 0:
            raise ConfigError(f"multiplier must be positive, but it is {self.multiplier:g}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised MobileNetV2; features ``(N, 1280)``. Raises :class:`ModelError` without images."""
        channels, _, _ = image_shape(space, "MobileNetV2")
        before, last = _rounded(_STEM * self.multiplier), _rounded(_LAST * max(1.0, self.multiplier))
        layers: list[nn.Module] = _convolution(channels, before, kernel=3)
        for expansion, base, blocks, first_stride in _STAGES:
            after = _rounded(base * self.multiplier)
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                layers.append(InvertedResidual(before, after, expansion=expansion, stride=stride, p=self.dropout))
                before = after
        layers += [*_convolution(before, last, kernel=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=last)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; then add the input where shapes agree. ``(N, before, H, W)`` in."""

    def __init__(self, before: int, after: int, *, expansion: int, stride: int, p: float = 0.0) -> None:
        super().__init__()
        inner = before * expansion
        self.block = nn.Sequential(
            *(_convolution(before, inner, kernel=1) if expansion > 1 else []),
            *_convolution(inner, inner, kernel=3, stride=stride, groups=inner, p=p),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.adds_input = stride == 1 and before == after

    def forward(self, inputs: Tensor) -> Tensor:
        """The block's output, ``(N, after, H / stride, W / stride)``."""
        outputs: Tensor = self.block(inputs)
        return inputs + outputs if self.adds_input else outputs


def _convolution(
    before: int, after: int, *, kernel: int, stride: int = 1, groups: int = 1, p: float = 0.0
) -> list[nn.Module]:
    """Convolution, batch normalisation, the paper's ReLU6 and dropout."""
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.Sequential(nn.ReLU6(), dropout(p))]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but at least 8 and not under nine tenths of ``channels``."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8
