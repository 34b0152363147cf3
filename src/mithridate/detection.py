"""What defenses removed from a training set, held against the truth that only the referee knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.learner import Removal

SHOWN = 24
"""Rows of which pictures are kept, the first removed."""


def detection(removals: Sequence[Removal], data: Dataset, poison_ids: Tensor) -> dict[str, Any]:
    """Rounds and totals for the tables.

    ``removals``: one mapping a round with ``by``, ``epoch`` (done before), ``rows``, ``poison`` (how many of them are),
    ``by_class`` and ``seconds``. ``dropped``, ``dropped_poison``, ``poison_rows``: rows. ``class_rows``: rows of each
    class before anything was removed.
    """
    poison = torch.isin(data.ids, poison_ids.to(data.device))
    classes = data.space.num_classes
    rounds, gone = [], torch.zeros_like(poison)
    for removal in removals:
        mine = torch.isin(data.ids, removal.ids.to(data.device))
        gone |= mine
        rounds.append(
            {
                "by": removal.by,
                "epoch": removal.epoch,
                "rows": int(mine.sum()),
                "poison": int((mine & poison).sum()),
                "by_class": torch.bincount(data.labels[mine], minlength=classes).tolist(),
                "seconds": removal.seconds,
            }
        )
    return {
        "removals": rounds,
        "dropped": int(gone.sum()),
        "dropped_poison": int((gone & poison).sum()),
        "poison_rows": int(poison.sum()),
        "class_rows": torch.bincount(data.labels, minlength=classes).tolist(),
    }


def recall(found: dict[str, Any], rows: int) -> dict[str, float]:
    """Poison recall and the share of clean rows lost, in [0, 1], of a :func:`detection` over ``rows`` rows."""
    clean = rows - found["poison_rows"]
    return {
        "poison_recall": found["dropped_poison"] / max(found["poison_rows"], 1),
        "clean_drop": (found["dropped"] - found["dropped_poison"]) / max(clean, 1),
    }


def keep_pictures(removals: Sequence[Removal], data: Dataset, poison_ids: Tensor, path: Path) -> bool:
    """Write the first images removed to ``path`` (.npz); False where there are none, or the rows are no images.

    ``images`` ``(n, H, W, C)`` uint8, ``ids``, ``labels`` ``(n,)`` int64 and ``poison`` ``(n,)`` bool.
    """
    if not removals or len(data.space.shape) != 3:
        return False
    rows = data.rows(torch.cat([removal.ids.to(data.device) for removal in removals])[:SHOWN])
    low, high = data.space.bounds
    images = ((rows.all_inputs() - low) / (high - low) * 255).round().to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial.npz")
    np.savez_compressed(
        aside,
        images=images.permute(0, 2, 3, 1).cpu().numpy(),
        ids=rows.ids.cpu().numpy(),
        labels=rows.labels.cpu().numpy(),
        poison=torch.isin(rows.ids, poison_ids.to(data.device)).cpu().numpy(),
    )
    aside.replace(path)
    return True
