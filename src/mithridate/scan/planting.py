"""Known poison planted in a copy of the data, so that it can be seen how much of it a method finds.

Three kinds, each the simplest of a family:

``mislabelled``
    The image stays, the label becomes any of the others, with equal chances: an annotator's slip or a dirty-label
    attack (Biggio et al. 2012, https://arxiv.org/abs/1206.6389).
``perturbed``
    The label stays, the image is moved by at most ``RADIUS`` in each value, so that a probe sees the features of an
    image of another class: a feature collision (Shafahi et al. 2018, https://arxiv.org/abs/1804.00792). There one
    poison or several aim at one target; here each row has a target of its own, so that rows are independent evidence.
    The collision is made against the probe of the user's data, and judged by probes of other seeds.
``patched``
    A patch in the corner, the label becomes that of one class: a backdoor (Gu et al. 2017,
    https://arxiv.org/abs/1708.06733). Patch and class are the same for all rows planted together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import DataError
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.triggers.patch import Patch

KINDS = ("mislabelled", "perturbed", "patched")
RADIUS = 16 / 255
"""Largest change of a value of a perturbed row, as a share of the range; the common budget of clean-label attacks."""
STEPS = 40
"""Steps of the collision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planting:
    """A copy of the data with known poison in it."""

    data: Dataset
    """The copy: rows in the order of the original."""
    rows: Mapping[str, Tensor]
    """By kind, the positions ``(m,)`` int64 of the rows that were changed."""


def planted(data: Dataset, *, eligible: Tensor, count: int, model: Classifier, seed: Seed) -> Planting:
    """A copy of ``data`` with ``count`` rows of each kind, drawn from ``eligible`` ``(N,)`` bool.

    New labels are among those of eligible rows. ``model`` is what the perturbed rows deceive. Raises
    :class:`DataError` where there are too few rows.
    """
    device = data.device
    generator = seed.generator()
    inputs, labels = data.inputs.clone(), data.labels.clone()
    classes, sizes = torch.unique(data.labels[eligible].cpu(), return_counts=True)
    free = eligible.cpu().nonzero()[:, 0]
    possible = classes[len(free) - sizes >= count]  # a common class may leave too few rows of others to patch
    if len(free) < 3 * count or not len(possible):
        raise DataError(f"{count} rows of each kind cannot be planted among {len(free)} rows of two or more classes")
    wanted = possible[torch.randint(len(possible), (1,), generator=generator)]
    free = free[torch.randperm(len(free), generator=generator)]
    strangers = free[data.labels.cpu()[free] != wanted]
    patched = strangers[:count].to(device)
    free = free[~torch.isin(free, strangers[:count])].to(device)
    mislabelled, perturbed = free[:count], free[count : 2 * count]
    labels[mislabelled] = _others(data.labels[mislabelled].cpu(), classes, generator).to(device)
    inputs[perturbed] = _stored(data, collided(model, data, perturbed, eligible, generator))
    inputs[patched] = _stored(data, _patch(data, seed).apply(data.take(patched)[0]))
    labels[patched] = wanted.to(device)
    rows = {"mislabelled": mislabelled, "perturbed": perturbed, "patched": patched}
    return Planting(
        data=replace(data, inputs=inputs, labels=labels), rows={kind: each.cpu() for kind, each in rows.items()}
    )


def collided(model: Classifier, data: Dataset, rows: Tensor, eligible: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(m, *shape)`` within ``RADIUS`` of those at ``rows``, with features near those of other classes' rows.

    Descends on the squared distance of features by steps of fixed size along the sign of the gradient, and keeps the
    nearest point met.
    """
    clean, labels = data.take(rows)
    targets = _targets(labels.cpu(), data.labels.cpu(), eligible.cpu(), generator).to(data.device)
    low, high = data.space.bounds
    radius = RADIUS * (high - low)
    with torch.no_grad():
        wanted = model.features(data.take(targets)[0])
    best, nearest = clean.clone(), torch.full((len(rows),), torch.inf, device=data.device)
    moved = clean.clone()
    for _ in range(STEPS):
        moved = moved.detach().requires_grad_()
        distance = (model.features(moved) - wanted).square().sum(1)  # (m,)
        (gradient,) = torch.autograd.grad(distance.sum(), moved)
        nearer = (distance < nearest).detach()
        best[nearer], nearest[nearer] = moved.detach()[nearer], distance.detach()[nearer]
        step = moved.detach() - 2.5 * radius / STEPS * gradient.sign()
        moved = (clean + (step - clean).clamp(-radius, radius)).clamp(low, high)
    return best


def _targets(labels: Tensor, everyone: Tensor, eligible: Tensor, generator: torch.Generator) -> Tensor:
    """For each of ``labels`` ``(m,)`` the position of an eligible row of another class, ``(m,)``."""
    found = []
    for label in labels:
        others = ((everyone != label) & eligible).nonzero()[:, 0]
        found.append(others[torch.randint(len(others), (1,), generator=generator)])
    return torch.cat(found)


def _others(labels: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
    """For each label another one of ``classes``, with equal chances."""
    place = torch.searchsorted(classes, labels)
    step = torch.randint(1, len(classes), labels.shape, generator=generator)
    return classes[(place + step) % len(classes)]


def _patch(data: Dataset, seed: Seed) -> Patch:
    """A patch of random pixels, a sixth of the image wide."""
    side = max(2, min(data.space.shape[1:]) // 6)
    return Patch(side=side, seed=seed.child("patch").value, bounds=data.space.bounds)


def _stored(data: Dataset, inputs: Tensor) -> Tensor:
    """Images as the data set stores them, so that planted rows are images like any other."""
    return data.space.encode(inputs).to(data.inputs.dtype)
