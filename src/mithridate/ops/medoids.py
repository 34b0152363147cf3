"""Greedy medoids of a set of points by facility location, exactly and in bounded memory.

Facility location is ``F(S) = sum_i max(0, max over j in S of s_ij)`` for a similarity ``s``; the greedy rule adds the
point that raises ``F`` most, the first of those on ties (Nemhauser, Wolsey & Fisher 1978,
https://doi.org/10.1007/BF01588971). EPIC (Yang et al. 2022, https://arxiv.org/abs/2210.09671) clusters gradients so.
Three things make it exact and quick:

1. Similarities are rounded to multiples of ``2^-30``. All sums of fewer than 2^23 of them are then exact in float64,
   in whatever order they are added: real ties stay ties, and no rounding error decides a pick.
2. All gains are kept, and lessened by exactly what a pick takes from them: only the rows of points whose best
   similarity has risen are read again. On softmax outputs that is a few n rows, where the naive rule reads k n, and it
   picks the same points (as a lazy queue does).
3. Distances come from differences in float64, coordinate after coordinate, and ``exp`` from products and sums alone,
   which round alike everywhere. So the picks do not depend on the device, nor on whether numba is installed.

A similarity is computed when it is needed; only where all of them take at most ``DENSE_BYTES`` are they kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mithridate.errors import ConfigError, DataError

Kernel = Literal["exp", "linear", "cosine"]
"""The similarity of ``a`` and ``b``.

* ``exp``: ``exp(-|a - b| / scale)``, the one of EPIC's release.
* ``linear``: ``1 - |a - b| / c`` with ``c`` the diagonal of the smallest box around the points, so never negative.
  Any ``c`` that large gives the same picks, ``sqrt(2)`` for points on the probability simplex among them.
* ``cosine``: of the angle at the origin, in [-1, 1]; 0 to a point at the origin.
"""

KERNELS: tuple[Kernel, ...] = ("exp", "linear", "cosine")
ONE = 2.0**30
"""A similarity of 1 in the steps that similarities are rounded to; fits 32 bits."""
SERIES = tuple(1 / math.factorial(7 - k) for k in range(8))
"""Taylor's for ``exp``, the highest power first; on [-1/8, 0] off by 2e-12 at most."""
LIMIT = 0.125
DENSE_BYTES = 200 * 10**6
"""All similarities of a set are kept where they, at 4 bytes each, take no more than this: up to 7 071 points."""
LARGEST = 1e150
"""Squares of larger coordinates could overflow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Medoids:
    """Points that represent a set, and which of them represents which point."""

    chosen: Tensor
    """Positions of the medoids in the order they were picked, ``(k,)`` int64."""
    assigned: Tensor
    """For each point its most similar medoid, as place in ``chosen``, ``(n,)`` int64; the first picked on ties.

    -1 where no similarity is positive (cosine only).
    """
    sizes: Tensor
    """Points in each cluster, the medoid counted in, ``(k,)`` int64.

    A medoid that equals an earlier one is assigned to that; its size is 1 all the same.
    """


class Law(NamedTuple):
    """How a similarity is computed: ``kind`` is a place in ``KERNELS``; the rest are constants of that kernel."""

    kind: int
    unit: float
    """What distances are multiplied by."""
    doublings: int
    """How often ``exp`` of the ``2^doublings``-th part is squared."""


def facility_location(points: Tensor, count: int, *, kernel: Kernel = "exp", scale: float | None = None) -> Medoids:
    """The ``count`` greedy medoids of ``points`` ``(n, D)``, float; they come back on the device of the points.

    ``scale`` is the length of the ``exp`` kernel, ``D`` where none is given, as in EPIC's release; the picks of the
    other kernels do not depend on a scale. On a CPU with numba the work runs as compiled loops on one thread. Memory:
    ``4 n^2`` bytes where that is at most ``DENSE_BYTES``, else a few rows of ``8 n`` bytes.

    Raises :class:`DataError` for points that are not finite floats in two dimensions, and :class:`ConfigError` for a
    ``count`` outside 1..n, an unknown kernel or a scale that is not positive.
    """
    _check(points, count, kernel, scale)
    columns = points.detach().double().t().contiguous()  # (D, n)
    if kernel == "cosine":
        columns = _directions(columns)
    law = _law(columns, kernel, scale)
    compiled = _compiled_greedy() if points.device.type == "cpu" else None
    chosen, assigned = (compiled or greedy)(columns, count, law)
    sizes = torch.bincount(assigned[assigned >= 0], minlength=count).clamp_min(1)
    return Medoids(chosen=chosen, assigned=assigned, sizes=sizes)


def by_class(
    points: Tensor,
    labels: Tensor,
    counts: Mapping[int, int],
    *,
    kernel: Kernel = "exp",
    scale: float | None = None,
    workers: int = 1,
) -> dict[int, tuple[Tensor, Medoids]]:
    """For each class in ``counts``: the positions of its points, ``(m,)`` int64, and their ``counts[class]`` medoids.

    ``points`` is ``(n, D)``, ``labels`` ``(n,)``; places in :class:`Medoids` are places among the class's points.
    ``workers`` threads work on a class each, and each needs the memory of one :func:`facility_location`; the result
    does not depend on them. Raises what that raises, naming the class.
    """
    if labels.shape != points.shape[:1]:
        raise DataError(f"there must be one label a point, but {tuple(labels.shape)} labels for {len(points)} points")
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, but is {workers}")
    classes = sorted(counts)

    def one(label: int) -> tuple[Tensor, Medoids]:
        members = (labels == label).nonzero()[:, 0]
        try:
            found = facility_location(points[members], counts[label], kernel=kernel, scale=scale)
        except (ConfigError, DataError) as error:
            raise type(error)(f"class {label}: {error}") from None
        return members, found

    with ThreadPoolExecutor(workers) as threads:
        return dict(zip(classes, threads.map(one, classes), strict=True))


def greedy(columns: Tensor, count: int, law: Law) -> tuple[Tensor, Tensor]:
    """The rule itself, in torch on any device: ``chosen`` ``(count,)`` and ``assigned`` ``(n,)`` of ``(D, n)``."""
    n = columns.shape[1]
    similar = _Similarities(columns, law)
    gains = similar.totals()  # (n,): what adding each point would raise F by
    best = torch.zeros_like(gains)  # (n,): similarity to the nearest medoid so far, 0 without one
    nearest = torch.full_like(gains, 0.0 if KERNELS[law.kind] == "cosine" else math.inf)
    assigned = torch.full((n,), -1, device=columns.device)
    chosen = torch.empty(count, dtype=torch.int64, device=columns.device)
    for pick in range(count):
        chosen[pick] = gains.argmax()  # the first of the largest
        newest = chosen[pick : pick + 1]
        unlike = _unlikeness(columns, columns[:, newest], law)[0]
        assigned[unlike < nearest] = pick
        nearest = torch.minimum(unlike, nearest)
        better = torch.maximum(best, _similarity(unlike, law))
        risen = (better > best).nonzero()[:, 0]
        for start in range(0, len(risen), similar.block):
            some = risen[start : start + similar.block]
            old, new = best[some, None], better[some, None]
            gains -= similar.rows(some).sub_(old).clamp_(min=0).minimum(new - old).sum(0)
        best = better
        gains[newest] = -math.inf  # a medoid is not picked again
    return chosen, assigned


class _Similarities:
    """Rows of the matrix of similarities, in multiples of 1 / ``ONE``: kept where they fit, else computed anew."""

    def __init__(self, columns: Tensor, law: Law) -> None:
        n = columns.shape[1]
        self._columns, self._law = columns, law
        room = 2**16 if columns.device.type == "cpu" else 2**24  # numbers a block: 512 KiB for caches, or 128 MiB
        self.block = max(1, room // n)
        self._kept = columns.new_empty((n, n), dtype=torch.int32) if dense(n) else None

    def totals(self) -> Tensor:
        """The sum of each row, ``(n,)``; keeps the rows on the way where they are to be kept."""
        n = self._columns.shape[1]
        totals = self._columns.new_empty(n)
        for start in range(0, n, self.block):  # written in place: a list of small tensors would break up the heap
            some = slice(start, start + self.block)
            rows = self._computed(some)
            if self._kept is not None:
                self._kept[some] = rows.int()
            totals[some] = rows.sum(1)
        return totals

    def rows(self, some: Tensor) -> Tensor:
        """The rows of the positions ``some``, ``(len(some), n)`` float64, the caller's own."""
        return self._computed(some) if self._kept is None else self._kept[some].double()

    def _computed(self, some: Tensor | slice) -> Tensor:
        return _similarity(_unlikeness(self._columns, self._columns[:, some], self._law), self._law)


def dense(n: int) -> bool:
    """Whether all similarities of ``n`` points are kept."""
    return 4 * n * n <= DENSE_BYTES


def _unlikeness(columns: Tensor, own: Tensor, law: Law) -> Tensor:
    """Squared distance, or minus the cosine, of the points ``own`` ``(D, b)`` to all ``(D, n)``: ``(b, n)``."""
    total = columns.new_zeros((own.shape[1], columns.shape[1]))
    buffer = torch.empty_like(total)
    for x, y in zip(columns, own, strict=True):
        if KERNELS[law.kind] == "cosine":
            total.sub_(torch.mul(x, y[:, None], out=buffer))
        else:
            torch.sub(x, y[:, None], out=buffer)
            total.add_(buffer.mul_(buffer))
    return total


def _similarity(unlike: Tensor, law: Law) -> Tensor:
    """Similarity, at least 0, in whole multiples of 1 / ``ONE``; shape of ``unlike``."""
    match KERNELS[law.kind]:
        case "exp":
            x = unlike.sqrt().mul_(law.unit).clamp_(max=LIMIT).neg_()
            value = torch.mul(x, SERIES[0]).add_(SERIES[1])
            for factor in SERIES[2:]:
                value.mul_(x).add_(factor)
            for _ in range(law.doublings):
                value.mul_(value)
        case "linear":
            value = unlike.sqrt().mul_(-law.unit).add_(1.0)
        case "cosine":
            value = -unlike
    return value.mul_(ONE).add_(0.5).floor_().clamp_(min=0)


def _law(columns: Tensor, kernel: Kernel, scale: float | None) -> Law:
    """The constants of a kernel for these points ``(D, n)``; plain Python arithmetic, so alike on every device."""
    kind = KERNELS.index(kernel)
    sides = (columns.amax(1) - columns.amin(1)).tolist()
    diagonal = math.sqrt(sum(side * side for side in sides))
    if kernel != "exp":
        return Law(kind, 1 / (diagonal or 1.0), 0)
    length = len(columns) if scale is None else scale
    parts = 0  # each part at most LIMIT; beyond exp(-32), far less than half a step, nothing need be told apart
    while parts < 8 and diagonal / length > LIMIT * 2**parts:
        parts += 1
    return Law(kind, 1 / (length * 2**parts), parts)


def _directions(columns: Tensor) -> Tensor:
    """Points ``(D, n)`` scaled to length 1 and rounded to ``2^-26``; those at the origin stay there.

    So rounded, points on one ray are equal, and their products are summed exactly.
    """
    squares = torch.zeros_like(columns[0])
    for x in columns:
        squares = squares + x * x
    return (columns / torch.where(squares > 0, squares.sqrt(), 1.0)).mul_(2.0**26).round_().div_(2.0**26)


@cache
def _compiled_greedy() -> Callable[[Tensor, int, Law], tuple[Tensor, Tensor]] | None:
    """The same rule as compiled loops, or None without numba."""
    try:
        from mithridate.ops import medoids_numba
    except ImportError:
        return None

    def run(columns: Tensor, count: int, law: Law) -> tuple[Tensor, Tensor]:
        found: tuple[Any, Any] = medoids_numba.greedy(columns.numpy(), count, law, dense(columns.shape[1]))
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    return run


def _check(points: Tensor, count: int, kernel: str, scale: float | None) -> None:
    if points.ndim != 2 or not points.is_floating_point():
        raise DataError(f"points must be floats of shape (n, D), but are {points.dtype} of shape {tuple(points.shape)}")
    if not points.numel():
        raise DataError(f"there must be at least one point and one coordinate, but the shape is {tuple(points.shape)}")
    if not bool((points.detach().double().abs() <= LARGEST).all()):  # so written, it refuses NaN too
        raise DataError(f"points must be finite and at most {LARGEST:g} in size; some coordinates are not")
    if kernel not in KERNELS:
        raise ConfigError(f"unknown kernel '{kernel}'; allowed: {', '.join(KERNELS)}")
    if not 1 <= count <= len(points):
        raise ConfigError(f"{count} medoids cannot be picked from {len(points)} points; allowed: 1 to {len(points)}")
    if scale is not None and not 0 < scale < math.inf:
        raise ConfigError(f"scale must be positive and finite, but is {scale}")
