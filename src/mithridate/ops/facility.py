"""The greedy rule of facility location itself, in torch on any device; :mod:`mithridate.ops.medoids` says what it is.

Gains are kept, and lessened by exactly what each pick takes from them: row ``j`` of the similarities is read again
only when the similarity ``b_j`` of point ``j`` to its nearest medoid rises, and gives ``max(0, s_ji - b_j)`` to ``i``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mithridate.ops.likeness import KERNELS, Law, pairwise_unlikeness, similarity, tiles, totals, unlikeness

ROOM = {"cpu": 2**18, "cuda": 2**24}
"""Numbers handled at a time: for caches, or for 128 MiB of float64."""
MANY = 8
"""Where more than one in so many points may be near, whole rows are computed."""


def kept_greedy(columns: Sequence[Tensor], counts: Sequence[int], laws: Sequence[Law]) -> list[tuple[Tensor, Tensor]]:
    """``chosen`` ``(count,)`` and ``assigned`` ``(n,)`` of several sets of points ``(D, n)``, picked side by side.

    All similarities are kept: ``4 n^2`` bytes a set, with the largest ``n``. Sets do not touch each other.
    """
    widest, device = max(each.shape[1] for each in columns), columns[0].device
    kept = torch.zeros((len(columns), widest, widest), dtype=torch.int32, device=device)
    gains = torch.full((len(columns), widest), -math.inf, dtype=torch.float64, device=device)  # none for what is no one
    for number, (each, law) in enumerate(zip(columns, laws, strict=True)):
        n = each.shape[1]
        gains[number, :n] = totals(each, law, kept[number, :n, :n])
    chosen = _kept_picks(kept, gains, torch.tensor(counts, device=device), max(counts))
    found = [row[:count] for row, count in zip(chosen, counts, strict=True)]
    return [(own, nearest(each, own, law)) for each, own, law in zip(columns, found, laws, strict=True)]


def _kept_picks(kept: Tensor, gains: Tensor, counts: Tensor, most: int) -> Tensor:
    """Picks ``(C, most)`` from similarities ``(C, n, n)`` int32 and first gains ``(C, n)``, which are used up.

    What is picked beyond a set's own count has no meaning. Nothing waits for the device but the number of rows to read.
    """
    sets, n = gains.shape
    numbers = torch.arange(sets, device=gains.device)
    best = torch.zeros((sets, n), dtype=torch.int32, device=gains.device)
    chosen = torch.empty((sets, most), dtype=torch.int64, device=gains.device)
    block = max(1, room(gains.device) // n)
    for pick in range(most):
        newest = gains.argmax(1)  # the first of the largest
        chosen[:, pick] = newest
        better = torch.maximum(best, kept[numbers, newest])
        if sets > 1:
            better = torch.where((pick < counts)[:, None], better, best)
        risen = (better > best).flatten().nonzero()[:, 0]
        for some in torch.split(risen, block):
            old, new = best.flatten()[some], better.flatten()[some]
            lost = kept.view(-1, n).index_select(0, some)
            torch.maximum(lost, old[:, None], out=lost)
            torch.minimum(lost, new[:, None], out=lost)
            gains -= _summed(lost.sub_(old[:, None]), new - old, some // n, sets)
        best = better
        gains[numbers, newest] = -math.inf  # a medoid is not picked again
    return chosen


def _summed(lost: Tensor, rise: Tensor, owner: Tensor, sets: int) -> Tensor:
    """Sums ``(sets, n)`` float64, exact, of the rows ``(r, n)`` int32 of each set; no row is above its ``rise``."""
    if lost.device.type == "cpu" and sets == 1 and int(rise.sum()) < 2**31:
        return lost.sum(0, dtype=torch.int32).double()
    members = (owner == torch.arange(sets, device=owner.device)[:, None]).double()
    return members @ lost.double()  # products by 0 and 1 of whole numbers: exact in any order


def free_greedy(columns: Tensor, count: int, law: Law) -> tuple[Tensor, Tensor]:
    """``chosen`` ``(count,)`` and ``assigned`` ``(n,)`` of ``(D, n)``; similarities are computed when they are needed.

    A row is needed where it is above ``b_j``, so for points nearer than the nearest medoid. Which these may be, a
    matrix product tells to 13 digits; those are then looked at exactly.
    """
    n = columns.shape[1]
    gains, near = totals(columns, law, None), _Near(columns, law)
    unlike = torch.full_like(gains, 0.0 if KERNELS[law.kind] == "cosine" else math.inf)  # of the nearest medoid so far
    best, assigned = torch.zeros_like(gains), torch.full((n,), -1, device=columns.device)
    chosen = torch.empty(count, dtype=torch.int64, device=columns.device)
    for pick in range(count):
        chosen[pick] = gains.argmax()  # the first of the largest
        newest = chosen[pick : pick + 1]
        fresh = unlikeness(columns, columns[:, newest], law)[0]
        assigned[fresh < unlike] = pick
        closer = torch.minimum(fresh, unlike)
        better = torch.maximum(best, similarity(fresh, law))
        risen = (better > best).nonzero()[:, 0]
        if pick == 0:  # everything changes: what is left is less than what is lost
            gains.zero_()
            near.add(gains, torch.arange(n, device=columns.device), closer, better, torch.full_like(best, math.inf), 1)
        else:
            near.add(gains, risen, unlike[risen], best[risen], better[risen], -1)
        best, unlike = better, closer
        gains[chosen[: pick + 1]] = -math.inf  # a medoid is not picked again
    return chosen, assigned


class _Near:
    """Points that may be nearer to others than a bound, found by a matrix product with room for its rounding errors."""

    def __init__(self, columns: Tensor, law: Law) -> None:
        self.columns, self.law = columns, law
        if KERNELS[law.kind] == "cosine":
            self.left, self.right, size = -columns.t(), columns, 1.0
        else:
            x = columns - (columns.amax(1, keepdim=True) + columns.amin(1, keepdim=True)) / 2
            squares = (x * x).sum(0)
            one = torch.ones_like(squares)[None]
            self.left = torch.cat([-2 * x, squares[None], one]).t().contiguous()  # (n, D + 2)
            self.right = torch.cat([x, one, squares[None]])
            size = 4 * float(squares.max())
        self.margin = size * (len(columns) + 8) * 2.0**-50

    def add(self, gains: Tensor, rows: Tensor, bound: Tensor, low: Tensor, high: Tensor, sign: float) -> None:
        """Add ``sign * (min(s, high) - low)`` to the gains ``(n,)`` for each of ``rows``, where ``s`` is above ``low``.

        ``bound`` is the unlikeness at which the similarity is ``low``; all are ``(r,)``.
        """
        limits = _widened(bound, self.law) + self.margin
        block = max(1, room(gains.device) // len(gains))
        for start in range(0, len(rows), block):
            own = slice(start, start + block)
            near = self.left[rows[own]] @ self.right < limits[own, None]  # (b, n)
            if int(near.count_nonzero()) * MANY > near.numel():
                self._add_whole(gains, rows[own], low[own, None], high[own, None], sign)
                continue
            row, point = near.nonzero().unbind(1)
            x = (each.index_select(0, rows[own][row]) for each in self.columns)
            y = (each.index_select(0, point) for each in self.columns)
            shares = _shares(pairwise_unlikeness(x, y, self.law), low[own][row], high[own][row], self.law)
            gains.index_add_(0, point, shares, alpha=sign)

    def _add_whole(self, gains: Tensor, rows: Tensor, low: Tensor, high: Tensor, sign: float) -> None:
        """The same, looking at all points."""
        for start, end in tiles(len(gains), gains.device):
            unlike = unlikeness(self.columns[:, start:end], self.columns[:, rows], self.law)
            gains[start:end].add_(_shares(unlike, low, high, self.law).sum(0), alpha=sign)


def _shares(unlike: Tensor, low: Tensor, high: Tensor, law: Law) -> Tensor:
    """What of the similarities is above ``low``, as far as ``high``."""
    return similarity(unlike, law).minimum(high).sub_(low).clamp_(min=0)


def _widened(bound: Tensor, law: Law) -> Tensor:
    """An unlikeness from which on the rounded similarity is surely no more than at ``bound``."""
    if KERNELS[law.kind] == "cosine":
        return bound
    return (bound.sqrt() + law.slack).square_() * (1 + 1e-12)


def nearest(columns: Tensor, chosen: Tensor, law: Law) -> Tensor:
    """For each point ``(D, n)`` its nearest of the points ``chosen`` ``(k,)``, as place in it; the first on ties.

    -1 where the cosine to none is positive.
    """
    n, block = columns.shape[1], max(1, room(columns.device) // len(chosen))
    found = torch.empty(n, dtype=torch.int64, device=columns.device)
    for start in range(0, n, block):
        own = slice(start, start + block)
        least, found[own] = unlikeness(columns[:, chosen], columns[:, own], law).min(1)
        if KERNELS[law.kind] == "cosine":
            found[own] = torch.where(least < 0, found[own], -1)
    return found


def room(device: torch.device) -> int:
    """How many numbers are handled at a time."""
    return ROOM["cpu" if device.type == "cpu" else "cuda"]
