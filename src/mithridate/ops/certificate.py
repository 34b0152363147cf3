"""What a majority vote withstands: how many votes may change sides before another class wins."""

from __future__ import annotations

import torch
from torch import Tensor


def winners(counts: Tensor) -> Tensor:
    """The class with the most votes ``(N,)`` int64 for ``counts`` ``(N, C)``; of several, the lowest."""
    classes = torch.arange(counts.shape[1], device=counts.device)
    return torch.where(counts == counts.amax(1, keepdim=True), classes, counts.shape[1]).amin(1)


def certified_radius(counts: Tensor) -> Tensor:
    """How many voters may be replaced by any others without another class winning; ``(N,)`` int64.

    ``counts`` ``(N, C)`` are whole numbers, the votes of each class; most votes win, and of equals the lowest class.
    A voter won over takes a vote from the winner ``t`` and gives it to a class ``c``, so that the lead ``n_t - n_c``
    falls by at most two. The winner stays while the lead is at least 0, or at least 1 over a lower class, which would
    win a tie: that is the least over ``c`` of ``(n_t - n_c - [c < t]) // 2`` (Levine and Feizi 2021, theorem 1).
    """
    counts = counts.to(torch.int64)
    top = winners(counts)[:, None]  # (N, 1)
    classes = torch.arange(counts.shape[1], device=counts.device)
    spare = (counts.gather(1, top) - counts - (classes < top).to(torch.int64)) // 2  # (N, C)
    return spare.masked_fill(classes == top, torch.iinfo(torch.int64).max).amin(1)
