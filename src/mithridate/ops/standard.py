"""Inputs on one scale, so that distances between rows do not depend on the units of their columns."""

from __future__ import annotations

import torch
from torch import Tensor

from mithridate.dataset import Dataset


def standardised(data: Dataset) -> Tensor:
    """Flattened inputs ``(N, D)`` float32, less the space's mean and in units of its standard deviation.

    What a space does not name counts as a mean of 0 and a deviation of 1.
    """
    space = data.space
    wide = (-1, *[1] * (len(space.shape) - 1))  # a number for each channel of an image, for each column of a table
    inputs = data.all_inputs()
    if space.mean:
        inputs = inputs - torch.tensor(space.mean, dtype=torch.float32, device=data.device).reshape(wide)
    if space.std:
        inputs = inputs / torch.tensor(space.std, dtype=torch.float32, device=data.device).reshape(wide)
    return inputs.flatten(1)
