"""Where a finished poison lies in a network's feature space: coefficients, distances, and a plane to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.goal import Aims
from mithridate.model import Classifier
from mithridate.ops.polytope import combined, convex_coefficients, equal_coefficients, relative_distance
from mithridate.poison import Poison

_CLOUD = 80
"""Rows drawn of each class."""
_DIGITS = 4


def polytope_view(model: Classifier, data: Dataset, *, poison: Poison, aims: Aims) -> dict[str, Any] | None:
    """Numbers and points about the first target, the poison and its base rows, seen by ``model`` without dropout.

    ``coefficients`` (k numbers) are those of the convex combination of the poison rows nearest to the target, in
    penultimate features; ``hull``, ``mean`` and ``each`` are the distances of the target to that combination, to the
    rows' mean and to each row, over the target's length; ``clean_hull`` and ``clean_mean`` are those of the untouched
    base rows. ``points`` ``(n, 2)`` and ``groups`` are a plane: through the target's class, the intended class and,
    across it, the direction in which the poison is widest. None where features are not finite, or a class has no rows.
    """
    if aims.wanted is None or not len(aims):
        return None
    device = next(model.parameters()).device
    base = data.rows(poison.rows.ids)
    target = _features(model, aims.seen()[:1].to(device))
    moved, clean = (_features(model, each.all_inputs().to(device)) for each in (poison.rows, base))
    others = data.without(poison.rows.ids)
    clouds = [_cloud(model, others, int(label), device) for label in (aims.labels[0], aims.wanted[0])]
    everything = [*clouds, clean, moved, target]
    if not all(len(each) and bool(torch.isfinite(each).all()) for each in everything):
        return None
    names = ["target class", "intended class", "base", "poison", "target"]
    plane = _plane(clouds[0], clouds[1], moved, torch.cat(everything))
    return {
        **_distances(moved, target, ""),
        **{name: value for name, value in _distances(clean, target, "clean_").items() if "each" not in name},
        "coefficients": _rounded(convex_coefficients(moved[None], target)[0]),
        "points": [[round(x, _DIGITS), round(y, _DIGITS)] for x, y in plane.tolist()],
        "groups": [name for name, group in zip(names, everything, strict=True) for _ in range(len(group))],
        "axes": ["from the target's class to the intended class", "where the poison is widest across"],
    }


def _features(model: Classifier, inputs: Tensor) -> Tensor:
    """Penultimate features ``(N, D)`` in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return model.features(inputs).float()


def _cloud(model: Classifier, data: Dataset, label: int, device: torch.device) -> Tensor:
    rows = data.at((data.labels == label).nonzero().flatten()[:_CLOUD])
    return _features(model, rows.all_inputs().to(device)) if len(rows) else torch.zeros(0, 1, device=device)


def _distances(points: Tensor, target: Tensor, head: str) -> dict[str, Any]:
    """Distances of the target ``(1, D)`` to the hull and the mean of points ``(k, D)``, and to each."""
    shown = points[None]
    hull = relative_distance(combined(shown, convex_coefficients(shown, target)), target)
    mean = relative_distance(combined(shown, equal_coefficients(shown)), target)
    each = relative_distance(points, target.expand_as(points))
    return {
        f"{head}hull": round(float(hull), _DIGITS),
        f"{head}mean": round(float(mean), _DIGITS),
        f"{head}each": _rounded(each),
    }


def _plane(start: Tensor, end: Tensor, poison: Tensor, points: Tensor) -> Tensor:
    """Points ``(n, D)`` in the plane of the class axis and the direction across it in which poison is widest."""
    first, second = start.mean(0), end.mean(0)
    axis = (second - first) / (second - first).norm().clamp_min(1e-12)
    middle = (first + second) / 2
    across = poison - middle
    across = across - (across @ axis)[:, None] * axis
    if len(poison) > 1:
        across = across - across.mean(0)
    widest = torch.linalg.svd(across, full_matrices=False).Vh[0]
    widest = widest * (1 if float(widest[widest.abs().argmax()]) > 0 else -1)
    centred = points - middle
    return torch.stack([centred @ axis, centred @ widest], dim=1).cpu()


def _rounded(values: Tensor | Sequence[float]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
