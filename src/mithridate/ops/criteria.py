"""The losses whose parameter gradients are matched, and how large those gradients are row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset
from mithridate.model import Classifier


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits ``(n, C)`` and labels ``(n,)``, summed over rows."""
    return functional.cross_entropy(logits, labels, reduction="sum")


def cw(logits: Tensor, labels: Tensor) -> Tensor:
    """Carlini and Wagner's margin: largest logit less the label's, at least -100 (as the released code); summed."""
    margin = logits.amax(1) - logits.gather(1, labels[:, None])[:, 0]
    return margin.clamp_min(-100).sum()


CRITERIA: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"cross-entropy": cross_entropy, "cw": cw, "untargeted-cross-entropy": cross_entropy}
)
"""By the names that attacks use; the untargeted one differs in sign and label, which its user sets."""


def head_gradient_norms(model: Classifier, rows: Dataset) -> Tensor:
    """Norm of each row's gradient in a linear head's weights and bias, ``(n,)``.

    In closed form: ``|p - onehot| * sqrt(|features|^2 + 1)`` for cross-entropy.
    """
    with torch.no_grad():
        features = torch.cat([model.features(part) for part in torch.split(rows.all_inputs(), 512)])
        error = model.head(features).softmax(1) - functional.one_hot(rows.labels, rows.space.num_classes)
    lengths: Tensor = torch.linalg.vector_norm(error, dim=1)
    return lengths * (features.square().sum(1) + 1).sqrt()
