"""Loss sanitisation: train, remove the rows of the highest loss, train again.

With one round it is the loss defense of Stronger Data Poisoning Attacks Break Data Sanitization Defenses, Koh,
Steinhardt and Liang 2018, https://arxiv.org/abs/1811.00741. With more it is the trimmed loss of Manipulating Machine
Learning, Jagielski et al., IEEE S&P 2018, https://arxiv.org/abs/1804.00308 (TRIM, algorithm 2), for classification:
train on the rows kept, keep those of the lowest loss among *all* rows, and so on until the same rows are kept.

Differences from the papers:

1. The loss is the cross-entropy of the network's logits, whatever the learner minimises (Koh et al.: the victim's
   hinge; TRIM: squared error). For two classes and a margin it ranks rows as any falling loss of that margin does.
2. TRIM begins with random rows; here the first round trains on all. So one round is the plain loss defense, and nothing
   is drawn beyond the training.
3. TRIM is told how many rows are clean; here ``fraction`` is assumed.
4. TRIM stops once the loss falls no more. Trainings by gradient steps need not lower it, so rounds end where a set of
   rows has been kept before (after which they would repeat for ever), or after ``rounds``.
5. A row of each class stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Sanitiser, Verdict
from mithridate.errors import ConfigError
from mithridate.facts import Fact, assumed_rate, defender
from mithridate.learner import Learner, predictions
from mithridate.model import Classifier
from mithridate.ops.losses import row_losses
from mithridate.ops.sparing import expendable
from mithridate.ops.suspects import members, worst
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class LossSanitisation(Sanitiser):
    """Remove the rows of the highest loss, once or until the same rows are kept."""

    name: ClassVar[str] = "loss-sanitisation"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender("poisoned rows", "of high loss in a network trained on all rows", where="Koh et al. 2018"),
    )

    fraction: float = 0.1
    """Share of the rows that goes, rounded down, in (0, 1). Koh et al.: 0.1; TRIM: the poisoned share, known."""
    per_class: bool = True
    """Take this share from each class, instead of from all rows together. Koh et al.: yes; TRIM has no classes."""
    rounds: int = 1
    """Most times that a network is trained and rows are chosen. Koh et al.: 1; TRIM's code: 400."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if not 0 < self.fraction < 1:
            raise ConfigError(f"fraction must lie in (0, 1), but it is {self.fraction:g}")
        if self.rounds < 1:
            raise ConfigError(f"rounds must be at least 1, but it is {self.rounds}")

    def facts(self) -> tuple[Fact, ...]:
        """Where the poison lies, and how much there is."""
        return (*self.assumes, assumed_rate(self.fraction, where="fraction"))

    def sift(self, learner: Learner, data: Dataset, *, seed: Seed) -> Verdict:
        """Scores are the losses in the last round, in nats; of equal ones the lower id goes first.

        Every round trains from the same seed. So the first network is that of no defense, and the last round of a
        trimmed loss that has settled trains the network which the defense ends with.
        """
        flagged = torch.zeros(len(data), dtype=torch.bool, device=data.device)
        reused, before = 0.0, set()
        for _ in range(self.rounds):
            found = learner.fit(data.at(~flagged), seed=seed)
            reused += found.reused
            scores = losses_of(found.model, data)
            flagged = self._highest(scores, data)
            kept = flagged.cpu().numpy().tobytes()
            if kept in before:
                break
            before.add(kept)
        return Verdict(scores=scores, flagged=flagged, reused=reused)

    def _highest(self, scores: Tensor, data: Dataset) -> Tensor:
        """Which rows go, ``(N,)`` bool."""
        flagged = torch.zeros(len(data), dtype=torch.bool, device=scores.device)
        groups = members(data) if self.per_class else [data.ids.argsort()]
        for rows in groups:
            count = int(self.fraction * len(rows) + 1e-9)  # where 0.1 of 30 is 3
            order = rows[worst(scores[rows], len(rows))]
            flagged[order[expendable(data.labels[order])][:count]] = True
        return flagged


def losses_of(model: Classifier, data: Dataset) -> Tensor:
    """Loss ``(N,)`` float64 of each unaugmented row, in evaluation mode."""
    parts = torch.split(torch.arange(len(data), device=data.device), 512)
    taken = (data.take(part) for part in parts)
    return torch.cat([row_losses(predictions(model, inputs), labels) for inputs, labels in taken])
