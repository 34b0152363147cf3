"""MaxUp: of several random augmentations of each row, train on the one with the largest loss.

Gong et al., MaxUp: A Simple Way to Improve Generalization of Neural Network Training, 2020,
https://arxiv.org/abs/2002.09024, algorithm 1. Against poison: Borgnia et al., Strong Data Augmentation Sanitizes
Poisoning and Backdoor Attacks Without an Accuracy Tradeoff, ICASSP 2021, https://arxiv.org/abs/2011.09527.

Differences from the paper and what is released:
1. Losses are compared in evaluation mode, without gradients and in float32: so the comparison leaves the statistics of
   batch norm alone, draws no dropout, and a row's worst draw does not depend on the rows around it. Every module then
   gets back the mode it had. The step itself is the usual one.
2. During the warm-up every row gets one draw of the base augmentation. The poisoning framework leaves rows
   unaugmented then.
3. The worst draw is picked row by row. The poisoning framework writes all draws of Cutout over the same tensor and
   takes the mean of their losses instead of the maximum, and fails on mixup.
4. Among equal losses the first draw is taken; a loss that is not a number is never taken for the worst.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense, HookDefense
from mithridate.errors import ConfigError
from mithridate.facts import Fact
from mithridate.learner import Batch, Hook, Learner, Progress
from mithridate.model import Classifier
from mithridate.ops.mixing import cut_out, no_images
from mithridate.seeding import Seed

BASES = ("cutout", "cutmix", "mixup")
"""The defenses whose draws may be compared: those that do nothing but augment."""


@dataclass(frozen=True, kw_only=True)
class MaxUp(HookDefense):
    """Train on the worst of several augmentations of each row, judged by the network as it stands."""

    name: ClassVar[str] = "maxup"
    assumes: ClassVar[tuple[Fact, ...]] = ()

    base: Defense | None = None
    """The augmentation that is drawn: a cutout, cutmix or mixup; none for a cutout of half the image's side. The
    paper: cutout on CIFAR-10, CutMix on ImageNet."""
    draws: int = 4
    """Draws that are compared, each a forward pass. Against poison: 4."""
    warmup: int = 5
    """Epochs before the first comparison, trained with one draw a row. Against poison: 5."""

    def __post_init__(self) -> None:
        """Refuse a comparison of one draw, and bases that do more than augment."""
        if self.draws < 2:
            raise ConfigError(f"draws must be at least 2, but it is {self.draws}; one draw is the base itself")
        if self.warmup < 0:
            raise ConfigError(f"warmup must be at least 0 epochs, but it is {self.warmup}")
        if self.base is not None and self.base.name not in BASES:
            raise ConfigError(f"base must be one of {', '.join(BASES)}, or none, but it is {self.base.name}")

    def problems(self, space: Space) -> list[str]:
        """Why it cannot be used on data of this space; empty where it can."""
        needs_images = self.base is None or self.base.name != "mixup"
        return no_images(space, f"{self.name} of {self.base.name if self.base else 'cutout'}") if needs_images else []

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook around a fresh hook of the base; their draws come from the training."""
        return _Worst(self, self.base.hook(learner, seed) if isinstance(self.base, HookDefense) else _Half())


class _Half(Hook):
    """Cutout of half the image's side."""

    def __init__(self) -> None:
        self._space: Space | None = None

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> None:
        self._space = data.space

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        assert self._space is not None  # the loop calls drop before every epoch
        return replace(batch, inputs=cut_out(batch.inputs, side=0.5, space=self._space, generator=generator))


class _Worst(Hook):
    """Draws several times, and keeps the worst draw of every row."""

    def __init__(self, settings: MaxUp, base: Hook) -> None:
        self.settings = settings
        self._base, self._draws = base, 1

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> None:
        wrong = self.settings.problems(data.space)
        if wrong:
            raise ConfigError("; ".join(wrong))
        self._base.drop(data, active, progress)
        done = progress.epoch if progress else 0  # known again after a resume, so there is nothing to be kept
        self._draws = self.settings.draws if done >= self.settings.warmup else 1

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        drawn = [self._base.transform(model, batch, generator) for _ in range(self._draws)]
        return worst(model, drawn) if len(drawn) > 1 else drawn[0]


def worst(model: Classifier, drawn: list[Batch]) -> Batch:
    """Of several batches of the same rows, each row from the batch where its loss is largest.

    All inputs are ``(n, *shape)``, all labels ``(n,)`` or all ``(n, C)``; the network is left as it was.
    """
    with _evaluating(model), torch.no_grad():
        losses = [functional.cross_entropy(model(each.inputs).float(), each.labels, reduction="none") for each in drawn]
    pick = torch.stack(losses).nan_to_num(nan=-torch.inf, posinf=torch.inf).argmax(0)  # (n,), the first of equals
    inputs, labels = drawn[0].inputs, drawn[0].labels
    for k, each in enumerate(drawn[1:], 1):
        inputs = torch.where(_shaped(pick == k, inputs), each.inputs, inputs)
        labels = torch.where(_shaped(pick == k, labels), each.labels, labels)
    return replace(drawn[0], inputs=inputs, labels=labels)


def _shaped(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``(n,)`` with as many axes as ``like``."""
    return mask.reshape(-1, *[1] * (like.ndim - 1))


@contextmanager
def _evaluating(model: Classifier) -> Iterator[None]:
    """Evaluation mode inside the block; each module gets back the mode it had, frozen parts too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
