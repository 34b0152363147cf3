"""Principal coordinates: those of the singular value decomposition, without its rounding errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.ops.principal import principal


def by_decomposition(points, count):
    centred = points.double().numpy() - points.double().numpy().mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :count] * values[:count]


@pytest.mark.parametrize(("rows", "dims"), [(40, 6), (6, 40), (9, 9)])
def test_are_those_of_the_decomposition_up_to_their_signs(rows, dims):
    points = torch.randn(rows, dims, generator=torch.Generator().manual_seed(1)) * torch.arange(1, dims + 1)
    found, wanted = principal(points, 4).numpy(), by_decomposition(points, 4)
    assert found.shape == (rows, 4)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 2, 6, 49])
def test_equal_points_have_none(rows):
    # the mean of 6 times 0.1 is not quite 0.1
    assert principal(torch.full((rows, 7), 0.1, dtype=torch.float64), 3).shape == (rows, 0)


def test_there_are_no_more_than_directions_in_which_points_spread():
    line = torch.arange(12.0)[:, None] * torch.tensor([[1.0, 2, 3]]) + 1e3
    assert principal(line, 3).shape == (12, 1)
    assert principal(torch.randn(3, 9), 9).shape == (3, 2)  # three points lie in a plane
