"""CIFAR-10 as Convex Polytope splits it: 48,000 rows to pretrain on, 500 to transfer to, 50 targets.

Zhu et al., "Transferable Clean-Label Poisoning Attacks on Deep Neural Nets", ICML 2019,
https://arxiv.org/abs/1905.05897, and the authors' release. As there: networks are pretrained on the first 4,800
training images of each class; of the 200 that are left, the first 50 of each class are transferred to, and frogs number
51 to 100 are the targets; bases are the first five ships of the 500. Inputs are normalised with the mean .4914, .4822,
.4465 and the deviation .2023, .1994, .2010. The 50 set-ups are ``presets/convex-polytope-2019.json``.

Our reading:

1. "First" is by the original index. The authors' file of the split was not at hand, so that this is not compared row by
   row.
2. The targets stand behind the 10,000 test rows, with ids 10,000 + their training index, since targets are test rows
   here. Clean accuracy is over all 10,050: the 50 more frogs move it by less than half a point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.datasets.named import CIFAR10
from mithridate.source import Source, Split

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
PRETRAINING = "0:4800"
OTHERS = "4800:5000"
TRANSFERRED = 50
"""How many of each class's other rows are transferred to; the next 50 frogs are the targets."""
FROG = 6
FIRST_TARGET_ID = 10_000
"""What a target's training index is counted from to be its id: behind those of the test rows."""


@dataclass(frozen=True, kw_only=True)
class ConvexPolytopeData(Source):
    """CIFAR-10 split as in Zhu et al. 2019: 48,000 rows to pretrain on, or 500 to transfer to with 50 targets."""

    name: ClassVar[str] = "convex-polytope-data"

    part: Literal["pretraining", "transfer"] = "transfer"
    """``pretraining``: the first 4,800 training rows of each class, and the 10,000 test rows. ``transfer``: the 50 rows
    of each class after them, and the test rows with the 50 targets behind them."""

    def load(self) -> Split:
        """``(N, 3, 32, 32)`` uint8. Raises :class:`DataError` where the whole of CIFAR-10 is nowhere."""
        if self.part == "pretraining":
            return CIFAR10(per_class=PRETRAINING, mean=MEAN, std=STD).load()
        data = CIFAR10(per_class=OTHERS, mean=MEAN, std=STD).load()
        others, number = data.train, _number(data.train)
        frogs = others.at((others.labels == FROG) & (number >= TRANSFERRED) & (number < 2 * TRANSFERRED))
        targets = replace(frogs, ids=FIRST_TARGET_ID + frogs.ids)
        return Split(train=others.at(number < TRANSFERRED), test=data.test.updated(targets))


def _number(data: Dataset) -> Tensor:
    """How many rows of its class stand before each row, ``(N,)``."""
    number = torch.empty_like(data.labels)
    for label in range(data.space.num_classes):
        own = data.labels == label
        number[own] = torch.arange(int(own.sum()))
    return number
