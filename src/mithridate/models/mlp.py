"""Multilayer perceptrons: linear layers with ReLU between them, for tables and small images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.model import Architecture, Stack


@dataclass(frozen=True, kw_only=True)
class MLP(Architecture):
    """Flattened inputs through hidden layers with ReLU to a linear head."""

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, from the input to the features."""

    def __post_init__(self) -> None:
        """Refuse layers without units, and no layers at all."""
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(
                f"hidden must name one or more layers of at least 1 unit, but it is {self.hidden} "
                "(for a network without hidden layers use 'linear')"
            )

    def build(self, space: Space) -> Stack:
        """A freshly initialised perceptron; its features are the last hidden layer."""
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise((math.prod(space.shape), *self.hidden)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return Stack(space, body=nn.Sequential(*layers), width=self.hidden[-1])
