"""Mixup: train on weighted sums of rows and of their labels.

Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, https://arxiv.org/abs/1710.09412, equation 2. With
more than two rows in a sum, as a defense against poison: Borgnia et al., Strong Data Augmentation Sanitizes Poisoning
and Backdoor Attacks Without an Accuracy Tradeoff, ICASSP 2021, https://arxiv.org/abs/2011.09527.

Differences from the papers:
1. The loss is that of the mixed label, not the mixed sum of the losses: for cross-entropy they are the same number.
2. The first row of every sum is the row itself and the others are shuffled, as in the first paper; the poisoning
   frameworks shuffle all of them, which gives sums of the same distribution in another order.
3. Weights may be drawn for every row (``per="row"``, what equation 2 says) instead of once a batch (what is released).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.defense import HookDefense
from mithridate.errors import ConfigError
from mithridate.facts import Fact
from mithridate.learner import Batch, Hook, Learner, Progress
from mithridate.model import Classifier
from mithridate.ops.mixing import dirichlet, mixed, partners
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class Mixup(HookDefense):
    """Train on weighted sums of rows, labels mixed with the same weights; images and tables."""

    name: ClassVar[str] = "mixup"
    assumes: ClassVar[tuple[Fact, ...]] = ()

    ways: int = 2
    """Rows in a sum. Mixup: 2; against poison: 4."""
    alpha: float = 1.0
    """Concentration of the Dirichlet distribution of the weights: 1 makes all weights equally likely, less makes one
    row prevail. Mixup: 1 on CIFAR-10, 0.2 on ImageNet."""
    per: Literal["batch", "row"] = "batch"
    """Whether weights are drawn once a batch (as released) or for every row."""

    def __post_init__(self) -> None:
        """Refuse sums of one row and weights without a distribution."""
        if self.ways < 2:
            raise ConfigError(f"ways must be at least 2 rows, but it is {self.ways}; leave mixup out to mix none")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha must be a positive number, but it is {self.alpha:g}")
        if self.per not in ("batch", "row"):
            raise ConfigError(f"per must be 'batch' or 'row', but it is '{self.per}'")

    def problems(self, space: Space) -> list[str]:
        """Why it cannot be used on data of this space: never."""
        return []

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook; its draws come from the training."""
        return _Mixing(self)


class _Mixing(Hook):
    """Mixes every batch."""

    def __init__(self, settings: Mixup) -> None:
        self.settings = settings
        self._space: Space | None = None

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> None:
        self._space = data.space

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        assert self._space is not None  # the loop calls drop before every epoch
        count, ways = len(batch.ids), self.settings.ways
        weights = dirichlet(count if self.settings.per == "row" else 1, ways, self.settings.alpha, generator)
        rows = partners(count, ways, generator)
        inputs, labels = mixed(batch.inputs, batch.labels, weights=weights, rows=rows, space=self._space)
        return replace(batch, inputs=inputs, labels=labels)
