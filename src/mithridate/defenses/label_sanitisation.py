"""Label sanitisation: give a row the label of its nearest neighbours, where these agree.

Label Sanitization against Label Flipping Poisoning Attacks, Paudice, Munoz-Gonzalez and Lupu 2018,
https://arxiv.org/abs/1803.00992, algorithm 2.

Differences from the paper:

1. Any number of classes: the label is the most frequent one among the neighbours, and the agreement its share of them.
   Where two labels are most frequent, the row keeps its own, whichever it is.
2. All rows are judged by the labels they came with, so the order in which they are relabelled does not matter.
3. Rows are compared by their inputs in units of the space's mean and standard deviation; the paper takes the inputs as
   they are. ``space="features"`` takes the penultimate features of a probe.
4. ``action="drop"`` removes the rows instead of relabelling them.
5. Of a class that would lose all its rows so, the row whose label has most votes stays as it is.

A row that is relabelled is not removed: it counts under ``relabelled`` among the facts of a training, and neither as
poison found nor as a clean row lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Sanitiser, Verdict, Where, check_where, points_of
from mithridate.errors import ConfigError
from mithridate.facts import Fact, defender
from mithridate.learner import Learner
from mithridate.ops.pairwise import neighbours
from mithridate.ops.sparing import spared
from mithridate.ops.suspects import check_features
from mithridate.seeding import Seed

Action = Literal["relabel", "drop"]


@dataclass(frozen=True, kw_only=True)
class LabelSanitisation(Sanitiser):
    """Relabel, or drop, the rows whose nearest neighbours agree on another label."""

    name: ClassVar[str] = "label-sanitisation"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "labelled otherwise than most of their neighbours",
            where="Paudice et al. 2018, algorithm 2",
        ),
        defender("trusted rows", "none: neighbours are rows under suspicion", where="algorithm 2"),
    )

    k: int = 10
    """Neighbours asked, at least 1; a row is not its own. A published reimplementation: 10."""
    threshold: float = 0.5
    """Share of the neighbours that must have one label, in (0, 1]; as much is enough. Paper: at least 0.5."""
    space: Where = "inputs"
    """Where rows are compared: ``inputs`` (scaled; no probe is trained) or ``features``. Paper: inputs."""
    action: Action = "relabel"
    """What is done with a row that they call otherwise: ``relabel`` or ``drop``. Paper: relabel."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        check_where(self.space)
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, but it is {self.k}")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold must lie in (0, 1], but it is {self.threshold:g}")
        if self.action not in ("relabel", "drop"):
            raise ConfigError(f"action must be 'relabel' or 'drop', but it is '{self.action}'")

    @property
    def drops(self) -> bool:  # type: ignore[override]
        """Only where that is the action: relabelling needs no controls that remove as many rows."""
        return self.action == "drop"

    def sift(self, learner: Learner, data: Dataset, *, seed: Seed) -> Verdict:
        """Scores are the share of the neighbours whose label is another than the row's, in [0, 1]; NaN for one row.

        They are comparable between classes. Nothing is random but the probe's training.
        """
        points, reused = points_of(learner, data, where=self.space, seed=seed)
        check_features(points, data, who=self.name)
        votes = self._votes(points, data.labels, data.space.num_classes)
        scores = 1 - votes.gather(1, data.labels[:, None])[:, 0]
        called, agreed = plurality(votes)
        otherwise = agreed & (called != data.labels) & (votes.amax(1) >= self.threshold)
        otherwise = spared(otherwise, scores, data)
        if self.action == "drop":
            return Verdict(scores=scores, flagged=otherwise, reused=reused)
        labels = torch.where(otherwise, called, data.labels)
        return Verdict(scores=scores, flagged=torch.zeros_like(otherwise), labels=labels, reused=reused)

    def _votes(self, points: Tensor, labels: Tensor, classes: int) -> Tensor:
        """The share of each row's neighbours that has each label, ``(N, classes)`` float64."""
        found = torch.zeros(len(labels), classes, dtype=torch.float64, device=labels.device)
        for rows, near in neighbours(points, self.k):
            counts = torch.zeros(len(near), classes, dtype=torch.float64, device=labels.device)
            found[rows] = counts.scatter_add_(1, labels[near], torch.ones_like(near, dtype=torch.float64))
        return found / found.sum(1, keepdim=True)


def plurality(votes: Tensor) -> tuple[Tensor, Tensor]:
    """The label with most of ``votes`` ``(N, C)``, and whether no other has as many, both ``(N,)``."""
    most = votes.amax(1, keepdim=True)
    return votes.argmax(1), (votes == most).sum(1) == 1
