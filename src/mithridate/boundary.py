"""What a victim calls every place of a plane, where its data are tables of two columns: for the report."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.learner import predictions
from mithridate.model import Classifier


def boundary(
    model: Classifier, data: Dataset, *, poison_ids: Tensor, steps: int = 40, limit: int = 300
) -> dict[str, Any] | None:
    """The class of ``steps`` x ``steps`` places over the range of the rows, and up to ``limit`` rows, poison first.

    ``x`` and ``y`` are the places in natural units, ascending; ``classes`` has a row for each ``y``; ``points`` are
    ``[x, y, label, whether it is poison]``; ``axes`` the names of the columns. None for other data.
    """
    if data.space.shape != (2,) or not len(data):
        return None
    rows = data.all_inputs()
    low, high = rows.amin(0), rows.amax(0)
    parts = torch.linspace(-0.05, 1.05, steps, device=rows.device)
    x, y = (low[k] + parts * (high[k] - low[k]).clamp_min(1e-6) for k in range(2))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)  # a row of places for each y
    device = next((each.device for each in model.parameters()), rows.device)
    classes = predictions(model, grid.to(device)).argmax(1).reshape(steps, steps)
    poison = torch.isin(data.ids, poison_ids.to(data.device))
    shown = torch.cat([poison.nonzero().flatten(), (~poison).nonzero().flatten()])[:limit].tolist()
    points = [[*_rounded(rows[k]), int(data.labels[k]), bool(poison[k])] for k in shown]
    names = [column.name for column in data.space.columns] or ["first column", "second column"]
    return {"x": _rounded(x), "y": _rounded(y), "classes": classes.tolist(), "points": points, "axes": names}


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
