"""Activation clustering (Chen et al. 2018, https://arxiv.org/abs/1811.03728), its algorithm 1 and tests of clusters.

Differences from the paper:

1. Features are reduced to principal components, as in the authors' toolbox. The paper takes independent components
   (``reduction="ica"``, preset ``paper``), which have unit variance, so that the direction of a second mode counts no
   more than nine others. On the toy task of ``mithridate.testing`` (150 rows, 8 of one class relabelled alike, 3 draws)
   ``pca`` finds all 8 each time and ``ica`` none; of 600 clean rows (5 draws) ``pca`` removes none, ``ica`` 37 to 113.
2. Independent components are not searched for: principal components scaled to unit variance are clustered instead.
   FastICA is exactly that followed by a rotation, and 2-means and silhouettes see distances only, which no rotation
   changes. So the clusters are the same, and a search that does not converge cannot spoil them. Directions thinner than
   a millionth of the widest are left out, since scaling would blow up rounding errors.
3. Of the paper's three tests, the silhouette and the relative size must both speak against the smaller cluster; its
   exclusionary reclassification, which trains another network for each class, is left out.
4. Rows are grouped by the label they are given, not by the class the network predicts.
5. Classes of fewer than ``least`` rows are left alone: in ten dimensions so few points say nothing about modes.
6. The paper has no score. Here it is how much nearer a row is to the smaller cluster's centre than to the larger's.

The silhouette threshold means what it says in ten directions of equal variance, where 2-means on a single round cloud
reaches 0.07 (50 to 2 000 points, 8 draws each). In five it reaches 0.13 to 0.15 and in two 0.31 to 0.34; there, and
where one direction is much wider than the others, it is mostly the relative size that protects a clean class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Filter, Verdict
from mithridate.errors import ConfigError
from mithridate.facts import Fact, defender
from mithridate.ops.principal import principal
from mithridate.ops.suspects import check_features, members
from mithridate.seeding import Seed

Reduction = Literal["ica", "pca"]
_STARTS = 10


@dataclass(frozen=True, kw_only=True)
class ActivationClustering(Filter):
    """Split each class in two, and remove the smaller part where the split is clear and lopsided."""

    name: ClassVar[str] = "activation-clustering"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "the smaller of two clusters in the features of their class",
            where="Chen et al. 2018",
        ),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"paper": {"reduction": "ica"}})

    reduction: Reduction = "pca"
    """How features are reduced: ``pca``, or ``ica``, with unit variances. Paper: ``ica``; toolbox: ``pca``."""
    dims: int = 10
    """Components kept. Paper: 10."""
    size: float = 0.35
    """Share of its class below which the smaller cluster is suspect, in (0, 0.5]. The authors' toolbox: 0.35."""
    silhouette: float = 0.1
    """Mean silhouette above which the two clusters are two, in [-1, 1]. Paper: 0.10 to 0.15."""
    least: int = 32
    """Rows that a class needs to be looked at, at least 3. The authors' toolbox warns below 32."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if self.reduction not in ("ica", "pca"):
            raise ConfigError(f"reduction must be 'ica' or 'pca', but it is '{self.reduction}'")
        if self.dims < 1:
            raise ConfigError(f"dims must be at least 1, but it is {self.dims}")
        if not 0 < self.size <= 0.5:
            raise ConfigError(f"size must lie in (0, 0.5], but it is {self.size:g}")
        if not -1 <= self.silhouette <= 1:
            raise ConfigError(f"silhouette must lie in [-1, 1], but it is {self.silhouette:g}")
        if self.least < 3:
            raise ConfigError(f"least must be at least 3, but it is {self.least}")

    def facts(self) -> tuple[Fact, ...]:
        """Where the poison lies, and how much there is at most."""
        most = f"assumed: less than {100 * self.size:.3g} % of the rows of a class"
        return (*self.assumes, defender("poison rate", most, where="size"))

    def judge(self, features: Tensor, data: Dataset, *, seed: Seed) -> Verdict:
        """Scores are distances to the centre of the larger cluster minus distances to that of the smaller one.

        They are comparable within a class, and NaN in classes that are left alone. ``seed`` decides where 2-means
        starts.
        """
        check_features(features, data, who=self.name)
        scores = torch.full((len(data),), torch.nan, dtype=torch.float64, device=features.device)
        flagged = torch.zeros(len(data), dtype=torch.bool, device=features.device)
        for rows in members(data):
            if len(rows) < self.least:
                continue
            points = self._reduced(features[rows])
            if not points.size:
                continue
            start = seed.child(int(data.labels[rows[0]])).value % 2**32
            margins, smaller = halves(points, start)
            scores[rows] = torch.from_numpy(margins).to(scores.device)
            if smaller.mean() < self.size and silhouette_score(points, smaller) > self.silhouette:
                flagged[rows] = torch.from_numpy(smaller).to(flagged.device)
        return Verdict(scores=scores, flagged=flagged)

    def _reduced(self, features: Tensor) -> NDArray[np.float64]:
        """Components ``(n, c)`` of features ``(n, D)`` of one class; none where they are all the same."""
        found = principal(features, self.dims)
        if self.reduction == "ica":
            found = found / found.square().mean(0).sqrt()
        reduced: NDArray[np.float64] = found.cpu().numpy()
        return reduced


def halves(points: NDArray[np.float64], start: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Points ``(n, c)`` split by 2-means: how much nearer each is to the smaller part, and whether it is in it.

    Both ``(n,)``. Of equal parts the one without the first point counts as the smaller.
    """
    found = KMeans(n_clusters=2, n_init=_STARTS, random_state=start).fit(points)
    sizes = np.bincount(found.labels_, minlength=2)
    small = int(sizes.argmin()) if sizes[0] != sizes[1] else 1 - int(found.labels_[0])
    distances = found.transform(points)
    return distances[:, 1 - small] - distances[:, small], found.labels_ == small
