"""How far targets are from combinations of poisons in feature space: the losses of the feature-space attacks.

Points are ``(T, k, *map)``: the k poisons of each of T independent trials as one layer shows them, ``map`` being
``(D,)`` or ``(C, H, W)``. Targets are ``(T, *map)``. All distances are relative to the length of the target.
Sources: Zhu et al. 2019, https://arxiv.org/abs/1905.05897 (convex combinations); Aghakhani et al. 2021,
https://arxiv.org/abs/2005.00191 (the mean); Shafahi et al. 2018, https://arxiv.org/abs/1804.00792 (collisions).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mithridate.ops.simplex import coefficients

Ratio = Literal["squared", "released"]
"""``squared``: half the squared distance over the squared length. ``released``: the distance over the length."""

_TINY = 1e-12


def convex_coefficients(points: Tensor, targets: Tensor) -> Tensor:
    """Coefficients ``(T, k)`` of the convex combination of points nearest to each target; constants to autograd."""
    with torch.no_grad():
        return coefficients(points.flatten(2), targets.flatten(1)).to(points.dtype)


def equal_coefficients(points: Tensor) -> Tensor:
    """Coefficients ``(T, k)`` of the mean."""
    return torch.full(points.shape[:2], 1 / points.shape[1], dtype=points.dtype, device=points.device)


def combined(points: Tensor, weights: Tensor) -> Tensor:
    """Combinations ``(T, *map)`` of points with coefficients ``(T, k)``."""
    return torch.einsum("tk,tk...->t...", weights, points)


def miss(found: Tensor, targets: Tensor, *, ratio: Ratio = "squared") -> Tensor:
    """How far ``found`` ``(T, *map)`` is from the targets, ``(T,)``, in the sense of ``ratio``.

    ``released`` takes a map ``(C, H, W)`` place by place: lengths run over channels, and the ratios are averaged over
    places. Where the target's map is zero at a place the release divides by zero; here by the mean over places.
    """
    if ratio == "squared":
        far: Tensor = (found - targets).flatten(1).square().sum(1)
        return far / (2 * lengths(targets).square().clamp_min(_TINY))
    distance: Tensor = torch.linalg.vector_norm(found - targets, dim=1).reshape(len(targets), -1)  # (T, places)
    length = torch.linalg.vector_norm(targets, dim=1).reshape(len(targets), -1)
    length = torch.where(length > 0, length, length.mean(1, keepdim=True)).clamp_min(_TINY)
    ratios: Tensor = distance / length
    return ratios.mean(1)


def collisions(points: Tensor, targets: Tensor) -> Tensor:
    """Half the squared relative distance of every point to its target, ``(T, k)``."""
    far = (points - targets[:, None]).flatten(2).square().sum(2)
    return far / (2 * lengths(targets).square().clamp_min(_TINY)[:, None])


def relative_distance(found: Tensor, targets: Tensor) -> Tensor:
    """Distance of ``found`` ``(T, *map)`` to the targets over the targets' lengths, ``(T,)``; no gradient."""
    with torch.no_grad():
        return lengths(found - targets) / lengths(targets).clamp_min(_TINY)


def lengths(targets: Tensor) -> Tensor:
    """Euclidean lengths ``(T,)`` of maps ``(T, *map)``."""
    found: Tensor = torch.linalg.vector_norm(targets.flatten(1), dim=1)
    return found
