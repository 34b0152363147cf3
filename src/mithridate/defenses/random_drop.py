"""Control: rows taken out at random, as many and when another defense does.

Asked for wherever a defense drops rows: an independent re-run of EPIC is suspected of having dropped random rows by a
mix-up of indices (the released code of PureGen, Bhat et al. 2024, https://arxiv.org/abs/2405.18627), and nobody could
tell from its table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.control import MatchedControl
from mithridate.dataset import Dataset
from mithridate.defense import Defense, Truth
from mithridate.facts import Fact, defender
from mithridate.model import Classifier
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class RandomDrop(MatchedControl):
    """Drop random rows, as many as another defense drops, in the same rounds."""

    name: ClassVar[str] = "random-drop"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender("poison rate", "as many rows go as the defense that it controls took, in a training of its own"),
    )
    judges: ClassVar[bool] = False

    like: Defense
    """The defense whose number and rounds are repeated."""
    per_class: bool = False
    """Take out as many rows of each class as the other one did, instead of as many rows in all."""

    def suspicion(self, data: Dataset, model: Classifier | None, seed: Seed) -> Tensor:
        """Random numbers ``(N,)`` in [0, 1)."""
        return torch.rand(len(data), generator=seed.generator(), dtype=torch.float64).to(data.device)

    def told(self, truth: Truth) -> RandomDrop:
        """Pass on what the referee says to the defense it controls."""
        return RandomDrop(like=self.like.told(truth), per_class=self.per_class)
