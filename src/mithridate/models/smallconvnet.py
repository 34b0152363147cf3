"""A small convolutional network that trains in seconds on a CPU, for demonstrations and tests.

Blocks of 3 x 3 convolution, batch normalisation and ReLU, some followed by a 2 x 2 max pool; then a global average
pool and a linear layer. Our own; no paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, rectified


@dataclass(frozen=True, kw_only=True)
class SmallConvNet(Architecture):
    """Convolution blocks, halving the image after some of them.

    The defaults have 24 thousand parameters and cost 1.9 million multiply-adds for a 28 x 28 grey image in 10 classes.
    """

    name: ClassVar[str] = "smallconvnet"

    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of each block, from the input to the features."""
    pools: tuple[int, ...] = (1, 2)
    """After which blocks, counted from 1, the image is halved by a 2 x 2 max pool; ``(1, 2, 3)`` is the cheapest."""
    dropout: float = 0.0
    """Chance that a value is dropped after each ReLU, while training."""

    def __post_init__(self) -> None:
        """Refuse blocks without channels, pools after blocks that are not there, and dropout of everything."""
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths must name one or more blocks of at least 1 channel, but it is {self.widths}")
        if len(set(self.pools)) < len(self.pools) or not set(self.pools) <= set(range(1, len(self.widths) + 1)):
            raise ConfigError(
                f"pools must name each block at most once, from 1 to {len(self.widths)}, but it is {self.pools}"
            )
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised network. Raises :class:`ModelError` where the pools leave nothing of the image."""
        channels, height, width = image_shape(space, "SmallConvNet")
        needed = 2 ** len(self.pools)
        if min(height, width) < needed:
            raise ModelError(
                f"SmallConvNet with {len(self.pools)} pools needs images of at least {needed} x {needed}, "
                f"but these are {height} x {width}; name fewer blocks in pools"
            )
        layers: list[nn.Module] = []
        for block, after in enumerate(self.widths, start=1):
            layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += rectified([nn.MaxPool2d(2)] if block in self.pools else [], p=self.dropout)
            channels = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return Stack(space, body=nn.Sequential(*layers), width=channels)
