"""What a network believes of its rows: softmax outputs in evaluation mode, with or without the last layer's bias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mithridate.errors import ModelError
from mithridate.model import Classifier


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block; after it every submodule is in the mode it was in."""
    modes = [(each, each.training) for each in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes:
            each.training = mode


def confidences(model: Classifier, inputs: Tensor, *, use_bias: bool = True) -> Tensor:
    """Softmax outputs ``(n, C)`` float32 of inputs ``(n, *shape)``, without the last layer's bias where so asked.

    Raises :class:`ModelError` for logits that are not finite, and for a bias asked of a head that is not affine.
    """
    if use_bias:
        return softmax(model(inputs))
    features = model.features(inputs)
    logits = model.head(features)
    return softmax(logits - _bias(model, features, logits))


def softmax(logits: Tensor) -> Tensor:
    """Probabilities ``(n, C)`` float32. Raises :class:`ModelError` for logits that are not finite."""
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "the network returns logits that are not finite, so its rows cannot be clustered; the training has "
            "diverged: lower the learning rate"
        )
    return logits.float().softmax(1)


def _bias(model: Classifier, features: Tensor, logits: Tensor) -> Tensor:
    """The logits of features that are all 0, ``(1, C)``, where the head is affine on these features ``(n, D)``."""
    bias = model.head(torch.zeros_like(features[:1]))
    found = model.head(features - 2 * features.roll(1, 0))
    expected = (logits - 2 * logits.roll(1, 0) + 2 * bias).detach()
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        raise ModelError(
            f"use_bias=False needs an affine head, whose bias can be told from its weights, but that of this "
            f"{type(model).__name__} is not (logits do not add up as features do): name its last linear layer as the "
            "head, or set use_bias=True"
        )
    return bias
