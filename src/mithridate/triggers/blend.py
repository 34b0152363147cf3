"""A random pattern blended into the whole input.

Chen et al., Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning, 2017,
https://arxiv.org/abs/1712.05526, the blended injection strategy with a random pattern.

Differences from the paper:
1. The strength is the same in training and at test time; the paper can raise it at test time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.errors import ConfigError
from mithridate.poison import Trigger
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class Blend(Trigger):
    """``alpha * pattern + (1 - alpha) * input``, the pattern uniform within the bounds; for inputs of any shape."""

    name: ClassVar[str] = "blend"

    alpha: float = 0.2
    """How much of the result is pattern, in (0, 1]."""
    seed: int = 0
    """Which pattern."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest value an input may take; the same as the data's."""

    def __post_init__(self) -> None:
        """Refuse a range without ends, and a strength that leaves no mark or overshoots the pattern."""
        low, high = self.bounds
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"bounds must be two finite numbers, the lower first, but they are {self.bounds}")
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"alpha must lie in (0, 1], but it is {self.alpha:g}")

    def apply(self, inputs: Tensor) -> Tensor:
        """Inputs ``(N, *shape)`` in natural units with the pattern blended in, same shape and range; differentiable."""
        low, high = self.bounds
        generator = Seed(self.seed).child("blend").generator()  # on the CPU, so that it is the same everywhere
        pattern = low + (high - low) * torch.rand(inputs.shape[1:], generator=generator)
        blended = self.alpha * pattern.to(inputs) + (1 - self.alpha) * inputs
        return blended.clamp(low, high)  # float32 rounding may step over the end
