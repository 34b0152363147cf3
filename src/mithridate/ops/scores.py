"""Losses of a row's scores, with the derivatives that a sweep back through training needs, written out.

Scores are ``(N, c)``: one column for two classes (``logistic``, ``squared``, ``smoothed-hinge``), or one a class.
Targets are of the same shape and real, so that labels have derivatives too. Values are torch's, to be differentiated
by it; derivatives are NumPy's, whose small operations are two to four times faster on a CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor
from torch.nn import functional

from mithridate.errors import ConfigError

Array = NDArray[np.float64]
LossName = Literal["logistic", "softmax", "squared", "smoothed-hinge"]


class ScoreLoss(ABC):
    """A loss of scores ``S`` ``(N, c)`` against targets ``Y`` ``(N, c)``, row by row."""

    name: ClassVar[str]
    low: ClassVar[float]
    """Target of a class that a row is not of; of the class it is of: 1."""
    single: ClassVar[bool] = True
    """Whether two classes share one column of scores."""

    def columns(self, num_classes: int) -> int:
        """How many columns of scores there are. Raises :class:`ConfigError` where it cannot do so many classes."""
        return 1 if self.single and num_classes == 2 else num_classes

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Targets ``(N, c)`` float64 of labels ``(N,)``."""
        return self.soft_targets(functional.one_hot(labels, num_classes).to(torch.float64), num_classes)

    def soft_targets(self, likely: Tensor, num_classes: int) -> Tensor:
        """Targets ``(N, c)`` of class probabilities ``(N, num_classes)``."""
        kept = likely[:, 1:] if self.columns(num_classes) == 1 else likely
        return self.low + (1.0 - self.low) * kept

    def logits(self, scores: Tensor) -> Tensor:
        """Logits ``(N, num_classes)``, the largest that of the class called."""
        return scores if scores.shape[1] > 1 else torch.cat([torch.zeros_like(scores), scores], dim=1)

    @abstractmethod
    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row ``(N,)``; differentiable by torch."""

    @abstractmethod
    def first(self, scores: Array, targets: Array) -> Array:
        """Derivative of the loss by the scores, ``(N, c)``."""

    @abstractmethod
    def second(self, scores: Array, targets: Array, along: Array) -> Array:
        """Derivative of :meth:`first` along a change ``(N, c)`` of the scores, ``(N, c)``."""

    @abstractmethod
    def cross(self, scores: Array, targets: Array, along: Array) -> Array:
        """Derivative by the targets of the inner product of :meth:`first` with ``along``, ``(N, c)``."""


@dataclass(frozen=True)
class Logistic(ScoreLoss):
    """Log-loss of one column through a sigmoid; targets 0 and 1."""

    name: ClassVar[str] = "logistic"
    low: ClassVar[float] = 0.0

    def columns(self, num_classes: int) -> int:
        """One; for two classes only."""
        if num_classes != 2:
            raise ConfigError(f"the logistic loss is for 2 classes, but the data has {num_classes}; use loss: softmax")
        return 1

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``log(1 + exp s) - y s``."""
        return (_softplus(scores) - targets * scores).sum(1)

    def first(self, scores: Array, targets: Array) -> Array:
        """``p - y``."""
        found: Array = expit(scores) - targets
        return found

    def second(self, scores: Array, targets: Array, along: Array) -> Array:
        """``p (1 - p)`` times the change."""
        likely: Array = expit(scores)
        found: Array = likely * (1 - likely) * along
        return found

    def cross(self, scores: Array, targets: Array, along: Array) -> Array:
        """Minus the change."""
        return -along


@dataclass(frozen=True)
class Softmax(ScoreLoss):
    """Cross-entropy of a softmax; targets are probabilities."""

    name: ClassVar[str] = "softmax"
    low: ClassVar[float] = 0.0
    single: ClassVar[bool] = False

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``log sum exp s - <y, s>``."""
        return torch.logsumexp(scores, 1) - (targets * scores).sum(1)

    def first(self, scores: Array, targets: Array) -> Array:
        """``p - y``."""
        found: Array = softmax(scores, 1) - targets
        return found

    def second(self, scores: Array, targets: Array, along: Array) -> Array:
        """``p (a - <p, a>)``."""
        likely: Array = softmax(scores, 1)
        found: Array = likely * (along - (likely * along).sum(1, keepdims=True))
        return found

    def cross(self, scores: Array, targets: Array, along: Array) -> Array:
        """Minus the change."""
        return -along


@dataclass(frozen=True)
class Squared(ScoreLoss):
    """Half the squared distance to targets -1 and 1: Adaline, ridge; several classes one against the rest."""

    name: ClassVar[str] = "squared"
    low: ClassVar[float] = -1.0

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(s - y)^2 / 2``, summed over the columns."""
        return 0.5 * (scores - targets).square().sum(1)

    def first(self, scores: Array, targets: Array) -> Array:
        """``s - y``."""
        return scores - targets

    def second(self, scores: Array, targets: Array, along: Array) -> Array:
        """The change."""
        return along

    def cross(self, scores: Array, targets: Array, along: Array) -> Array:
        """Minus the change."""
        return -along


@dataclass(frozen=True)
class SmoothedHinge(ScoreLoss):
    """``t log(1 + exp((1 - y s) / t))``: the hinge of a linear SVM for ``t`` towards 0; targets -1 and 1.

    The smoothing of Koh, Steinhardt and Liang 2018 (https://arxiv.org/abs/1811.00741); theirs: t = 0.001.
    """

    name: ClassVar[str] = "smoothed-hinge"
    low: ClassVar[float] = -1.0

    temperature: float = 0.1

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The smoothed hinge, summed over the columns."""
        return self.temperature * _softplus((1 - targets * scores) / self.temperature).sum(1)

    def first(self, scores: Array, targets: Array) -> Array:
        """``-y p``, with ``p`` the sigmoid of ``(1 - y s) / t``."""
        return -targets * self._inside(scores, targets)

    def second(self, scores: Array, targets: Array, along: Array) -> Array:
        """``y^2 p (1 - p) / t`` times the change."""
        inside = self._inside(scores, targets)
        return targets**2 * inside * (1 - inside) / self.temperature * along

    def cross(self, scores: Array, targets: Array, along: Array) -> Array:
        """``(y s p (1 - p) / t - p)`` times the change."""
        inside = self._inside(scores, targets)
        return (targets * scores * inside * (1 - inside) / self.temperature - inside) * along

    def _inside(self, scores: Array, targets: Array) -> Array:
        found: Array = expit((1 - targets * scores) / self.temperature)
        return found


def _softplus(values: Tensor) -> Tensor:
    """``log(1 + exp x)`` to the last digit; torch's own goes straight from 20 on, which is off by 2e-9."""
    return torch.logaddexp(values, torch.zeros_like(values))


LOSSES: Mapping[LossName, ScoreLoss] = MappingProxyType(
    {"logistic": Logistic(), "softmax": Softmax(), "squared": Squared(), "smoothed-hinge": SmoothedHinge()}
)
"""The losses by name."""
