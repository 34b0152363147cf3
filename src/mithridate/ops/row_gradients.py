"""Gradients of one training row at a time, cut to a length and added up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional


def clipped_sum(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, bound: float, chunk: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum of the rows' gradients, each no longer than ``bound``, and the sum of their losses.

    ``inputs`` ``(n, *shape)`` (n may be 0), ``labels`` ``(n,)`` int64; the loss is cross-entropy. Returns a tensor for
    each parameter that is trained, by its name and of its shape, and a loss ``()``. A longer gradient is scaled down to
    ``bound`` (Euclidean, over all parameters together); one that is not finite counts as zero, and so does its loss.
    Not more than ``chunk`` rows' gradients are held at once, each as large as the network.
    """
    weights = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    totals = {name: torch.zeros_like(each) for name, each in weights.items()}
    loss = torch.zeros((), device=inputs.device)

    def of_row(weights: Mapping[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, dict(weights), (row[None],))
        return functional.cross_entropy(logits, label[None])

    of_rows = vmap(grad_and_value(of_row), in_dims=(None, 0, 0), randomness="different")
    for start in range(0, len(inputs), chunk):
        gradients, losses = of_rows(weights, inputs[start : start + chunk], labels[start : start + chunk])
        shares = clip_shares(gradients, bound)
        totals = {name: totals[name] + _weighted(gradients[name], shares) for name in totals}
        loss = loss + losses.where(losses.isfinite() & (shares > 0), 0).sum()
    return totals, loss


def clip_shares(gradients: Mapping[str, Tensor], bound: float) -> Tensor:
    """By how much each row's gradient must be scaled to be no longer than ``bound``: ``(n,)`` in [0, 1].

    ``gradients`` holds ``(n, *shape)`` for each parameter. 0 for a row whose gradient is not finite.
    """
    squares = torch.stack([each.flatten(1).square().sum(1) for each in gradients.values()]).sum(0)
    lengths = squares.sqrt()
    shares = (bound / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)).clamp(max=1)
    return shares.where(lengths.isfinite(), 0)


def _weighted(gradients: Tensor, shares: Tensor) -> Tensor:
    """The sum of gradients ``(n, *shape)``, each times its share ``(n,)``; those with no share may be NaN."""
    kept = shares > 0
    if not bool(kept.all()):
        shares, gradients = shares[kept], gradients[kept]
    return torch.einsum("n,n...->...", shares, gradients)
