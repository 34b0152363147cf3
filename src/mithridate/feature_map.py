"""Where a target lies among two classes and the poison, seen by a network: points in a plane, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.goal import Aims
from mithridate.model import Classifier


def feature_map(
    model: Classifier, data: Dataset, *, aims: Aims, poison_ids: Tensor, limit: int = 150
) -> dict[str, Any] | None:
    """Where the first target lies among two classes, seen by the network: points in a plane, for the report.

    The first axis leads from the centre of the target's true class to that of the intended class; the second is the
    direction of largest variance at right angles to it. Features are penultimate and unaugmented. None where one of
    the classes has no clean row left, or features are not finite.
    """
    if aims.wanted is None or not len(aims):
        return None
    device = next((each.device for each in model.parameters()), data.device)
    true, wanted = int(aims.labels[0]), int(aims.wanted[0])
    is_poison = torch.isin(data.ids, poison_ids.to(data.ids.device))
    groups = {
        "target class": (data.labels == true) & ~is_poison,
        "intended class": (data.labels == wanted) & ~is_poison,
        "poison": is_poison,
    }
    if not (bool(groups["target class"].any()) and bool(groups["intended class"].any())):
        return None
    picked = {name: mask.nonzero().flatten()[:limit] for name, mask in groups.items()}
    inputs = [data.take(index)[0] for index in picked.values()] + [aims.seen()[:1].to(data.device)]
    with torch.no_grad():
        features = model.features(torch.cat(inputs).to(device)).float().cpu()
    if not bool(torch.isfinite(features).all()):
        return None
    names = [name for name, index in picked.items() for _ in range(len(index))] + ["target"]
    points = _plane(features, [name == "target class" for name in names], [name == "intended class" for name in names])
    rounded = [[round(x, 4), round(y, 4)] for x, y in points.tolist()]
    axes = ["from the target's class to the intended class", "largest variance across"]
    return {"points": rounded, "groups": names, "axes": axes}


def _plane(features: Tensor, start: Sequence[bool], end: Sequence[bool]) -> Tensor:
    """Features ``(n, D)`` in the plane of the class axis and the widest direction across it, ``(n, 2)``."""
    first, second = features[torch.tensor(start)].mean(0), features[torch.tensor(end)].mean(0)
    axis = (second - first) / (second - first).norm().clamp_min(1e-12)
    centred = features - (first + second) / 2
    along = centred @ axis
    across = centred - along[:, None] * axis
    widest = torch.linalg.svd(across - across.mean(0), full_matrices=False).Vh[0]
    widest = widest * (1 if float(widest[widest.abs().argmax()]) > 0 else -1)
    return torch.stack([along, across @ widest], dim=1)
