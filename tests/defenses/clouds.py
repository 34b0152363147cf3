"""Features and labels made by hand, and small data with mislabelled rows, for the tests of filters."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.defense import Filter, Verdict
from mithridate.seeding import Seed
from mithridate.testing import toy, toy_bench


def rows(labels, *, ids=None, classes=None):
    """Rows without content."""
    labels = torch.as_tensor(labels)
    space = Space(shape=(1,), num_classes=classes or max(int(labels.max()) + 1, 2))
    ids = torch.arange(len(labels)) if ids is None else torch.as_tensor(ids)
    return Dataset(inputs=torch.zeros(len(labels), 1), labels=labels, ids=ids, space=space)


def judged(defense: Filter, features, labels, *, ids=None, classes=None, seed=0) -> Verdict:
    return defense.judge(torch.as_tensor(features), rows(labels, ids=ids, classes=classes), seed=Seed(seed))


def flagged(defense: Filter, features, labels, **more) -> list[int]:
    """Positions of the rows flagged."""
    return judged(defense, features, labels, **more).flagged.nonzero().squeeze(1).tolist()


def cloud(count: int, dims: int, *, seed: int, at: float = 0.0) -> Tensor:
    """A round cloud of points around ``(at, 0, 0, ...)``."""
    points = torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))
    points[:, 0] += at
    return points


def with_mislabelled(count: int = 8, *, of: int = 150, seed: int = 1) -> tuple[Dataset, Tensor]:
    """Toy images of which ``count`` of class 1 are called 0, and the ids of these."""
    data = toy(of, seed=seed)
    ids = data.ids[data.labels == 1][:count]
    return replace(data, labels=torch.where(torch.isin(data.ids, ids), 0, data.labels)), ids


def found_and_removed(defense: Filter, *, seed: int = 1) -> tuple[int, int]:
    """How many of 8 mislabelled rows among 150 a defense removes, and how many rows in all, in a real training."""
    data, wrong = with_mislabelled(seed=seed)
    progress = defense.protect(toy_bench().learner).fit(data, seed=Seed(seed))
    (removal,) = progress.removals
    return int(torch.isin(removal.ids, wrong).sum()), len(removal.ids)
