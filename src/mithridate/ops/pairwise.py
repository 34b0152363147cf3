"""The k nearest neighbours of every point, exactly and in bounded memory.

A product of matrices gives all squared distances of a block of points up to a known rounding error. Where that error
could change who is among the nearest, distances are computed again from differences. So the result is that of comparing
every pair by its sum of squared differences in float64, the lower position first among equals, and does not depend on
the block size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

MEMORY = 256 * 10**6
"""Bytes that blocks may take, beside the points, a copy of them and one in float64."""
_PER_PAIR = 64
"""Bytes that a pair in a block needs at most: its distance, copies of it, masks, counts and places."""
_ROUNDING = 2.0**-53


def neighbours(points: Tensor, k: int, *, memory: int = MEMORY) -> Iterator[tuple[slice, Tensor]]:
    """The ``k`` points nearest to each of ``points`` ``(n, D)``, a block of rows at a time.

    Yields a slice of rows and the positions ``(b, k)`` int64 of their neighbours, lowest position first. A point is no
    neighbour of its own; its duplicates are. ``k`` is cut to ``n - 1``. Distances are Euclidean; of equally distant
    points those of lower position are nearer. ``memory`` is in bytes; a single row is always done at once.
    """
    count = len(points)
    k = min(k, count - 1)
    distinct = _Distinct(*torch.unique(points, dim=0, return_inverse=True))
    centred = points.double() - points.double().mean(0)
    squares = centred.square().sum(1)
    size = max(1, memory // 2 // (_PER_PAIR * max(count, 1)))
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        distances = torch.addmm(squares, centred[rows], centred.T, alpha=-2).add_(squares[rows, None])
        own = torch.arange(start, rows.stop, device=points.device)
        distances[own - start, own] = torch.inf
        yield rows, _nearest(distances, _slack(squares, rows, points.shape[1]), distinct, own, k, memory // 2)


class _Distinct(NamedTuple):
    """Points without their duplicates ``(m, D)``, and which of them each point is ``(n,)``."""

    points: Tensor
    which: Tensor

    def distances(self, own: Tensor, others: Tensor, memory: int) -> Tensor:
        """Squared distances ``(l,)`` float64 of point ``own`` to ``others`` ``(l,)``, by differences."""
        kinds, back = torch.unique(self.which[others], return_inverse=True)
        centre = self.points[self.which[own]].double()
        parts = kinds.split(max(1, memory // (32 * self.points.shape[1])))
        found = [(self.points[part].double() - centre).square().sum(1) for part in parts]
        return torch.cat(found)[back]


def _slack(squares: Tensor, rows: slice, width: int) -> Tensor:
    """How far off a squared distance from the product can be at most, for each row, ``(b, 1)``.

    Each of the sums has ``width`` terms, so errs by less than ``(width + 2)`` roundings of ``(|x| + |y|)^2``; 8 is a
    generous number of such errors, among them those of centring and of the differences themselves.
    """
    reach = squares[rows].sqrt() + squares.max().sqrt()
    return (8 * (width + 8) * _ROUNDING * reach.square())[:, None]


def _nearest(distances: Tensor, slack: Tensor, distinct: _Distinct, own: Tensor, k: int, memory: int) -> Tensor:
    """Positions ``(b, k)`` of the nearest, from squared distances ``(b, n)`` that may err by ``slack``."""
    if k < 1:
        return torch.zeros(len(distances), 0, dtype=torch.int64, device=distances.device)
    border = distances.topk(k, largest=False, sorted=False).values.amax(1, keepdim=True)
    chosen = distances <= border + 2 * slack  # all that could be among the k nearest
    for row in (chosen.sum(1) > k).nonzero().squeeze(1):  # few, unless many points are equally far
        sure = distances[row] < border[row] - 2 * slack[row]
        doubtful = (chosen[row] & ~sure).nonzero().squeeze(1)
        exact = distinct.distances(own[row], doubtful, memory)
        chosen[row] = sure
        chosen[row, doubtful[exact.argsort(stable=True)[: k - int(sure.sum())]]] = True
    return chosen.nonzero()[:, 1].reshape(len(distances), k)
