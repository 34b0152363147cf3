"""A hypergradient as torch gives it: one autograd graph through all steps of the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Scores = Callable[[Tensor, Sequence[Tensor]], Tensor]


def linear(inputs: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Scores ``(n, 1)`` of logistic regression with weights ``(d, 1)`` and an offset."""
    return inputs @ parts[0] + parts[1]


def perceptron(inputs: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Scores ``(n, 1)`` of a network with one hidden layer of tanh units."""
    return torch.tanh(inputs @ parts[0] + parts[1]) @ parts[2] + parts[3]


def unrolled(
    scores: Scores,
    start: Sequence[Tensor],
    *,
    rows: tuple[Tensor, Tensor],
    seen: tuple[Tensor, Tensor],
    poison: int,
    steps: int,
    lr: float,
) -> tuple[float, Tensor]:
    """Validation loss after ``steps`` of gradient descent, and its gradient by the inputs of the last ``poison`` rows.

    ``rows`` and ``seen`` are inputs ``(n, d)`` and targets ``(n, 1)``; the loss is the logistic one.
    """
    inputs, targets = rows
    moving = inputs[-poison:].clone().requires_grad_()
    both = torch.cat([inputs[:-poison], moving])
    parts = [each.clone().requires_grad_() for each in start]
    for _ in range(steps):
        loss = functional.binary_cross_entropy_with_logits(scores(both, parts), targets)
        slopes = torch.autograd.grad(loss, parts, create_graph=True)
        parts = [each - lr * slope for each, slope in zip(parts, slopes, strict=True)]
    value = functional.binary_cross_entropy_with_logits(scores(seen[0], parts), seen[1])
    (found,) = torch.autograd.grad(value, moving)
    return float(value.detach()), found
