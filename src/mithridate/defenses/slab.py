"""Slab: remove the rows that lie far out along the line between the centres of the classes.

Certified Defenses for Data Poisoning Attacks, Steinhardt, Koh and Liang, NeurIPS 2017,
https://arxiv.org/abs/1706.03691, section 2; percentiles are those of Stronger Data Poisoning Attacks Break Data
Sanitization Defenses, Koh, Steinhardt and Liang 2018, https://arxiv.org/abs/1811.00741. It sees rows that differ from
their class in what tells classes apart, which a sphere in many directions hardly does; the papers wear both.

Differences from the papers:

1. Their oracle variant takes the centres of the clean rows, and its certificate holds for that one alone. This is the
   empirical variant, all that a defender can do: centres and thresholds are those of the rows given, poison among them.
2. Rows are compared by their inputs in units of the space's mean and standard deviation; the papers take the inputs as
   they are. ``space="features"`` takes the penultimate features of a probe.
3. The papers have two classes. With more, the line of a class leads from its centre to the mean of the centres of all
   others, which is the same for two; no class counts more for having more rows.
4. The direction is scaled to length 1, so that scores are distances; within a class that changes no order. Where the
   two ends of a line are one point, nothing is removed from that class.
5. ``centre="median"`` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset
from mithridate.defense import Sanitiser, Verdict, Where, check_where, points_of
from mithridate.facts import Fact, assumed_rate, defender
from mithridate.learner import Learner
from mithridate.ops.centres import Centre, beyond, centre_of, check_centre, check_percentile
from mithridate.ops.suspects import check_features, members
from mithridate.seeding import Seed

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Slab(Sanitiser):
    """Remove from each class the rows beyond a percentile of the distances along the line to the other classes."""

    name: ClassVar[str] = "slab"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "farther than others out along the line between the centres of classes",
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
        """Scores are distances from the centre of the class along its line, on either side.

        They are comparable within a class, and 0 where there is one class only. Nothing is random but the probe's
        training.
        """
        points, reused = points_of(learner, data, where=self.space, seed=seed)
        check_features(points, data, who=self.name)
        scores = torch.zeros(len(data), dtype=torch.float64, device=points.device)
        flagged = torch.zeros(len(data), dtype=torch.bool, device=points.device)
        classes = list(members(data))
        centres = torch.stack([centre_of(points[rows], self.centre) for rows in classes])  # (classes, D)
        for rows, centre, line in zip(classes, centres, lines(centres), strict=True):
            scores[rows] = ((points[rows].double() - centre) @ line).abs()
            flagged[rows] = beyond(scores[rows], self.percentile)
        return Verdict(scores=scores, flagged=flagged, reused=reused)


def lines(centres: Tensor) -> Tensor:
    """From the mean of the others to each of ``centres`` ``(c, D)``, of length 1; 0 where they are one point."""
    others = (centres.sum(0) - centres) / max(len(centres) - 1, 1)
    ways = centres - others
    nowhere = ways.norm(dim=1, keepdim=True) <= _ROUNDING * centres.norm(dim=1).amax()
    return functional.normalize(torch.where(nowhere | (len(centres) == 1), 0.0, ways), dim=1)
