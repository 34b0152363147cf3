"""Principal coordinates of a cloud of points."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-6
"""Directions along which a cloud is thinner than this part of its widest one are rounding: float32 has 7 digits."""


def principal(points: Tensor, count: int) -> Tensor:
    """Coordinates ``(n, c)`` float64 of points ``(n, D)`` along their directions of largest variance, largest first.

    ``c`` is ``count``, or less where the points spread in fewer directions (0 where they are all one). Coordinates are
    measured from the mean; their signs mean nothing. They come from the eigenvectors of the smaller Gram matrix, which
    is all that the thin singular value decomposition would add to.
    """
    points = points.double()
    centred = points - points[:1]  # first, so that a cloud far off loses no digits, and equal points become 0 exactly
    centred = centred - centred.mean(0)
    tall = centred.shape[0] > centred.shape[1]
    gram = centred.T @ centred if tall else centred @ centred.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    kept = values > FLAT**2 * values[0]  # none where all are 0
    values, vectors = values[kept], vectors[:, kept]
    found: Tensor = centred @ vectors if tall else vectors * values.sqrt()
    return found
