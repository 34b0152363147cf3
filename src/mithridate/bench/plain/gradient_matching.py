"""A step of gradient matching as peers' code takes it: double backward of everything at once, by ``backward()``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def slope(model: nn.Module, change: Tensor, shown: Tensor, labels: Tensor, target: Sequence[Tensor]) -> Tensor:
    """The derivative of ``1 - cos(gradient, target)`` in ``change``, which ``shown`` ``(n, C, H, W)`` is computed from.

    All parameters ask for gradients, so that ``backward`` computes theirs of second order too, as in the released
    code of Witches' Brew.
    """
    loss = functional.cross_entropy(model(shown), labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    product, ours, theirs = shown.new_zeros(()), shown.new_zeros(()), shown.new_zeros(())
    for g, t in zip(gradient, target, strict=True):
        product = product + (g * t).sum()
        ours = ours + g.pow(2).sum()
        theirs = theirs + t.pow(2).sum()
    (1 - product / (ours.sqrt() * theirs.sqrt())).backward()  # type: ignore[no-untyped-call]
    found = change.grad
    assert found is not None
    change.grad = None
    for parameter in model.parameters():
        parameter.grad = None
    return found
