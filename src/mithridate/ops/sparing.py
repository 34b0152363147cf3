"""Which rows may go without emptying a class."""

from __future__ import annotations

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.ops.suspects import members


def expendable(labels: Tensor) -> Tensor:
    """Which of the rows with ``labels`` ``(n,)`` are not the last one of their class, ``(n,)`` bool."""
    found = torch.ones_like(labels, dtype=torch.bool)
    for label in set(labels.tolist()):
        found[(labels == label).nonzero()[-1]] = False
    return found


def spared(flagged: Tensor, scores: Tensor, data: Dataset) -> Tensor:
    """Flags ``(N,)`` bool, less the least suspect row of each class of which all rows are flagged.

    ``scores`` ``(N,)``, higher is more suspect; of equal ones the row of the lowest id stays.
    """
    found = flagged.clone()
    for rows in members(data):
        if bool(flagged[rows].all()):
            found[rows[scores[rows].argsort(stable=True)[0]]] = False
    return found
