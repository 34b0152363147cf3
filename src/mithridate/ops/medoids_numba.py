"""The greedy rule of :mod:`mithridate.ops.medoids` as compiled loops; importable only where numba is.

Each similarity is computed by the same operations in the same order as in :mod:`mithridate.ops.likeness`, so the picks
are the same. No fast-math flag may be set: it would let the compiler reorder a sum over coordinates, or fuse a product
into a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mithridate.ops.likeness import LIMIT, ONE, SERIES, Law

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Stored = NDArray[np.int32]

TILE = 256
"""Points handled at a time, so that their numbers (2 KiB an array) stay in the nearest cache."""
FEW = 8
"""Similarities that are computed one by one rather than a tile of them at once."""
EXP, LINEAR, COSINE = 0, 1, 2
FULL = 2**31
"""What a sum in 32 bits may not reach."""

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """``function``, compiled when first called, which takes some seconds a process; as it runs, other threads may."""
    jit: Any = njit(nogil=True)  # its own type is a dispatcher's, or unknown where numba is not installed
    fast: F = jit(function)
    return fast


@_compiled
def _unlikeness(columns: Floats, j: Any, start: int, law: Law, out: Floats) -> None:
    """Squared distance, or minus the cosine, of point ``j`` to the points from ``start`` on, as many as ``out`` has."""
    for i in range(out.size):
        out[i] = 0.0
    for d in range(columns.shape[0]):
        x, y = columns[d][start : start + out.size], columns[d, j]
        if law.kind == COSINE:
            for i in range(out.size):
                out[i] -= x[i] * y
        else:
            for i in range(out.size):
                difference = x[i] - y
                out[i] += difference * difference


@_compiled
def _similarity(unlike: Floats, law: Law, out: Stored) -> None:
    """Similarities in steps of 1 / ``ONE`` from squared distances, or minus cosines, which are lost."""
    if law.kind == EXP:
        for i in range(unlike.size):
            x = np.sqrt(unlike[i]) * law.unit
            x = -(x if x < LIMIT else LIMIT)
            value = SERIES[0]
            for k in range(1, 8):
                value = value * x + SERIES[k]
            unlike[i] = value
        for _ in range(law.doublings):
            for i in range(unlike.size):
                unlike[i] *= unlike[i]
    elif law.kind == LINEAR:
        for i in range(unlike.size):
            unlike[i] = np.sqrt(unlike[i]) * -law.unit + 1.0
    else:
        for i in range(unlike.size):
            unlike[i] = -unlike[i] if unlike[i] < 0.0 else 0.0
    for i in range(unlike.size):
        out[i] = np.int32(np.floor(unlike[i] * ONE + 0.5))


@_compiled
def _totals(columns: Floats, law: Law, kept: Stored) -> Integers:
    """Each point's sum of similarities to all; these are stored into ``kept``, which is ``(n, n)`` or empty.

    What is above the diagonal is computed, tile by tile, and the rest is the same.
    """
    n = columns.shape[1]
    found, unlike, row = np.zeros(n, np.int64), np.empty(TILE), np.empty(TILE, np.int32)
    for start in range(0, n, TILE):
        end = min(start + TILE, n)
        for first in range(start, n, TILE):
            last = min(first + TILE, n)
            part, alike, below = unlike[: last - first], row[: last - first], found[first:last]
            for j in range(start, end):
                _unlikeness(columns, j, first, law, part)
                _similarity(part, law, alike)
                found[j] += alike.sum()
                if first > start:
                    below += alike
                if kept.size:
                    kept[j, first:last] = alike
            if kept.size and first > start:
                kept[first:last, start:end] = kept[start:end, first:last].T
    return found


@_compiled
def _lessen_by_row(row: Stored, old: Any, new: Any, lost: Stored) -> None:
    """Add to ``lost`` what of a row of similarities is above ``old``, as far as ``new``."""
    low, high = np.int32(old), np.int32(new)
    for i in range(row.size):
        lost[i] += np.int32(min(max(row[i], low), high) - low)


@_compiled
def _lessen_by_points(columns: Floats, law: Law, j: int, bound: Any, old: Any, new: Any, gains: Integers) -> None:
    """Take from ``gains`` what of the similarities of point ``j`` is above ``old``, as far as ``new``.

    Those to points of at least the unlikeness ``bound`` are not.
    """
    unlike, alike, one, its = np.empty(TILE), np.empty(TILE, np.int32), np.empty(1), np.empty(1, np.int32)
    for start in range(0, gains.size, TILE):
        part = unlike[: min(TILE, gains.size - start)]
        _unlikeness(columns, j, start, law, part)
        near = 0
        for i in range(part.size):
            near += part[i] < bound
        if near > FEW:
            some = alike[: part.size]
            _similarity(part, law, some)
            for i in range(part.size):
                gains[start + i] -= max(min(np.int64(some[i]), new) - old, 0)
        elif near:
            for i in range(part.size):
                if part[i] < bound:
                    one[0] = part[i]
                    _similarity(one, law, its)
                    gains[start + i] -= max(min(np.int64(its[0]), new) - old, 0)


@_compiled
def _picks(columns: Floats, law: Law, count: int, kept: Stored, gains: Integers) -> tuple[Integers, Integers]:
    """Places of the medoids, and which of them each point is assigned to; ``gains`` are used up."""
    n = columns.shape[1]
    best, nearest = np.zeros(n, np.int64), np.full(n, 0.0 if law.kind == COSINE else np.inf)
    chosen, assigned = np.empty(count, np.int64), np.full(n, -1, np.int64)
    fresh, unlike, alike, lost = np.empty(n), np.empty(n), np.empty(n, np.int32), np.zeros(n, np.int32)
    for pick in range(count):
        newest = np.argmax(gains)  # the first of the largest
        chosen[pick] = newest
        _unlikeness(columns, newest, 0, law, fresh)
        unlike[:] = fresh
        _similarity(unlike, law, alike)
        pending = 0
        for j in range(n):
            if alike[j] > best[j]:
                old, new = best[j], np.int64(alike[j])
                if kept.size:
                    if pending + new - old >= FULL:
                        gains -= lost
                        lost[:] = 0
                        pending = 0
                    _lessen_by_row(kept[j], old, new, lost)
                    pending += new - old
                else:
                    bound = nearest[j] if law.kind == COSINE else (np.sqrt(nearest[j]) + law.slack) ** 2 * (1 + 1e-12)
                    _lessen_by_points(columns, law, j, bound, old, new, gains)
                best[j] = new
            if fresh[j] < nearest[j]:
                nearest[j], assigned[j] = fresh[j], pick
        if kept.size:
            gains -= lost
            lost[:] = 0
        gains[newest] = -(2**62)  # a medoid is not picked again
    return chosen, assigned


def greedy(columns: Floats, count: int, law: Law, dense: bool) -> tuple[Integers, Integers]:
    """``chosen`` ``(count,)`` and ``assigned`` ``(n,)`` of ``(D, n)``, as :mod:`mithridate.ops.facility` has them."""
    n = columns.shape[1]
    kept = np.empty((n, n) if dense else (0, 0), np.int32)
    return _picks(columns, law, count, kept, _totals(columns, law, kept))
