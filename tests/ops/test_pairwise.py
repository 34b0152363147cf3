"""Nearest neighbours: equal to comparing every pair, whatever the block size, in bounded memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mithridate.ops.pairwise import neighbours


def every_pair(points, k):
    """The ``k`` nearest of each point by sorting all others by difference and position."""
    points = points.double().numpy()
    found = []
    for own, point in enumerate(points):
        distances = [(float(((point - other) ** 2).sum()), j) for j, other in enumerate(points) if j != own]
        found.append(sorted(j for _, j in sorted(distances)[:k]))
    return found


def in_blocks(points, k, **more):
    rows = [each for _, near in neighbours(points, k, **more) for each in near.tolist()]
    assert [k for part, _ in neighbours(points, k, **more) for k in range(len(points))[part]] == [*range(len(points))]
    return rows


def grid(seed, count, dims, levels):
    """Whole numbers: many points at exactly equal distances, and many twice."""
    return torch.randint(0, levels, (count, dims), generator=torch.Generator().manual_seed(seed)).float()


@given(
    seed=st.integers(0, 99), count=st.integers(1, 30), dims=st.integers(1, 5), k=st.integers(1, 32), levels=st.just(3)
)
def test_equals_comparing_every_pair_where_many_are_tied(seed, count, dims, k, levels):
    points = grid(seed, count, dims, levels)
    assert in_blocks(points, k) == every_pair(points, k)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_equals_comparing_every_pair_on_real_numbers_near_or_far_from_zero(shift):
    points = torch.randn(60, 20, generator=torch.Generator().manual_seed(1)) + shift
    points[30:40] = points[:10]  # duplicates
    assert in_blocks(points, 7) == every_pair(points, 7)


def test_tells_points_apart_that_a_product_of_matrices_cannot():
    # three points a hair's breadth apart, so far out that the product's rounding swallows the difference
    near = 1e6 + torch.tensor([-2e-5, 1e-5, 0.0], dtype=torch.float64)
    points = torch.cat([near, -near])[:, None]
    assert in_blocks(points, 1)[:3] == [[2], [2], [1]]
    squares = points.square().sum(1)
    product = squares[:, None] + squares - 2 * points @ points.T
    assert product[1, 0] == product[1, 2]  # which a product alone cannot know


@pytest.mark.parametrize("memory", [1, 3_000, 10_000, 10**9])
def test_the_block_size_changes_nothing(memory):
    points = torch.cat([grid(2, 40, 3, 3), torch.randn(40, 3, generator=torch.Generator().manual_seed(3))])
    assert in_blocks(points, 9, memory=memory) == in_blocks(points, 9)


def test_a_point_is_no_neighbour_of_its_own_but_its_duplicates_are():
    points = torch.tensor([[5.0], [5.0], [7.0], [5.0]])
    assert in_blocks(points, 1) == [[1], [0], [0], [0]]
    assert in_blocks(points, 9) == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_a_single_point_has_no_neighbours():
    assert in_blocks(torch.ones(1, 4), 3) == [[]]


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once, and keeps the most."""

    def __init__(self):
        super().__init__()
        self.alive, self.bytes, self.most = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, torch.Tensor):
                self._seen(each.untyped_storage().data_ptr(), each)
        return found

    def _seen(self, place, tensor):
        held, size = self.alive.get(place, (0, tensor.untyped_storage().nbytes()))
        self.bytes += 0 if held else size
        self.alive[place] = (held + 1, size)
        self.most = max(self.most, self.bytes)
        weakref.finalize(tensor, self._gone, place)

    def _gone(self, place):
        held, size = self.alive[place]
        self.bytes -= 0 if held > 1 else size
        self.alive[place] = (held - 1, size)
        if held == 1:
            del self.alive[place]


MANY = {"spread": grid(1, 900, 8, 1000), "all equal": torch.ones(900, 8), "all equally far": torch.eye(400)}


@pytest.mark.parametrize(
    ("kind", "memory"), [("spread", 1_000_000), ("all equal", 1_000_000), ("all equally far", 500_000)]
)
def test_never_takes_more_memory_than_it_may(kind, memory):
    points = MANY[kind]
    count, dims = points.shape
    with Live() as live:
        for _, near in neighbours(points, 2 * count // 3, memory=memory):
            del near
    copies = count * (dims * (4 + 8) * 2 + 6 * 8)  # of the points, some of them for a moment; their lengths and places
    assert live.most <= memory + copies
    assert live.most - copies < count * count * 4  # no matrix of all pairs, even in float32
    assert live.most > memory / 8  # the counting works


def test_numbers_of_any_float_type_are_compared_in_float64():
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(5)).half()
    assert in_blocks(points, 3) == every_pair(points, 3)
    assert np.array(in_blocks(points, 3)).shape == (30, 3)
