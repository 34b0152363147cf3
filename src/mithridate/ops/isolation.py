"""Which rows stand alone among the gradients of their class: the selection rule of EPIC, without a training around it.

Yang, Liu, Mirzasoleiman 2022 (https://arxiv.org/abs/2210.09671): in every class, greedy medoids of the gradients are
chosen, and a medoid that represents nobody but itself is isolated. The gradient is that of the cross-entropy with
respect to the logits, ``p - onehot(y)``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mithridate.errors import ConfigError, DataError
from mithridate.ops.likeness import Kernel
from mithridate.ops.medoids import by_class

_BLOCK = 2**22
"""Distances held at once, 32 MiB in float64."""


def isolated(
    probabilities: Tensor,
    labels: Tensor,
    fraction: float,
    *,
    ids: Tensor | None = None,
    kernel: Kernel = "exp",
    min_cluster: int = 1,
    workers: int = 1,
) -> Tensor:
    """Which rows are in clusters of at most ``min_cluster`` members, ``(N,)`` bool.

    ``probabilities`` ``(N, C)`` are the network's softmax outputs, ``labels`` ``(N,)`` int64. ``fraction`` of the rows,
    in [0, 1), become medoids, each class in proportion (:func:`budgets`); every row joins the most similar medoid of
    its class. A row similar to no medoid (``cosine`` only) is isolated too; of two classes the gradients of each are
    parallel, and ``cosine`` tells nothing. A class of no more than ``min_cluster`` rows has no isolated one, since
    nobody could have joined it.

    Ties go to the lowest of ``ids`` ``(N,)`` int64, so with ids the order of the rows does not matter; without them,
    to the first row. ``workers`` classes are worked on at once. Raises :class:`DataError` or :class:`ConfigError` for
    values outside these ranges.
    """
    if min_cluster < 1:
        raise ConfigError(f"min_cluster must be at least 1, but it is {min_cluster}")
    sizes = cluster_sizes(probabilities, labels, fraction, ids=ids, kernel=kernel, workers=workers)
    return alone(sizes, labels, min_cluster)


def alone(sizes: Tensor, labels: Tensor, min_cluster: int) -> Tensor:
    """Which rows are isolated, ``(N,)`` bool, by the sizes of their clusters ``(N,)``."""
    return (sizes <= min_cluster) & (torch.bincount(labels)[labels] > min_cluster)


def cluster_sizes(
    probabilities: Tensor,
    labels: Tensor,
    fraction: float,
    *,
    ids: Tensor | None = None,
    kernel: Kernel = "exp",
    workers: int = 1,
) -> Tensor:
    """How many rows share each row's medoid, itself counted, ``(N,)`` int64; arguments as in :func:`isolated`.

    0 for a row similar to no medoid; a class without medoids is one cluster.
    """
    ids = torch.arange(len(labels), device=labels.device) if ids is None else ids
    _check(probabilities, labels, fraction, ids)
    order = ids.argsort()
    labels = labels[order]
    counts = {label: count for label, count in budgets(labels, fraction).items() if count}
    sizes = torch.bincount(labels)[labels]
    found = by_class(gradients(probabilities[order], labels), labels, counts, kernel=kernel, workers=workers)
    for members, medoids in found.values():
        shared = medoids.sizes[medoids.assigned.clamp_min(0)]
        sizes[members] = torch.where(medoids.assigned < 0, 0, shared)
    return torch.empty_like(sizes).index_copy_(0, order, sizes)


def budgets(labels: Tensor, fraction: float) -> Mapping[int, int]:
    """How many medoids each class gets: ``floor(fraction * N)`` in proportion to its rows.

    Shares are rounded down, and what is left goes to the largest remainders, the lowest class first among equals.
    """
    rows = torch.bincount(labels).tolist()
    total = sum(rows)
    medoids = int(fraction * total + 1e-9)  # 0.29 * 100 is 28.999999999999996
    shares = {label: divmod(count * medoids, total) for label, count in enumerate(rows) if count}
    left = medoids - sum(share for share, _ in shares.values())
    first = sorted(shares, key=lambda label: (-shares[label][1], label))[:left]
    return {label: share + (label in first) for label, (share, _) in shares.items()}


def gradients(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Gradients of the cross-entropy with respect to the logits, ``p - onehot(y)``, ``(N, C)`` float64."""
    ones = torch.ones_like(labels, dtype=torch.float64)[:, None]
    return probabilities.detach().double().scatter_add(1, labels[:, None], -ones)


def gaps(probabilities: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Distance from each of ``rows`` to the nearest other row of its class, Euclidean, ``(n,)`` float64.

    ``rows`` ``(n,)`` are positions among ``probabilities`` ``(N, C)``; infinite for a row alone in its class.
    """
    points = probabilities.detach().double()
    found = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=points.device)
    for label in torch.unique(labels[rows]):
        members = (labels == label).nonzero()[:, 0]
        mine = (labels[rows] == label).nonzero()[:, 0]
        for part in mine.split(max(1, _BLOCK // len(members))):
            own = rows[part]
            distances = _distances(points[own], points[members])
            distances[own[:, None] == members] = torch.inf
            found[part] = distances.amin(1)
    return found


def _distances(some: Tensor, points: Tensor) -> Tensor:
    """Euclidean distances ``(b, n)`` of float64 points, from differences; a product of matrices blurs short ones."""
    return torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist")


def _check(probabilities: Tensor, labels: Tensor, fraction: float, ids: Tensor) -> None:
    if not 0 <= fraction < 1:
        raise ConfigError(f"fraction must lie in [0, 1), but it is {fraction:g}")
    if probabilities.ndim != 2 or not probabilities.is_floating_point():
        shape = tuple(probabilities.shape)
        raise DataError(f"probabilities must be floats of shape (N, C), but are {probabilities.dtype} of shape {shape}")
    count, classes = probabilities.shape
    if labels.shape != (count,) or ids.shape != (count,) or not count:
        raise DataError(
            f"there must be a row at least, and a label and an id for each, but there are {count} rows, "
            f"{tuple(labels.shape)} labels and {tuple(ids.shape)} ids"
        )
    if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"labels must be int64 in 0..{classes - 1}, but are {labels.dtype} up to {int(labels.max())}")
    if len(torch.unique(ids)) != count:
        raise DataError("two rows have the same id; ids must be unique")
    sums = probabilities.sum(1, dtype=torch.float64)
    if not bool(((sums - 1).abs() < 0.05).all() & (probabilities >= 0).all()):  # so written, it refuses NaN too
        raise DataError("probabilities must be at least 0 and add up to 1 in each row; apply a softmax to logits")
