"""Coefficients of convex combinations as the code of the Convex Polytope paper finds them, written anew.

Forward-backward splitting on the full features (Goldstein, Studer, Baraniuk 2014, https://arxiv.org/abs/1411.3406), one
network at a time, with NumPy's projection and a look at the change after every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


def one_by_one(points: Sequence[Tensor] | Tensor, targets: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """Coefficients ``(k,)`` of each network's points ``(k, D)``, from equal ones."""
    return [splitting(each, target)[0] for each, target in zip(points, targets, strict=True)]


def splitting(points: Tensor, target: Tensor, *, tolerance: float = 1e-6, most: int = 10_000) -> tuple[Tensor, int]:
    """Coefficients ``(k,)`` of points ``(k, D)`` and the number of steps they took."""
    count = len(points)
    weights = torch.full((count,), 1 / count)
    probe = torch.ones(count) / count**0.5
    step = 2 / float((points @ (probe @ points)).norm())
    last = miss(weights, points, target)
    for number in range(most):
        moved = weights - step * (points @ (weights @ points - target))
        moved = torch.from_numpy(onto_simplex(moved.numpy()))
        reached = miss(moved, points, target)
        if reached > last:
            step /= 2
            continue
        change = ((moved - weights).norm() / weights.norm().clamp_min(1e-12)).item()
        weights, last = moved, reached
        if change < tolerance:
            return weights, number + 1
    return weights, most


def onto_simplex(values: Floats) -> Floats:
    """The nearest point of the probability simplex, by sorting."""
    levels = (np.cumsum(np.sort(values)[::-1]) - 1) / np.arange(1, len(values) + 1, dtype=values.dtype)
    found: Floats = np.maximum(values - levels.max(), 0)
    return found


def miss(weights: Tensor, points: Tensor, target: Tensor) -> float:
    """Relative squared distance from the combination to the target."""
    return ((weights.to(points) @ points - target).square().sum() / target.square().sum()).item()
