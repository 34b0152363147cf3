"""Control: the rows of the highest training loss taken out, as many and when another defense does.

What a filter finds is mostly the hard tail of the data. Dropping by loss is the plainest way to leave that out, as
trimmed losses do (Shen and Sanghavi 2019, https://arxiv.org/abs/1810.11874); a filter worth its name does better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.control import MatchedControl
from mithridate.dataset import Dataset
from mithridate.defense import Defense, Truth
from mithridate.facts import Fact, defender
from mithridate.learner import predictions
from mithridate.model import Classifier
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class TopLossDrop(MatchedControl):
    """Drop the rows of the highest loss, as many as another defense drops, in the same rounds."""

    name: ClassVar[str] = "top-loss-drop"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender("poison rate", "as many rows go as the defense that it controls took, in a training of its own"),
    )
    judges: ClassVar[bool] = True

    like: Defense
    """The defense whose number and rounds are repeated."""
    per_class: bool = False
    """Take out as many rows of each class as the other one did, instead of as many rows in all."""

    def suspicion(self, data: Dataset, model: Classifier | None, seed: Seed) -> Tensor:
        """Cross-entropy ``(N,)`` of the unaugmented rows in evaluation mode."""
        assert model is not None  # it judges
        parts = torch.split(torch.arange(len(data), device=data.device), 512)
        losses = [_losses(model, *data.take(part)) for part in parts]
        return torch.cat(losses)

    def told(self, truth: Truth) -> TopLossDrop:
        """Pass on what the referee says to the defense it controls."""
        return TopLossDrop(like=self.like.told(truth), per_class=self.per_class)


def _losses(model: Classifier, inputs: Tensor, labels: Tensor) -> Tensor:
    """Losses ``(n,)``; one that is no number counts as the highest."""
    found = functional.cross_entropy(predictions(model, inputs).double(), labels, reduction="none")
    return found.nan_to_num(nan=torch.inf)
