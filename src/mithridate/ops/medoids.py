"""Greedy medoids of a set of points by facility location, exactly and in bounded memory.

Facility location is ``F(S) = sum_i max(0, max over j in S of s_ij)`` for a similarity ``s``; the greedy rule adds the
point that raises ``F`` most, the first of those on ties (Nemhauser, Wolsey & Fisher 1978,
https://doi.org/10.1007/BF01588971). EPIC (Yang et al. 2022, https://arxiv.org/abs/2210.09671) clusters gradients so.
Three things make it exact and quick:

1. Similarities are rounded to multiples of ``2^-30``. All sums of fewer than 2^23 of them are then exact in float64,
   in whatever order they are added: real ties stay ties, and no rounding error decides a pick.
2. All gains are kept, and lessened by exactly what a pick takes from them: only the rows of points whose best
   similarity has risen are read again. On softmax outputs that is a few n rows, where the naive rule reads k n, and it
   picks the same points (as a lazy queue does). Half of the matrix is computed; the other half is the same.
3. Similarities are computed so that they round alike everywhere (:mod:`mithridate.ops.likeness`). So the picks do not
   depend on the device, nor on whether numba is installed, nor on how many classes are worked on at once.

All similarities are kept where they take at most ``DENSE_BYTES``; else they are computed when they are needed, which is
where a point may be nearer than the nearest medoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mithridate.errors import ConfigError, DataError
from mithridate.ops.facility import free_greedy, kept_greedy
from mithridate.ops.likeness import KERNELS, Kernel, Law, directions, law_of

DENSE_BYTES = 200 * 10**6
"""All similarities of a set are kept where they, at 4 bytes each, take no more than this: up to 7 071 points."""
TOGETHER_BYTES = 4 * 10**9
"""Classes on a CUDA device are worked on side by side while all their similarities take no more than this."""
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


def facility_location(points: Tensor, count: int, *, kernel: Kernel = "exp", scale: float | None = None) -> Medoids:
    """The ``count`` greedy medoids of ``points`` ``(n, D)``, float; they come back on the device of the points.

    ``scale`` is the length of the ``exp`` kernel, ``D`` where none is given, as in EPIC's release; the picks of the
    other kernels do not depend on a scale. On a CPU with numba the work runs as compiled loops on one thread. Memory:
    ``4 n^2`` bytes where that is at most ``DENSE_BYTES``, else a few rows of ``8 n`` bytes.

    Raises :class:`DataError` for points that are not finite floats in two dimensions, and :class:`ConfigError` for a
    ``count`` outside 1..n, an unknown kernel or a scale that is not positive.
    """
    columns, law = _prepared(points, count, kernel, scale)
    compiled = _compiled_greedy() if points.device.type == "cpu" else None
    if compiled:
        chosen, assigned = compiled(columns, count, law)
    elif dense(len(points)):
        ((chosen, assigned),) = kept_greedy([columns], [count], [law])
    else:
        chosen, assigned = free_greedy(columns, count, law)
    return _medoids(chosen, assigned)


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
    On a CPU ``workers`` threads work on a class each, and each needs the memory of one :func:`facility_location`; on
    CUDA the classes whose similarities fit into ``TOGETHER_BYTES`` are worked on as one batch. The result does not
    depend on either. Raises what that raises, naming the class.
    """
    if labels.shape != points.shape[:1]:
        raise DataError(f"there must be one label a point, but {tuple(labels.shape)} labels for {len(points)} points")
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, but is {workers}")
    members = {label: (labels == label).nonzero()[:, 0] for label in sorted(counts)}
    if points.device.type == "cuda":
        found = _side_by_side(points, members, counts, kernel, scale)
    else:

        def one(label: int) -> Medoids:
            with _naming(label):
                return facility_location(points[members[label]], counts[label], kernel=kernel, scale=scale)

        with ThreadPoolExecutor(workers) as threads:
            found = dict(zip(members, threads.map(one, members), strict=True))
    return {label: (own, found[label]) for label, own in members.items()}


def _side_by_side(
    points: Tensor, members: Mapping[int, Tensor], counts: Mapping[int, int], kernel: Kernel, scale: float | None
) -> dict[int, Medoids]:
    """The medoids of each class, several classes at a time; larger classes each by themselves."""
    prepared = {}
    for label, own in members.items():
        with _naming(label):
            prepared[label] = _prepared(points[own], counts[label], kernel, scale)
    found = {}
    for labels in _groups({label: len(own) for label, own in members.items()}):
        columns, laws = zip(*(prepared[label] for label in labels), strict=True)
        if dense(columns[0].shape[1]):
            pairs = kept_greedy(columns, [counts[label] for label in labels], laws)
        else:
            pairs = [free_greedy(columns[0], counts[labels[0]], laws[0])]
        found.update({label: _medoids(*pair) for label, pair in zip(labels, pairs, strict=True)})
    return found


def _groups(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Classes that are worked on side by side: those of like size, and alone those whose matrix is not kept."""
    group: list[int] = []
    for label in sorted(sizes, key=lambda each: -sizes[each]):
        if group and (not dense(sizes[group[0]]) or 4 * sizes[group[0]] ** 2 * (len(group) + 1) > TOGETHER_BYTES):
            yield group
            group = []
        group.append(label)
    if group:
        yield group


@contextmanager
def _naming(label: int) -> Iterator[None]:
    """Errors inside name the class."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(f"class {label}: {error}") from None


def dense(n: int) -> bool:
    """Whether all similarities of ``n`` points are kept."""
    return 4 * n * n <= DENSE_BYTES


def _prepared(points: Tensor, count: int, kernel: Kernel, scale: float | None) -> tuple[Tensor, Law]:
    """The points as columns ``(D, n)`` float64, and the constants of the kernel, once all has been checked."""
    _check(points, count, kernel, scale)
    columns = points.detach().double().t().contiguous()
    if kernel == "cosine":
        columns = directions(columns)
    return columns, law_of(columns, kernel, scale)


def _medoids(chosen: Tensor, assigned: Tensor) -> Medoids:
    sizes = torch.bincount(assigned[assigned >= 0], minlength=len(chosen)).clamp_min(1)
    return Medoids(chosen=chosen, assigned=assigned, sizes=sizes)


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
