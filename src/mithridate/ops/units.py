"""The unit in which papers give step sizes: one normalised pixel, the standard deviation of a channel."""

from __future__ import annotations

import torch
from torch import Tensor

from mithridate.dataset import Space


def channel_units(space: Space, like: Tensor) -> Tensor:
    """The standard deviation of each channel in natural units, ``(1, C, 1, ...)``, on the device of ``like``."""
    std = torch.tensor(space.std or (1.0,) * space.shape[0], device=like.device, dtype=like.dtype)
    return std.reshape(1, -1, *[1] * (len(space.shape) - 1))
