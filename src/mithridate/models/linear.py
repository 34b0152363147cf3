"""A linear classifier (softmax regression): its features are the normalised inputs themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.model import Architecture, Stack


@dataclass(frozen=True, kw_only=True)
class Linear(Architecture):
    """One linear layer over the flattened inputs; for images and tables alike."""

    name: ClassVar[str] = "linear"

    def build(self, space: Space) -> Stack:
        """A freshly initialised linear classifier; its features are ``(N, prod(shape))``."""
        return Stack(space, body=nn.Flatten(), width=math.prod(space.shape))
