"""Random shifts, flips and cut-outs of whole batches, drawn first and applied after, so that a draw can be replayed.

Differences from the common libraries: one draw is three small tensors; the application is linear in the images and
differentiable, on any device. ``bilinear`` is the augmentation of Witches' Brew (continuous shifts, zero padding in
normalised space, that is the mean colour); ``integer`` is the usual crop with black padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """One random draw for ``n`` images."""

    shift: Tensor
    """``(n, 2)`` shifts right and down, pixels."""
    flip: Tensor
    """``(n,)`` bool: mirrored left to right."""
    hole: Tensor
    """``(n, 2)`` centres of the cut-out, as fractions of width and height."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training images before every step."""

    shift: float = 4.0
    """Largest shift in each direction, pixels. Papers: 4 on CIFAR-10, 2 on MNIST."""
    flip: bool = True
    """Whether half of the images are mirrored left to right."""
    mode: Literal["bilinear", "integer"] = "bilinear"
    """Continuous shifts with bilinear sampling and mean-colour padding, or whole pixels with black padding."""
    cutout: float = 0.0
    """Side of a square blanked at a random place, as a fraction of the image's side; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse negative amounts."""
        if not self.shift >= 0:
            raise ConfigError(f"shift must be at least 0 pixels, but it is {self.shift:g}")
        if not 0 <= self.cutout <= 1:
            raise ConfigError(f"cutout must lie in [0, 1], but it is {self.cutout:g}")

    def draw(self, count: int, generator: torch.Generator) -> Draw:
        """Random amounts for ``count`` images, on the generator's device."""
        device = generator.device
        shift = (torch.rand(count, 2, generator=generator, device=device) * 2 - 1) * self.shift
        if self.mode == "integer":
            whole = int(self.shift)
            shift = torch.randint(-whole, whole + 1, (count, 2), generator=generator, device=device).float()
        flip = torch.rand(count, generator=generator, device=device) < 0.5
        hole = torch.rand(count, 2, generator=generator, device=device)
        return Draw(shift=shift, flip=flip & self.flip, hole=hole)

    def apply(self, images: Tensor, draw: Draw, *, space: Space) -> Tensor:
        """Images ``(n, C, H, W)`` in natural units, shifted, flipped and cut out as drawn; linear in the images."""
        if images.ndim != 4:
            return images
        moved = images
        if self.shift > 0 or self.flip:
            fill = mean_colour(images, space) if self.mode == "bilinear" else 0.0
            moved = _sampled(images - fill, draw) + fill
        return moved * holes(moved, draw, self.cutout) if self.cutout else moved


def augmented(images: Tensor, augmentation: Augmentation | None, *, space: Space, generator: torch.Generator) -> Tensor:
    """A fresh draw applied to ``images``; the images themselves where there is no augmentation, or no images."""
    if augmentation is None or images.ndim != 4:
        return images
    return augmentation.apply(images, augmentation.draw(len(images), generator), space=space)


def _sampled(images: Tensor, draw: Draw) -> Tensor:
    """Images sampled at shifted, mirrored places; outside is zero. Coordinates as in ``align_corners=True``."""
    height, width = images.shape[2:]
    x = torch.linspace(-1, 1, width, device=images.device)
    y = torch.linspace(-1, 1, height, device=images.device)
    mirror = torch.where(draw.flip, -1.0, 1.0).to(images.device)[:, None]
    dx = draw.shift[:, :1].to(images.device) * (2 / max(width - 1, 1))
    dy = draw.shift[:, 1:].to(images.device) * (2 / max(height - 1, 1))
    columns = mirror * x - dx  # (n, W)
    rows = y - dy  # (n, H)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], dim=-1
    )  # (n, H, W, 2)
    return functional.grid_sample(images, grid.to(images.dtype), padding_mode="zeros", align_corners=True)


def holes(images: Tensor, draw: Draw, side: float) -> Tensor:
    """Mask ``(n, 1, H, W)``: 0 inside the square cut out of each image, 1 outside."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = (x - draw.hole[:, :1].to(images.device)).abs() < side / 2  # (n, W)
    inside_y = (y - draw.hole[:, 1:].to(images.device)).abs() < side / 2  # (n, H)
    return (~(inside_y[:, :, None] & inside_x[:, None, :]))[:, None].to(images.dtype)


def mean_colour(images: Tensor, space: Space) -> Tensor:
    """The mean of each channel ``(1, C, 1, 1)``, 0 where the space has none; type and device as the images'."""
    means = space.mean or (0.0,) * images.shape[1]
    each = [torch.full((), mean, device=images.device, dtype=images.dtype) for mean in means]  # no copy to a device
    return torch.stack(each).reshape(1, -1, 1, 1)
