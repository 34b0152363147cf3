"""The ConvNet of the gradient-matching paper: five convolutions, two max pools, one linear layer.

Geiping et al., Witches' Brew: Industrial Scale Data Poisoning via Gradient Matching, ICLR 2021,
https://arxiv.org/abs/2009.02276. Table 2 uses width 64 ("ConvNet64"); the plain "ConvNet" has width 32.

Differences from the paper:
1. The flattened size follows the image, so 28 x 28 works too (the paper's is 3 x 3, from 32 x 32).
2. Batch normalisation and dropout can be switched on; the paper has neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.model import Architecture, Stack, image_shape
from mithridate.models.parts import check_dropout, rectified

_SMALLEST = 9  # pixels; two max pools of 3 leave one


@dataclass(frozen=True, kw_only=True)
class ConvNet(Architecture):
    """Five 3 x 3 convolutions with biases and ReLU, of widths w, 2w, 2w, 4w, 4w, and max pools of 3 after the last two.

    At 32 x 32, width 64 costs 589 million multiply-adds an image, more than ResNet-18.
    """

    name: ClassVar[str] = "convnet"
    slow_start: ClassVar[bool] = True

    width: int = 64
    """Channels of the first convolution (the paper's table 2: 64)."""
    batch_norm: bool = False
    """Whether each convolution is followed by batch normalisation instead of a bias (the paper: no)."""
    dropout: float = 0.0
    """Chance that a value is dropped after each ReLU, while training."""

    def __post_init__(self) -> None:
        """Refuse a network without channels, and dropout of everything."""
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, but it is {self.width}")
        check_dropout(self.dropout)

    def build(self, space: Space) -> Stack:
        """A freshly initialised ConvNet for images of at least 9 x 9. Raises :class:`ModelError` for other inputs."""
        channels, height, width = image_shape(space, "ConvNet")
        if min(height, width) < _SMALLEST:
            raise ModelError(
                f"ConvNet pools by 3 twice and needs images of at least {_SMALLEST} x {_SMALLEST}, "
                f"but these are {height} x {width}; use 'mlp' or 'smallconvnet', or enlarge the images"
            )
        w = self.width
        body = nn.Sequential(
            *self._block(channels, w),
            *self._block(w, 2 * w),
            *self._block(2 * w, 2 * w),
            *self._block(2 * w, 4 * w, nn.MaxPool2d(3)),
            *self._block(4 * w, 4 * w, nn.MaxPool2d(3)),
            nn.Flatten(),
        )
        return Stack(space, body=body, width=4 * w * (height // 3 // 3) * (width // 3 // 3))

    def _block(self, before: int, after: int, *pools: nn.Module) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=not self.batch_norm)
        norm = [nn.BatchNorm2d(after)] if self.batch_norm else []
        return [convolution, *norm, *rectified(pools, p=self.dropout)]
