"""What is held against single rows: their loss, and whether they are called otherwise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy ``(n,)`` float64 of logits ``(n, C)``, in nats; one that is no number counts as infinite."""
    found = functional.cross_entropy(logits.double(), labels, reduction="none")
    return found.nan_to_num(nan=torch.inf, posinf=torch.inf)


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each label has the one largest of the logits ``(n, C)``, ``(n,)`` bool; no where it is NaN or ties."""
    own = logits.gather(1, labels[:, None])
    return (own > logits.scatter(1, labels[:, None], -torch.inf)).all(1)
