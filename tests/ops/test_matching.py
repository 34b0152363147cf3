"""The distances between gradients, on cases solved by hand."""

from __future__ import annotations

import pytest
import torch

from mithridate.ops.matching import OBJECTIVES

T = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0, 4.0]])]  # norm 5
G = [torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 2.0]])]  # norm sqrt 5, inner product 8


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("similarity", 1 - 8 / (5 * 5**0.5)),
        ("scalar-product", -8 / 5),
        ("cosine-by-layer", -(0 + 1) / 5),
        ("squared-error", 0.5 * (9 + 1 + 4) / 5),
        ("mean-squared-error", (10 / 2 + 4 / 2) / 5),
        ("top5-similarity", 1 - 8 / (5 * 5**0.5)),
        ("similarity-narrow", 1 - 8 / (5 * 5**0.5) + 0.5 * 5 / 5),
    ],
)
def test_values_by_hand(loss, expected):
    assert float(OBJECTIVES[loss](G, T)) == pytest.approx(expected, rel=1e-6)


def test_top_similarity_uses_the_largest_target_tensors_only():
    target = [torch.tensor([float(k)]) for k in range(1, 8)]
    gradient = [torch.tensor([-1.0])] * 2 + [torch.tensor([float(k)]) for k in range(3, 8)]
    few, full = sum(k * k for k in range(3, 8)), sum(k * k for k in range(1, 8))
    expected = 1 - few / (full * few) ** 0.5
    assert float(OBJECTIVES["top5-similarity"](gradient, target)) == pytest.approx(expected, rel=1e-4)


def test_a_zero_gradient_gives_numbers_not_nan():
    zero = [torch.zeros(2), torch.zeros(1, 2)]
    for objective in OBJECTIVES.values():
        assert bool(torch.isfinite(objective(zero, T)))
