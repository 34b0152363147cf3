"""Facility location as libraries do it: the whole matrix of similarities, then the lazy greedy of Minoux 1978."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def lazy_medoids(points: Floats, count: int) -> list[int]:
    """Places of the ``count`` medoids of ``points`` ``(n, D)`` for the similarity ``exp(-|a - b| / D)``."""
    similar = similarities(points)
    best: Floats = np.zeros(len(points), similar.dtype)
    heap = [(-float(gain), place) for place, gain in enumerate(similar.sum(1))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        place = heap[0][1]
        gain = float(np.maximum(similar[place] - best, 0).sum())
        heapq.heapreplace(heap, (-gain, place))
        if heap[0][1] == place:  # still the largest, and the others can only have got smaller
            heapq.heappop(heap)
            chosen.append(place)
            best = np.maximum(best, similar[place])
    return chosen


def similarities(points: Floats) -> Floats:
    """All of them, ``(n, n)``."""
    distances = np.empty((len(points), len(points)), points.dtype)
    for row, point in zip(distances, points, strict=True):
        row[:] = np.sqrt(((points - point) ** 2).sum(1))
    found: Floats = np.exp(-distances / points.shape[1])
    return found


def objective(points: Floats, chosen: NDArray[np.int64] | list[int]) -> float:
    """The sum over all points of the similarity to the nearest medoid, in float64."""
    wide = points.astype(np.float64)
    best = np.full(len(wide), np.inf)
    for place in chosen:
        best = np.minimum(best, ((wide - wide[place]) ** 2).sum(1))
    return float(np.exp(-np.sqrt(best) / wide.shape[1]).sum())
