"""Sphere: remove the rows that lie far from the centre of their class.

Certified Defenses for Data Poisoning Attacks, Steinhardt, Koh and Liang, NeurIPS 2017,
https://arxiv.org/abs/1706.03691, section 2; percentiles are those of Stronger Data Poisoning Attacks Break Data
Sanitization Defenses, Koh, Steinhardt and Liang 2018, https://arxiv.org/abs/1811.00741.

Differences from the papers:

1. Their oracle variant takes the centres of the clean rows, and its certificate holds for that one alone. This is the
   empirical variant, all that a defender can do: centres and radii are those of the rows given, poison among them.
   Poison can pull both towards itself.
2. Rows are compared by their inputs in units of the space's mean and standard deviation, so that a column of large
   numbers does not decide alone; the papers take the inputs as they are. ``space="features"`` takes the penultimate
   features of a probe, as filters do.
3. ``centre="median"`` is ours: the median in each direction, which few far rows cannot move.
4. Any number of classes, one sphere each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mithridate.dataset import Dataset
from mithridate.defense import Sanitiser, Verdict, Where, check_where, points_of
from mithridate.facts import Fact, assumed_rate, defender
from mithridate.learner import Learner
from mithridate.ops.centres import Centre, beyond, centre_of, check_centre, check_percentile
from mithridate.ops.suspects import check_features, members
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class Sphere(Sanitiser):
    """Remove from each class the rows beyond a percentile of the distances to its centre."""

    name: ClassVar[str] = "sphere"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "farther than others from the centre of their class",
            where="Steinhardt et al. 2017, section 2",
        ),
        defender(
            "trusted rows",
            "none: centres are those of the rows under suspicion (the certificate asks for clean ones)",
            where="difference 1",
        ),
    )

    percentile: float = 90.0
    """Percentile of a class's distances beyond which rows go, in (0, 100). Koh et al.: 90, so that a tenth goes."""
    centre: Centre = "mean"
    """What the centre of a class is: ``mean`` or ``median``. Papers: mean."""
    space: Where = "inputs"
    """Where rows are compared: ``inputs`` (scaled; no probe is trained) or ``features``. Papers: inputs."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        check_percentile(self.percentile)
        check_centre(self.centre)
        check_where(self.space)

    def facts(self) -> tuple[Fact, ...]:
        """Where the poison lies, and how much there is."""
        return (*self.assumes, assumed_rate(1 - self.percentile / 100, where="percentile"))

    def sift(self, learner: Learner, data: Dataset, *, seed: Seed) -> Verdict:
        """Scores are distances to the centre of the class. Nothing is random but the probe's training."""
        points, reused = points_of(learner, data, where=self.space, seed=seed)
        check_features(points, data, who=self.name)
        scores = torch.zeros(len(data), dtype=torch.float64, device=points.device)
        flagged = torch.zeros(len(data), dtype=torch.bool, device=points.device)
        for rows in members(data):
            mine = points[rows]
            scores[rows] = (mine.double() - centre_of(mine, self.centre)).norm(dim=1)
            flagged[rows] = beyond(scores[rows], self.percentile)
        return Verdict(scores=scores, flagged=flagged, reused=reused)
