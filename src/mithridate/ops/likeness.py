"""How alike points are: similarities computed to the last bit alike on every device, in whole steps.

Distances come from differences in float64, coordinate after coordinate, and ``exp`` from products and sums alone,
which round alike everywhere. Then similarities are rounded to multiples of ``2^-30``: all sums of fewer than 2^23 of
them are exact in float64, in whatever order they are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

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
SLACK = 1e-11
"""Of the length of a kernel: more than the rounding errors of a similarity are worth as a distance."""
TILES = {"cpu": 256, "cuda": 4096}
"""Rows and columns of a tile of similarities: 512 KiB in float64 for caches, or 128 MiB."""


class Law(NamedTuple):
    """How a similarity is computed: ``kind`` is a place in ``KERNELS``; the rest are constants of that kernel."""

    kind: int
    unit: float
    """What distances are multiplied by."""
    doublings: int
    """How often ``exp`` of the ``2^doublings``-th part is squared."""
    slack: float
    """``SLACK`` as a distance. Points farther apart by more than that are not more similar, once rounded."""


def law_of(columns: Tensor, kernel: Kernel, scale: float | None) -> Law:
    """The constants of a kernel for these points ``(D, n)``; plain Python arithmetic, so alike on every device."""
    kind = KERNELS.index(kernel)
    sides = (columns.amax(1) - columns.amin(1)).tolist()
    diagonal = math.sqrt(sum(side * side for side in sides))
    if kernel != "exp":
        return Law(kind, 1 / (diagonal or 1.0), 0, SLACK * (diagonal or 1.0))
    length = len(columns) if scale is None else scale
    parts = 0  # each part at most LIMIT; beyond exp(-32), far less than half a step, nothing need be told apart
    while parts < 8 and diagonal / length > LIMIT * 2**parts:
        parts += 1
    return Law(kind, 1 / (length * 2**parts), parts, SLACK * length)


def directions(columns: Tensor) -> Tensor:
    """Points ``(D, n)`` scaled to length 1 and rounded to ``2^-26``; those at the origin stay there.

    So rounded, points on one ray are equal, and their products are summed exactly.
    """
    squares = torch.zeros_like(columns[0])
    for x in columns:
        squares = squares + x * x
    return (columns / torch.where(squares > 0, squares.sqrt(), 1.0)).mul_(2.0**26).round_().div_(2.0**26)


def unlikeness(columns: Tensor, own: Tensor, law: Law) -> Tensor:
    """Squared distance, or minus the cosine, of the points ``own`` ``(D, b)`` to all ``(D, n)``: ``(b, n)``."""
    return pairwise_unlikeness(columns[:, None], own[:, :, None], law)


def pairwise_unlikeness(x: Iterable[Tensor], y: Iterable[Tensor], law: Law) -> Tensor:
    """The same of points given coordinate by coordinate, each ``(*shape)``, which are broadcast."""
    pairs = zip(x, y, strict=True)
    cosine, (one, other) = KERNELS[law.kind] == "cosine", next(pairs)
    total = one * other if cosine else (one - other).square_()
    buffer = torch.empty_like(total)
    for one, other in pairs:
        if cosine:
            total.add_(torch.mul(one, other, out=buffer))
        else:
            torch.sub(one, other, out=buffer)
            total.add_(buffer.mul_(buffer))
    return total.neg_() if cosine else total


def similarity(unlike: Tensor, law: Law) -> Tensor:
    """Similarity, at least 0, in whole multiples of 1 / ``ONE``, float64; shape of ``unlike``, which may be lost."""
    match KERNELS[law.kind]:
        case "exp":
            x = unlike.sqrt_().mul_(-law.unit).clamp_(min=-LIMIT)
            value = torch.mul(x, SERIES[0]).add_(SERIES[1])
            for factor in SERIES[2:]:
                value.mul_(x).add_(factor)
            for _ in range(law.doublings):
                value.mul_(value)
        case "linear":
            value = unlike.sqrt_().mul_(-law.unit).add_(1.0)
        case "cosine":
            value = unlike.neg_().clamp_(min=0)
    return value.mul_(ONE).add_(0.5).floor_()


def totals(columns: Tensor, law: Law, kept: Tensor | None) -> Tensor:
    """Each point's sum of similarities to all, ``(n,)`` float64; these go into ``kept`` ``(n, n)`` int32, if given.

    What is above the diagonal is computed, the rest is the same.
    """
    n = columns.shape[1]
    found = columns.new_zeros(n)
    for start, end in tiles(n, columns.device):
        for first, last in tiles(n, columns.device, start):
            tile = similarity(unlikeness(columns[:, first:last], columns[:, start:end], law), law)
            found[start:end] += tile.sum(1)
            if kept is not None:
                kept[start:end, first:last] = tile
            if first > start:
                found[first:last] += tile.sum(0)
                if kept is not None:
                    kept[first:last, start:end] = kept[start:end, first:last].t()
    return found


def tiles(n: int, device: torch.device, start: int = 0) -> list[tuple[int, int]]:
    """Where the tiles of ``n`` rows begin and end, from that on which begins at ``start``."""
    side = TILES["cpu" if device.type == "cpu" else "cuda"]
    return [(each, min(each + side, n)) for each in range(start, n, side)]
