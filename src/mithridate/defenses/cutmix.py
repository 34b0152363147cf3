"""CutMix: paste a rectangle of another image into each, and mix the labels by area.

Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019,
https://arxiv.org/abs/1905.04899, algorithm 1. As a defense against poison: Borgnia et al., Strong Data Augmentation
Sanitizes Poisoning and Backdoor Attacks Without an Accuracy Tradeoff, ICASSP 2021, https://arxiv.org/abs/2011.09527.

Differences from the paper and what is released:
1. The rectangle holds the pixels whose centres lie inside the drawn one, so that its mean area is what the formula
   says; the released code rounds both sides down to even numbers of pixels.
2. The loss is that of the mixed label, not the mixed sum of the losses: for cross-entropy they are the same number.
3. A rectangle may be drawn for every row (``per="row"``) instead of once a batch. The coin of ``p`` is then tossed for
   every row too.
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
from mithridate.ops.mixing import no_images, partners, pasted, rectangles
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class CutMix(HookDefense):
    """Train on images with a rectangle of another image pasted in, labels mixed by the pixels really replaced."""

    name: ClassVar[str] = "cutmix"
    assumes: ClassVar[tuple[Fact, ...]] = ()

    p: float = 0.5
    """Probability that a batch (or row, see ``per``) is changed. Paper: 0.5 on CIFAR-10, 1 on ImageNet."""
    alpha: float = 1.0
    """The share of the area is drawn from Beta(alpha, alpha), before it is cut at the edges. Paper: 1."""
    per: Literal["batch", "row"] = "batch"
    """Whether a rectangle is drawn once a batch (as released) or for every row."""

    def __post_init__(self) -> None:
        """Refuse what is no probability and areas without a distribution."""
        if not 0 < self.p <= 1:
            raise ConfigError(f"p must lie in (0, 1], but it is {self.p:g}")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha must be a positive number, but it is {self.alpha:g}")
        if self.per not in ("batch", "row"):
            raise ConfigError(f"per must be 'batch' or 'row', but it is '{self.per}'")

    def problems(self, space: Space) -> list[str]:
        """Why it cannot be used on data of this space; empty where it can."""
        return no_images(space, self.name)

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook; its draws come from the training."""
        return _Pasting(self)


class _Pasting(Hook):
    """Pastes into every batch."""

    def __init__(self, settings: CutMix) -> None:
        self.settings = settings
        self._space: Space | None = None

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> None:
        wrong = self.settings.problems(data.space)
        if wrong:
            raise ConfigError("; ".join(wrong))
        self._space = data.space

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        assert self._space is not None  # the loop calls drop before every epoch
        rows = len(batch.ids)
        count = rows if self.settings.per == "row" else 1
        height, width = batch.inputs.shape[2:]
        mask = rectangles(count, self.settings.alpha, (height, width), generator)
        tossed = torch.rand(count, 1, 1, generator=generator, device=generator.device) < self.settings.p
        row = partners(rows, 2, generator)[1]
        inputs, labels = pasted(batch.inputs, batch.labels, mask=mask & tossed, row=row, space=self._space)
        return replace(batch, inputs=inputs, labels=labels)
