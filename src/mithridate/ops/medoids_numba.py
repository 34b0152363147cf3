"""The greedy rule of :mod:`mithridate.ops.medoids` as compiled loops; importable only where numba is.

Each number is computed by the same operations in the same order as there, so the picks are the same. No fast-math
flag may be set: it would let the compiler reorder a sum over coordinates, or fuse a product into a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mithridate.ops.medoids import LIMIT, ONE, SERIES, Law

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Stored = NDArray[np.int32]

TILE = 512
"""Points handled at a time, so that their numbers (4 KiB an array) stay in the nearest cache."""
EXP, LINEAR, COSINE = 0, 1, 2

F = TypeVar("F", bound=Callable[..., None])


def _compiled(function: F) -> F:
    """``function``, compiled when first called, which takes some seconds a process; as it runs, other threads may."""
    jit: Any = njit(nogil=True)  # its own type is a dispatcher's, or unknown where numba is not installed
    fast: F = jit(function)
    return fast


@_compiled
def _unlikeness(columns: Floats, j: int, start: int, law: Law, out: Floats) -> None:
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
def _similarity(values: Floats, law: Law) -> None:
    """Turn squared distances, or minus cosines, into similarities in steps of 1 / ``ONE``, in place."""
    if law.kind == EXP:
        for i in range(values.size):
            x = np.sqrt(values[i]) * law.unit
            x = -(x if x < LIMIT else LIMIT)
            value = SERIES[0]
            for k in range(1, 8):
                value = value * x + SERIES[k]
            values[i] = value
        for _ in range(law.doublings):
            for i in range(values.size):
                values[i] *= values[i]
    elif law.kind == LINEAR:
        for i in range(values.size):
            values[i] = np.sqrt(values[i]) * -law.unit + 1.0
    else:
        for i in range(values.size):
            values[i] = -values[i]
    for i in range(values.size):
        value = np.floor(values[i] * ONE + 0.5)
        values[i] = value if value > 0.0 else 0.0


@_compiled
def _lessen(
    gains: Floats, columns: Floats, law: Law, kept: Stored, filled: bool, rows: Integers, old: Floats, new: Floats
) -> None:
    """Take from all gains ``(n,)`` what they lose as the best similarity of each point in ``rows`` rises.

    ``old`` and ``new`` are those best similarities, one a row. ``kept`` is empty, or holds all similarities; these are
    stored into it where it is not ``filled`` yet.
    """
    buffer = np.empty(TILE)
    for start in range(0, gains.size, TILE):
        part, some = buffer[: min(TILE, gains.size - start)], gains[start : start + TILE]
        for r in range(rows.size):
            j = rows[r]
            if filled:
                for i in range(part.size):
                    part[i] = kept[j, start + i]
            else:
                _unlikeness(columns, j, start, law, part)
                _similarity(part, law)
                if kept.size:
                    for i in range(part.size):
                        kept[j, start + i] = np.int32(part[i])
            rise = new[r] - old[r]
            for i in range(part.size):
                lost = part[i] - old[r]
                lost = lost if lost > 0.0 else 0.0
                some[i] -= lost if lost < rise else rise


def greedy(columns: Floats, count: int, law: Law, dense: bool) -> tuple[Integers, Integers]:
    """What :func:`mithridate.ops.medoids.greedy` returns, for columns ``(D, n)``."""
    n = columns.shape[1]
    kept = np.empty((n, n) if dense else (0, 0), np.int32)
    gains, best = np.zeros(n), np.zeros(n)
    _lessen(gains, columns, law, kept, False, np.arange(n), best, np.full(n, np.inf))
    gains *= -1  # the sum of each point's similarities
    nearest = np.full(n, 0.0 if law.kind == COSINE else np.inf)
    chosen, assigned = np.empty(count, np.int64), np.full(n, -1, np.int64)
    for pick in range(count):
        chosen[pick] = gains.argmax()  # the first of the largest
        fresh = np.empty(n)
        _unlikeness(columns, chosen[pick], 0, law, fresh)
        closer = fresh < nearest
        nearest[closer], assigned[closer] = fresh[closer], pick
        _similarity(fresh, law)
        risen = np.flatnonzero(fresh > best)
        _lessen(gains, columns, law, kept, dense, risen, best[risen], fresh[risen])
        best[risen] = fresh[risen]
        gains[chosen[pick]] = -np.inf  # a medoid is not picked again
    return chosen, assigned
