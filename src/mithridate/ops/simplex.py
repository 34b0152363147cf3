"""The convex combination of a few points that comes nearest to a target, for many such problems at once.

This is the inner problem of Convex Polytope (Zhu et al. 2019, https://arxiv.org/abs/1905.05897): coefficients ``c``, at
least 0 and adding up to 1, that minimise ``||t - sum_j c_j p_j||^2``. That is ``c^T G c`` with the Gram matrix ``G`` of
the differences ``p_j - t``, so the width of the points matters no more once ``G`` is there.

Up to six points, every set of points that could share the weight is tried, and the answer is exact. Above, FISTA
(Beck, Teboulle 2009) with adaptive restarts (O'Donoghue, Candes 2015, https://arxiv.org/abs/1204.3982) finds the set,
and solving on it gives the digits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mithridate.errors import DataError

ENUMERATED = 6
"""Most points for which all ``2^k - 1`` supports are solved."""
TOLERANCE = 1e-9
"""Largest duality gap of an answer, as a part of the squared distance from the target to the nearest point."""
_ROUNDING = 1e-14
"""What 16 digits leave of a duality gap, as a part of the largest entry of the Gram matrix."""
_RIDGE = 1e-14
"""Added to a diagonal of ones, so that points that depend on each other have a solution too.

With 0, 11 of 400 batches of 8 stretched problems ran out of steps; with 1e-13, one; with 1e-14, none.
"""
_CHECK = 25
"""FISTA steps between two looks at the duality gap; each look waits for the device."""
_POLISHES = 4
"""Supports solved at the first look, and one more at each look after it.

With 4 at every look, some of 25 stretched points ran out of steps; with one more each time, none of 3200 took 700.
"""


def projection(values: Tensor) -> Tensor:
    """The nearest point of the probability simplex to each of ``values``, ``(..., k)``, in Euclidean distance.

    Subtracts from every entry what makes the positive rest add up to 1, found by sorting (Held, Wolfe, Crowder 1974).
    """
    exact = values.double() - values.double().amax(-1, keepdim=True)  # so that 1 is not lost beside them
    sums = torch.ones(2 * values.shape[-1:], dtype=exact.dtype, device=exact.device).triu_()  # CUDA's cumsum varies
    levels = (exact.sort(dim=-1, descending=True).values @ sums - 1) / sums.sum(0)  # if the r largest stay positive
    return (exact - levels.amax(-1, keepdim=True)).clamp(min=0).to(values.dtype)


@torch.no_grad()
def coefficients(points: Tensor, target: Tensor) -> Tensor:
    """Coefficients ``(B, k)`` float64 on the simplex that minimise ``||target - c @ points||^2``.

    ``points`` ``(B, k, D)`` and ``target`` ``(B, D)`` are of any floating type; sums are in float64. No gradient flows
    through the coefficients, and none is needed: at the minimum that of the squared distance is the same with
    coefficients held fixed (envelope theorem). Where several coefficients give the minimum, it is one of them.
    Raises :class:`DataError` for other shapes.
    """
    if points.ndim != 3 or target.shape != (points.shape[0], points.shape[2]):
        raise DataError(
            f"points must have shape (B, k, D) and the target (B, D), "
            f"but they have {tuple(points.shape)} and {tuple(target.shape)}"
        )
    apart = points.double() - target.double()[:, None]  # first, for G from large products would lose digits
    return least_combination(apart @ apart.mT)


@torch.no_grad()
def least_combination(gram: Tensor, *, max_steps: int = 2000) -> Tensor:
    """Coefficients ``(B, k)`` on the simplex that minimise ``c^T G c``, for semidefinite ``(B, k, k)`` float64.

    Exact to rounding up to six points. Above, the duality gap ends below a billionth of the smallest diagonal entry
    (and 14 digits of the largest), or ``max_steps`` steps have passed, which :func:`gap` tells. The scale of a matrix
    does not matter, nor what else is in the batch; one whose diagonal is not finite gives NaN. Raises
    :class:`DataError` for other shapes or types.
    """
    if gram.ndim != 3 or gram.shape[1] != gram.shape[2] or not gram.shape[1] or gram.dtype != torch.float64:
        raise DataError(f"the Gram matrices must be (B, k, k) float64, but are {tuple(gram.shape)} {gram.dtype}")
    return _enumerated(gram) if gram.shape[1] <= ENUMERATED else _accelerated(gram, max_steps)


def gap(gram: Tensor, c: Tensor) -> Tensor:
    """The Frank-Wolfe duality gap ``(B,)`` of coefficients ``(B, k)``.

    ``c^T G c`` is above its minimum by no more, but for rounding.
    """
    slopes = (gram @ c[..., None])[..., 0]
    return 2 * ((slopes * c).sum(-1) - slopes.amin(-1)).clamp(min=0)


def _enumerated(gram: Tensor) -> Tensor:
    """The best of the minima on the affine hulls of all sets of points, each cut to the simplex.

    The minimum lies in the hull of some affinely independent points (Caratheodory), and is what solving on those gives.
    What other sets give, if anything, may be mostly rounding errors, and is judged by its value on the simplex.
    """
    found = _Lifted.of(gram[:, None]).minima(_every_support(gram.shape[1], gram.device)).clamp_(min=0)
    found = found / found.sum(-1, keepdim=True)  # (B, 2^k - 1, k)
    values = ((found @ gram) * found).sum(-1).nan_to_num_(nan=torch.inf)
    best = values.argmin(-1)[:, None, None].expand(-1, 1, gram.shape[1])
    return found.gather(1, best)[:, 0]


def _accelerated(gram: Tensor, max_steps: int) -> Tensor:
    """FISTA, and every ``_CHECK`` steps the way on to the minimum on the support so far.

    An answer is kept from when its gap is small enough, so it does not depend on what else is in the batch.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    enough = TOLERANCE * diagonal.amin(-1) + _ROUNDING * diagonal.amax(-1)
    lifted = _Lifted.of(gram)
    tilts = gram - gram.mean(1, keepdim=True)  # half the gradient along the simplex is tilts @ c
    step = 1 / _curvature(tilts)
    c = lifted.scale.square() / lifted.scale.square().sum(1, keepdim=True)  # evenly, but little for points far off
    ahead, pace = c, torch.ones_like(step)
    found, least = torch.full_like(c, torch.nan), torch.full_like(enough, torch.inf)
    for number in range(max_steps + 1):
        if number % _CHECK == 0 or number == max_steps:
            polished = _polished(gram, lifted, c, min(_POLISHES + number // _CHECK, gram.shape[1]))
            left = gap(gram, polished)
            closer = (left < least) & (least > enough)
            found, least = torch.where(closer[:, None], polished, found), torch.where(closer, left, least)
            if not bool((least > enough).any()):
                break
            moved = (polished != c).any(1, keepdim=True)
            c, ahead, pace = polished, torch.where(moved, polished, ahead), torch.where(moved, 1, pace)
        following = projection(ahead - step * (tilts @ ahead[..., None])[..., 0])
        change = following - c
        pace = torch.where(((ahead - following) * change).sum(1, keepdim=True) > 0, 1, pace)
        faster = (1 + (1 + 4 * pace.square()).sqrt()) / 2
        c, ahead, pace = following, following + (pace - 1) / faster * change, faster
    return found


def _curvature(tilts: Tensor) -> Tensor:
    """The largest eigenvalue along the simplex ``(B, 1)``, or up to ``k^(1/64)`` times as much, of ``(B, k, k)``.

    From the norm of a high power, which no matrix makes fail. 1 where the eigenvalue is 0.
    """
    across = tilts - tilts.mean(2, keepdim=True)
    trace = across.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    trace = trace + (trace <= 0)
    power = across / trace
    for _ in range(5):
        power = power @ power
    largest: Tensor = trace * power.square().sum((1, 2), keepdim=True) ** (1 / 64)
    return (largest + (largest <= 0))[:, 0]


def _polished(gram: Tensor, lifted: _Lifted, c: Tensor, times: int) -> Tensor:
    """``c`` moved towards the minimum on its support as far as the simplex reaches, where that is not worse.

    Where an edge is in the way, from there towards the minimum on what is left; ``times`` times.
    """
    for _ in range(times):
        wanted = lifted.minima(_Supports.of((c > 0).to(c), _RIDGE))
        wanted = wanted / wanted.sum(-1, keepdim=True)
        reach = torch.where(wanted < 0, c / (c - wanted), torch.inf)
        part = reach.amin(-1, keepdim=True).clamp(max=1)
        moved = torch.where(reach <= part, 0, c + part * (wanted - c)).clamp(min=0)
        moved = moved / moved.sum(-1, keepdim=True)
        c = torch.where(_value(gram, moved) <= _value(gram, c), moved, c)
    return c


def _value(gram: Tensor, c: Tensor) -> Tensor:
    """``c^T G c`` as ``(B, 1)``."""
    return ((c[:, None] @ gram)[:, 0] * c).sum(-1, keepdim=True)


class _Supports(NamedTuple):
    """Sets of points, as ``_Lifted.minima`` needs them."""

    members: Tensor
    """``(..., k)`` of 0 and 1."""
    among: Tensor
    """1 for pairs of members, ``(..., k, k)``."""
    diagonal: Tensor
    """What their diagonal needs more: 1 outside the set, the ridge inside, ``(..., k, k)``."""

    @classmethod
    def of(cls, members: Tensor, ridge: float) -> _Supports:
        among = members[..., None] * members[..., None, :]
        return cls(members, among, torch.diag_embed(1 - members + ridge * members))


@lru_cache(maxsize=64)
def _every_support(count: int, device: torch.device) -> _Supports:
    """All sets of ``count`` points but the empty one."""
    bits = torch.arange(1, 2**count, device=device)[:, None] >> torch.arange(count, device=device) & 1
    return _Supports.of(bits.double(), 0)


class _Lifted(NamedTuple):
    """The Gram matrix of points one dimension up, all moved off the origin by as much, and scaled to length 1.

    On affine combinations it adds a constant to ``c^T G c``. Yet it has an inverse whenever no point is an affine
    combination of others, even if the target is one. Solving with it for ones gives a multiple of the minimum.
    """

    matrix: Tensor
    """``(..., k, k)``, ones on its diagonal."""
    scale: Tensor
    """One over the lengths, ``(..., k)``."""

    @classmethod
    def of(cls, gram: Tensor) -> _Lifted:
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        low, high = diagonal.amin(-1, keepdim=True), diagonal.amax(-1, keepdim=True)
        lift = torch.maximum(low, 1e-12 * high) + (high <= 0)
        scale = (diagonal + lift).rsqrt()
        return cls((gram + lift[..., None]) * scale[..., None] * scale[..., None, :], scale)

    def minima(self, supports: _Supports) -> Tensor:
        """Multiples of the least affine combinations of each set, ``(..., k)``, 0 outside it."""
        matrix = torch.addcmul(supports.diagonal, supports.among, self.matrix)
        wanted = (supports.members * self.scale)[..., None]
        found: Tensor = torch.linalg.solve_ex(matrix, wanted, check_errors=False).result[..., 0]
        return found * self.scale
