"""Gaussian clouds and small images, for tests of dense learners and of attacks on them."""

from __future__ import annotations

from dataclasses import replace

import torch

from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims
from mithridate.testing import toy


def blobs(rows, *, classes=2, seed=0, spread=1.0, dim=2, first_id=0, **statistics):
    """A cloud a class, whose centres stand on a circle of radius 2 in the first two of ``dim`` columns."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    angles = 2 * torch.pi * labels / classes
    inputs = spread * torch.randn(rows, dim, generator=draws)
    inputs[:, :2] += 2 * torch.stack([angles.cos(), angles.sin()], 1)
    space = Space(shape=(dim,), num_classes=classes, bounds=(-8.0, 8.0), **statistics)
    return Dataset.of(inputs.clamp(-8, 8), labels, space=space, first_id=first_id)


def images(rows, *, classes=2, seed=0, side=5):
    """The toy images of the first classes."""
    data = toy(rows * 3 // classes + 3, seed=seed, side=side)
    data = data.at((data.labels < classes).nonzero().flatten()[:rows])
    return replace(data, space=replace(data.space, num_classes=classes))


def aims_of(data, *, source=None, wanted=None):
    """Aims over all rows, or over those of ``source``, to be called ``wanted``."""
    rows = data if source is None else data.at(data.labels == source)
    wants = None if source is None else torch.full_like(rows.labels, wanted)
    return Aims(inputs=rows.all_inputs(), labels=rows.labels, wanted=wants, ids=rows.ids)
