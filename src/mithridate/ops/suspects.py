"""What filters share when they judge rows by their features, class by class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError, ModelError

Expected = float | Literal["true"]
"""What a defender assumes about the poisoned fraction of the training set; ``true`` for an oracle."""


def check_expected(expected: Expected, poisons: int | None) -> None:
    """Raise :class:`ConfigError` where an assumption about the poison cannot be meant."""
    if expected == "true":
        if poisons is not None and poisons < 0:
            raise ConfigError(f"poisons must be at least 0, but it is {poisons}")
        return
    if not 0 < expected < 1:
        raise ConfigError(
            f"expected must lie in (0, 1), or be the word 'true' (in quotes, in YAML), but it is {expected:g}"
        )
    if poisons is not None:
        raise ConfigError(
            f"poisons is what the referee fills in where expected is 'true', but expected is {expected:g}"
        )


def expected_count(expected: Expected, poisons: int | None, rows: int) -> float:
    """How many of ``rows`` rows are assumed to be poisoned, not rounded."""
    if expected != "true":
        return expected * rows
    if poisons is None:
        raise ConfigError("expected is 'true', but nobody said how many rows are poisoned; give a fraction instead")
    return float(poisons)


def rounded_up(number: float) -> int:
    """The next whole number, where 750.0000000001 is 750."""
    return math.ceil(number - 1e-9)


def check_cap(cap: float) -> None:
    """Raise :class:`ConfigError` where the largest share of a class that may be removed is none, or all."""
    if not 0 < cap < 1:
        raise ConfigError(f"cap must lie in (0, 1), but it is {cap:g}")


def check_features(features: Tensor, data: Dataset, *, who: str) -> None:
    """Raise :class:`ModelError` where features ``(N, D)`` cannot be judged."""
    if features.ndim != 2 or len(features) != len(data) or features.shape[1] < 1:
        raise ModelError(
            f"{who} needs a vector of features for each of {len(data)} rows, but the network gives them in the shape "
            f"{tuple(features.shape)}"
        )
    broken = ~torch.isfinite(features).all(1)
    if bool(broken.any()):
        raise ModelError(
            f"{who} cannot judge features that are NaN or infinite, but those of {int(broken.sum())} of {len(data)} "
            f"rows are (id {int(data.ids[broken].min())}): the training diverged; lower its learning rate"
        )


def members(data: Dataset) -> Iterator[Tensor]:
    """For each class that has rows, where they are, ``(n,)`` int64, lowest ids first."""
    order = data.ids.argsort()
    labels = data.labels[order]
    for label in torch.unique(labels):
        yield order[labels == label]


def worst(scores: Tensor, count: int) -> Tensor:
    """Places of the ``count`` highest scores ``(n,)``, the first of equal ones first."""
    return scores.argsort(descending=True, stable=True)[:count]
