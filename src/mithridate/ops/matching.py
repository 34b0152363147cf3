"""How far one gradient is from another: the objectives of gradient matching, over lists of tensors, one a parameter.

``t`` is the target gradient, ``g`` the poison gradient. Names and formulas follow the released code of Witches' Brew
(Geiping et al. 2021, https://arxiv.org/abs/2009.02276); each is divided by the constant ``|t|`` there, but for the
cosine, and so it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

Loss = Literal[
    "similarity",
    "scalar-product",
    "cosine-by-layer",
    "squared-error",
    "mean-squared-error",
    "top5-similarity",
    "top10-similarity",
    "top20-similarity",
    "similarity-narrow",
]
Gradient = Sequence[Tensor]


def dot(a: Gradient, b: Gradient) -> Tensor:
    """Inner product over all tensors, a scalar."""
    return torch.stack([torch.sum(x * y) for x, y in zip(a, b, strict=True)]).sum()


def norm(a: Gradient) -> Tensor:
    """Euclidean norm over all tensors, a scalar; its derivative at zero is zero."""
    length: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(x) for x in a]))
    return length


def cosine(a: Gradient, b: Gradient) -> Tensor:
    """One global cosine over all tensors, in [-1, 1]; 0 where either is zero."""
    return dot(a, b) / _divisor(norm(a) * norm(b))


def _divisor(size: Tensor) -> Tensor:
    """``size``, or 1 where it is next to nothing: a gradient can vanish (``cw`` on rows already called right)."""
    return torch.where(size > 1e-20, size, torch.ones_like(size))


def similarity(g: Gradient, t: Gradient) -> Tensor:
    """``1 - cos(t, g)``, in [0, 2]: the paper's objective."""
    return 1 - cosine(t, g)


def scalar_product(g: Gradient, t: Gradient) -> Tensor:
    """``-<t, g> / |t|``."""
    return -dot(t, g) / _divisor(norm(t))


def cosine_by_layer(g: Gradient, t: Gradient) -> Tensor:
    """Minus the sum over tensors of their cosines, over ``|t|``."""
    return -torch.stack([cosine([x], [y]) for x, y in zip(t, g, strict=True)]).sum() / _divisor(norm(t))


def squared_error(g: Gradient, t: Gradient) -> Tensor:
    """``0.5 |t - g|^2 / |t|``: the paper's Euclidean loss."""
    difference = [x - y for x, y in zip(t, g, strict=True)]
    return 0.5 * dot(difference, difference) / _divisor(norm(t))


def mean_squared_error(g: Gradient, t: Gradient) -> Tensor:
    """The sum over tensors of their mean squared differences, over ``|t|``."""
    return torch.stack([torch.mean((x - y) ** 2) for x, y in zip(t, g, strict=True)]).sum() / _divisor(norm(t))


def similarity_narrow(g: Gradient, t: Gradient) -> Tensor:
    """The cosine objective plus half the squared norm of the last two tensors of ``g``, over ``|t|``."""
    return similarity(g, t) + 0.5 * dot(g[-2:], g[-2:]) / _divisor(norm(t))


def top_similarity(count: int) -> Callable[[Gradient, Gradient], Tensor]:
    """The cosine objective over the ``count`` tensors with the largest ``|t|`` (the paper's code: by full ``|t|``)."""

    def objective(g: Gradient, t: Gradient) -> Tensor:
        sizes = torch.stack([torch.linalg.vector_norm(x) for x in t])
        chosen = sizes.topk(min(count, len(t))).indices  # never read on the host: that would stop a GPU at each step
        products = torch.stack([torch.sum(x * y) for x, y in zip(t, g, strict=True)])
        lengths = torch.stack([torch.linalg.vector_norm(x) for x in g])
        length = torch.linalg.vector_norm(lengths[chosen])
        return 1 - products[chosen].sum() / _divisor(norm(t) * length)

    return objective


OBJECTIVES: Mapping[Loss, Callable[[Gradient, Gradient], Tensor]] = MappingProxyType(
    {
        "similarity": similarity,
        "scalar-product": scalar_product,
        "cosine-by-layer": cosine_by_layer,
        "squared-error": squared_error,
        "mean-squared-error": mean_squared_error,
        "top5-similarity": top_similarity(5),
        "top10-similarity": top_similarity(10),
        "top20-similarity": top_similarity(20),
        "similarity-narrow": similarity_narrow,
    }
)
