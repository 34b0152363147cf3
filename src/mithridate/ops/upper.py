"""What a network does above its first dense layer, with the derivatives that a sweep back through training needs.

``P`` ``(N, H)`` are the first layer's outputs without bias. :class:`Direct` makes a linear classifier of it,
:class:`Hidden` a perceptron with one hidden layer. Second derivatives are those of Pearlmutter's R-operator (1994,
https://doi.org/10.1162/neco.1994.6.1.147): ``R`` in front of a name is its change along a direction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from mithridate.ops.scores import Array, ScoreLoss

Parameters = tuple[Array, ...]
Activation = Literal["tanh", "sigmoid"]


class Slope(NamedTuple):
    """First derivatives of the weighted sum of losses."""

    first: Array
    """``(N, H)`` by the first layer's outputs."""
    upper: Parameters
    """By the parameters above."""
    kept: tuple[Array, ...]
    """What :meth:`Upper.bend` uses again; begins with the scores ``(N, c)``."""


class Bend(NamedTuple):
    """Change of the first derivatives along a direction."""

    first: Array
    """``(N, H)``."""
    upper: Parameters
    scores: Array
    """Change of the scores ``(N, c)`` along the direction."""


class Upper(ABC):
    """The part of a network above its first dense layer, with its loss."""

    loss: ScoreLoss
    decays: tuple[bool, ...]
    """Which of the parameters an L2 penalty is for: weights, not biases."""

    @abstractmethod
    def scores(self, first: Tensor, upper: tuple[Tensor, ...]) -> Tensor:
        """Scores ``(N, c)``; differentiable by torch."""

    @abstractmethod
    def slope(self, first: Array, upper: Parameters, targets: Array, weights: Array) -> Slope:
        """First derivatives of the losses summed with ``weights`` ``(N, 1)``."""

    @abstractmethod
    def bend(self, slope: Slope, upper: Parameters, targets: Array, weights: Array, along: Parameters) -> Bend:
        """Their change along ``along``: that of the first layer's outputs ``(N, H)``, then of each parameter."""


@dataclass(frozen=True)
class Direct(Upper):
    """Scores are the first layer's outputs and a bias ``(c,)``."""

    loss: ScoreLoss
    decays: tuple[bool, ...] = (False,)

    def scores(self, first: Tensor, upper: tuple[Tensor, ...]) -> Tensor:
        """``P + b``."""
        return first + upper[0]

    def slope(self, first: Array, upper: Parameters, targets: Array, weights: Array) -> Slope:
        """The loss's own."""
        scores = first + upper[0]
        found = self.loss.first(scores, targets) * weights
        return Slope(found, (np.add.reduce(found),), (scores,))

    def bend(self, slope: Slope, upper: Parameters, targets: Array, weights: Array, along: Parameters) -> Bend:
        """The loss's own."""
        change = along[0] + along[1]
        found = self.loss.second(slope.kept[0], targets, change) * weights
        return Bend(found, (np.add.reduce(found),), change)


@dataclass(frozen=True)
class Hidden(Upper):
    """An activation over the first layer's outputs and a bias ``(H,)``, then weights ``(H, c)`` and a bias ``(c,)``."""

    loss: ScoreLoss
    activation: Activation = "tanh"
    decays: tuple[bool, ...] = (False, True, False)

    def active(self, outputs: Tensor) -> Tensor:
        """The activation, differentiable by torch."""
        return torch.tanh(outputs) if self.activation == "tanh" else torch.sigmoid(outputs)

    def scores(self, first: Tensor, upper: tuple[Tensor, ...]) -> Tensor:
        """``act(P + b1) W2 + b2``."""
        return self.active(first + upper[0]) @ upper[1] + upper[2]

    def slope(self, first: Array, upper: Parameters, targets: Array, weights: Array) -> Slope:
        """Backpropagation."""
        hidden = self._active(first + upper[0])
        rise, curve = self._derivatives(hidden)
        scores = hidden @ upper[1] + upper[2]
        above = self.loss.first(scores, targets) * weights
        reaching = above @ upper[1].T
        below = reaching * rise
        kept = (scores, hidden, rise, curve, above, reaching)
        return Slope(below, (np.add.reduce(below), hidden.T @ above, np.add.reduce(above)), kept)

    def bend(self, slope: Slope, upper: Parameters, targets: Array, weights: Array, along: Parameters) -> Bend:
        """The R-operator."""
        scores, hidden, rise, curve, above, reaching = slope.kept
        r_outputs, r_weights = along[0] + along[1], along[2]
        r_hidden = rise * r_outputs
        r_scores = r_hidden @ upper[1] + hidden @ r_weights + along[3]
        r_above = self.loss.second(scores, targets, r_scores) * weights
        r_reaching = r_above @ upper[1].T + above @ r_weights.T
        r_below = r_reaching * rise + reaching * curve * r_outputs
        r_upper = r_hidden.T @ above + hidden.T @ r_above
        return Bend(r_below, (np.add.reduce(r_below), r_upper, np.add.reduce(r_above)), r_scores)

    def _active(self, outputs: Array) -> Array:
        found: Array = np.tanh(outputs) if self.activation == "tanh" else expit(outputs)
        return found

    def _derivatives(self, hidden: Array) -> tuple[Array, Array]:
        """First and second derivative of the activation, from its values."""
        if self.activation == "tanh":
            rise = 1 - hidden * hidden
            return rise, -2 * hidden * rise
        rise = hidden - hidden * hidden
        return rise, rise * (1 - 2 * hidden)
