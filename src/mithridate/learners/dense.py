"""A dense first layer and what is above it as a network, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.model import Classifier, Normalise
from mithridate.ops.fullbatch import Beginning, Trained
from mithridate.ops.upper import Hidden, Upper


class Dense(Classifier):
    """Standardised inputs through a dense layer; linear, or with one hidden layer. Everything is float64."""

    def __init__(
        self,
        space: Space,
        *,
        upper: Upper,
        hidden: int,
        columns: int,
        initial: float,
        generator: torch.Generator,
    ) -> None:
        """Weights are 0 for a linear classifier, else normal with standard deviation ``initial``; biases are 0."""
        super().__init__()
        self.normalise = Normalise(space).to(torch.float64)
        self.above = upper
        width, inputs = hidden or columns, math.prod(space.shape)

        def drawn(*shape: int) -> nn.Parameter:
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            return nn.Parameter(initial * noise if hidden else torch.zeros(shape, dtype=torch.float64))

        self.first = drawn(inputs, width)
        biases = [nn.Parameter(torch.zeros(width, dtype=torch.float64))]
        more = [drawn(hidden, columns), nn.Parameter(torch.zeros(columns, dtype=torch.float64))] if hidden else []
        self.upper = nn.ParameterList([*biases, *more])

    def standardised(self, inputs: Tensor) -> Tensor:
        """Inputs ``(N, *shape)`` in natural units as the first layer sees them, ``(N, d)`` float64."""
        found: Tensor = self.normalise(inputs.to(torch.float64)).flatten(1)
        return found

    def features(self, inputs: Tensor) -> Tensor:
        """Hidden activations ``(N, H)``, or the standardised inputs of a linear classifier."""
        seen = self.standardised(inputs)
        return self.above.active(seen @ self.first + self.upper[0]) if isinstance(self.above, Hidden) else seen

    def scores(self, features: Tensor) -> Tensor:
        """Scores ``(N, c)`` of features."""
        if isinstance(self.above, Hidden):
            found: Tensor = features @ self.upper[1] + self.upper[2]
            return found
        return self.above.scores(features @ self.first, (self.upper[0],))

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of features."""
        return self.above.loss.logits(self.scores(features.to(torch.float64)))

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters above the features."""
        return list(self.upper)[1:] if isinstance(self.above, Hidden) else [self.first, *self.upper]

    def decaying(self) -> list[bool]:
        """Which of ``parameters()`` an L2 penalty is for, in their order."""
        flags = {id(self.first): True, **{id(p): d for p, d in zip(self.upper, self.above.decays, strict=True)}}
        return [flags[id(each)] for each in self.parameters()]

    def beginning(self) -> Beginning:
        """Its weights, copied, as a place to begin training at."""
        upper = tuple(each.detach().cpu().numpy().copy() for each in self.upper)
        return Beginning(first=self.first.detach().cpu().numpy().copy(), upper=upper)

    def write(self, found: Trained) -> None:
        """Take over trained weights."""
        with torch.no_grad():
            self.first.copy_(torch.from_numpy(found.first))
            for mine, theirs in zip(self.upper, found.upper, strict=True):
                mine.copy_(torch.from_numpy(theirs))
