"""A square patch pasted into a corner of an image.

Gu et al., BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain, 2017,
https://arxiv.org/abs/1708.06733. The random pattern is the one of hidden-trigger backdoors: Saha et al., AAAI 2020,
https://arxiv.org/abs/1910.00033.

Differences from the released code of the poisoning frameworks:
1. The patch lies within the range of the images. Scaling it by the standard deviation without taking the mean off, as
   one of them does, pastes pixels brighter than white, which no image file can hold.
2. The pattern comes from a named seed, not from whatever was drawn before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.errors import ConfigError
from mithridate.poison import Trigger
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class Patch(Trigger):
    """A square of one colour, or of random pixels, over whatever the image held there."""

    name: ClassVar[str] = "patch"

    side: int = 5
    """Side of the square in pixels (the CIFAR-10 poisoning benchmark: 5; hidden-trigger backdoors: 8)."""
    corner: Literal["top left", "top right", "bottom left", "bottom right"] = "bottom right"
    """The corner of the image it sits in."""
    margin: int = 0
    """Pixels between the square and both edges of its corner."""
    colour: tuple[float, ...] | None = None
    """One value, or one a channel, in natural units; None for random pixels, each channel at either end of the
    bounds."""
    seed: int = 0
    """Which random pixels, where there is no colour."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest value a pixel may take; the same as the data's."""

    def __post_init__(self) -> None:
        """Refuse a range without ends, a patch without pixels, and colours that no image can have."""
        low, high = self.bounds
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"bounds must be two finite numbers, the lower first, but they are {self.bounds}")
        if self.side < 1 or self.margin < 0:
            raise ConfigError(
                f"a patch needs a side of at least 1 and no negative margin, but they are {self.side} and {self.margin}"
            )
        if self.colour is not None and not (self.colour and all(low <= value <= high for value in self.colour)):
            raise ConfigError(
                f"colour must be one or more values in [{low:g}, {high:g}], but it is {self.colour}"
                + (" (divide 8-bit colours by 255)" if high == 1 and self.colour else "")
            )

    def apply(self, inputs: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` in natural units with the patch on them, same shape and range.

        Differentiable: the pixels under the patch get no gradient. Raises :class:`ConfigError` where the patch does
        not fit the images.
        """
        if inputs.ndim != 4:
            raise ConfigError(f"a patch needs images of shape (N, C, H, W), but inputs have {tuple(inputs.shape)}")
        channels, height, width = inputs.shape[1:]
        if min(height, width) < self.side + self.margin:
            raise ConfigError(
                f"a patch of side {self.side} and margin {self.margin} does not fit images of {height} x {width}"
            )
        pixels = self._pixels(channels).to(inputs)  # (C, side, side)
        frame = self._frame(height, width)
        covered = functional.pad(torch.ones_like(pixels), frame).bool()  # (C, H, W)
        return torch.where(covered, functional.pad(pixels, frame), inputs)

    def _pixels(self, channels: int) -> Tensor:
        """The patch, ``(channels, side, side)`` in natural units, on the CPU so that it is the same everywhere."""
        low, high = self.bounds
        if self.colour is None:
            generator = Seed(self.seed).child("patch").generator()
            bits = torch.randint(2, (channels, self.side, self.side), generator=generator)
            return low + (high - low) * bits
        if len(self.colour) not in (1, channels):
            raise ConfigError(f"colour has {len(self.colour)} values, but the images have {channels} channels")
        return torch.tensor(self.colour).reshape(-1, 1, 1).expand(channels, self.side, self.side)

    def _frame(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels left of, right of, above and below the patch."""
        beyond, across = width - self.side - self.margin, height - self.side - self.margin
        left, right = (self.margin, beyond) if "left" in self.corner else (beyond, self.margin)
        above, below = (self.margin, across) if "top" in self.corner else (across, self.margin)
        return left, right, above, below
