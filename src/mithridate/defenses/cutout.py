"""Cutout: blank a square of every training image.

DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
https://arxiv.org/abs/1708.04552, section 3. Against poison: Borgnia et al., Strong Data Augmentation Sanitizes
Poisoning and Backdoor Attacks Without an Accuracy Tradeoff, ICASSP 2021, https://arxiv.org/abs/2011.09527.

Differences from the paper and what is released:
1. The square is filled with the mean colour of the space (0 where it has none), in natural units. Models normalise
   inside themselves, so this is the 0 of normalised images that the paper fills with. (``cutout`` of the learner's
   augmentation fills with 0 in natural units, black.)
2. A square of an odd side has all its pixels; the released code loses one row and column of it.
3. The side is a fraction of the image's shorter side, so that it means the same for every size of image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.defense import HookDefense
from mithridate.errors import ConfigError
from mithridate.facts import Fact
from mithridate.learner import Batch, Hook, Learner, Progress
from mithridate.model import Classifier
from mithridate.ops.mixing import cut_out, no_images
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class Cutout(HookDefense):
    """Train on images with a square blanked around a random pixel; it may reach over the edge."""

    name: ClassVar[str] = "cutout"
    assumes: ClassVar[tuple[Fact, ...]] = ()

    side: float = 0.5
    """Side of the square as a fraction of the image's shorter side, rounded to whole pixels, at least one. Paper: 16
    of 32 pixels on CIFAR-10."""

    def __post_init__(self) -> None:
        """Refuse squares without area, and larger than the image."""
        if not 0 < self.side <= 1:
            raise ConfigError(f"side must lie in (0, 1], a fraction of the image's side, but it is {self.side:g}")

    def problems(self, space: Space) -> list[str]:
        """Why it cannot be used on data of this space; empty where it can."""
        return no_images(space, self.name)

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook; its draws come from the training."""
        return _Blanking(self)


class _Blanking(Hook):
    """Blanks a square of every image."""

    def __init__(self, settings: Cutout) -> None:
        self.settings = settings
        self._space: Space | None = None

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> None:
        wrong = self.settings.problems(data.space)
        if wrong:
            raise ConfigError("; ".join(wrong))
        self._space = data.space

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        assert self._space is not None  # the loop calls drop before every epoch
        inputs = cut_out(batch.inputs, side=self.settings.side, space=self._space, generator=generator)
        return replace(batch, inputs=inputs)
