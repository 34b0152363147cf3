"""Victims as they are usually trained: one after another, by autograd and ``torch.optim``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def trained(
    networks: Sequence[nn.Module],
    inputs: Sequence[Tensor],
    labels: Sequence[Tensor],
    orders: Sequence[Sequence[Tensor]],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Train each network on its inputs ``(N, d)`` and labels ``(N,)``, over the batches of rows of its order."""
    for network, rows, classes, order in zip(networks, inputs, labels, orders, strict=True):
        optimiser = torch.optim.SGD(
            network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
        )
        network.train()
        for index in order:
            optimiser.zero_grad()
            functional.cross_entropy(network(rows[index]), classes[index]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def descended(inputs: Tensor, targets: Tensor, *, steps: int, lr: float) -> Tensor:
    """Logistic regression by full-batch gradient descent from zero: weights ``(d + 1,)`` float64, the bias last."""
    weight = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weight, bias], lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(inputs @ weight + bias, targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return torch.cat([weight.detach(), bias.detach().reshape(1)])
