"""The methods that a scan asks, each a score for every row: the published filters, EPIC's isolation and the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mithridate import registry
from mithridate.dataset import Dataset
from mithridate.defense import Defense, Filter
from mithridate.errors import ConfigError, nearest
from mithridate.ops.isolation import gaps, isolated
from mithridate.scan.probing import Views
from mithridate.seeding import Seed

Floats = NDArray[np.float64]

FRACTIONS = (0.05, 0.1, 0.2, 0.3)
"""Shares of the rows that become medoids in :class:`Isolation`; EPIC's own settings are 0.1, 0.2 and 0.3."""


class Method(ABC):
    """A way of judging rows."""

    name: str
    steady: ClassVar[bool] = False
    """Whether scores of clean rows thin out steadily towards the suspicious end (see ``tails.py``)."""

    @abstractmethod
    def scores(self, views: Views, data: Dataset, *, seed: Seed) -> Floats:
        """``(N,)``, higher is more suspect; NaN for a row not looked at."""


@dataclass(frozen=True, kw_only=True)
class Loss(Method):
    """How far the probe that has not seen a row is from its label: ``log((1 - p) / p)`` for ``p`` it gives the label.

    It ranks as the cross-entropy ``-log p`` does. On this scale, other than on that of the loss, scores of clean rows
    have a tail like that of a normal or logistic distribution, on both sides.
    """

    name: str = "loss"
    steady: ClassVar[bool] = True

    def scores(self, views: Views, data: Dataset, *, seed: Seed) -> Floats:
        """Log odds against the label."""
        return log_odds(views.unseen, data.labels.cpu())


@dataclass(frozen=True, kw_only=True)
class Isolation(Method):
    """How soon EPIC isolates a row: at how many of a few fractions it is a medoid of nobody but itself.

    Among equals, the row that is farther from its nearest neighbour comes first. It is asked once, of a trained
    probe; in training, EPIC asks again and again.
    """

    name: str = "epic"

    def scores(self, views: Views, data: Dataset, *, seed: Seed) -> Floats:
        """Whole part: in how many of ``FRACTIONS`` it is isolated; rest: half the distance to the nearest row."""
        probabilities, labels = functional.softmax(views.logits.double(), 1), data.labels.cpu()
        ids = data.ids.cpu()
        count = sum(isolated(probabilities, labels, each, ids=ids).double() for each in FRACTIONS)
        distance = gaps(probabilities, labels, torch.arange(len(labels))).clamp(max=2**0.5)
        found: Floats = (count + distance / 2).numpy()
        return found


@dataclass(frozen=True, kw_only=True)
class Filtering(Method):
    """What a published filter says, brought to one scale in all classes.

    Filters promise scores that can be compared within a class. Here the median row of each class gets 0, and the one
    that a tenth of its class exceeds gets 1.
    """

    filter: Filter

    @property
    def name(self) -> str:  # type: ignore[override]
        """The filter's."""
        return self.filter.name

    def scores(self, views: Views, data: Dataset, *, seed: Seed) -> Floats:
        """Scores of the filter, by class."""
        verdict = self.filter.judge(views.features, data.to("cpu"), seed=seed.child(self.name))
        found: Floats = verdict.scores.double().cpu().numpy()
        return within_classes(found, data.labels.cpu().numpy())


FILTERS = ("spectral-signatures", "activation-clustering", "deep-knn")
OURS: tuple[Method, ...] = (Isolation(), Loss())
_CONTROLS = frozenset({"oracle-filter", "random-drop", "top-loss-drop"})


def chosen(names: Sequence[str] = ()) -> tuple[Method, ...]:
    """The methods of these names, all that are usual where none is named; the loss is always among them.

    The verdict on the folder rests on the loss. Raises :class:`ConfigError` for a name that no method has.
    """
    wanted = [*(names or (*FILTERS, "epic")), "loss"]
    return tuple(_method(name) for name in dict.fromkeys(wanted))


def _method(name: str) -> Method:
    ours = {each.name: each for each in OURS}
    if name in ours:
        return ours[name]
    kinds = registry.places(Defense)
    judges = {each: kind for each in kinds if issubclass(kind := registry.kind(Defense, each), Filter)}
    allowed = sorted({*judges, *ours} - _CONTROLS)
    if name not in allowed:
        what = "does not judge rows by their features" if name in kinds else "is unknown"
        raise ConfigError(f"--defenses: '{name}' {what}; {nearest(name, allowed)}")
    judge = judges[name]()
    assert isinstance(judge, Filter)  # the registry saw to it
    return Filtering(filter=judge)


def log_odds(logits: Tensor, labels: Tensor) -> Floats:
    """``log((1 - p) / p)`` ``(N,)`` of the probability ``p`` that ``logits`` ``(N, C)`` give to ``labels`` ``(N,)``."""
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    found: Floats = (others.logsumexp(1) - own[:, 0]).numpy()
    return found


def within_classes(scores: Floats, labels: NDArray[np.int64]) -> Floats:
    """Scores ``(N,)`` less the median of their class, over the distance from there to what a tenth exceed.

    NaN stays. Where that distance is 0, half the range of the class takes its place.
    """
    found = np.full(len(scores), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~np.isnan(scores))
        if len(rows):
            low, middle, high, top = np.quantile(scores[rows], [0.0, 0.5, 0.9, 1.0])
            found[rows] = (scores[rows] - middle) / ((high - middle) or (top - low) / 2 or 1.0)
    return found
