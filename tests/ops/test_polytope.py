"""The distances of the feature-space attacks: cases solved by hand, and loops written out."""

from __future__ import annotations

import pytest
import torch

from mithridate.ops.polytope import (
    collisions,
    combined,
    convex_coefficients,
    equal_coefficients,
    lengths,
    miss,
    relative_distance,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestByHand:
    def test_the_nearest_point_of_a_line(self):
        """Points (0, 0) and (4, 0), target (1, 2): nearest is (1, 0), a quarter of the way, 2 off."""
        points, target = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]]), torch.tensor([[1.0, 2.0]])
        weights = convex_coefficients(points, target)
        assert weights.tolist() == [pytest.approx([0.75, 0.25])]
        found = combined(points, weights)
        assert found.tolist() == [pytest.approx([1.0, 0.0])]
        assert float(miss(found, target)) == pytest.approx(4 / (2 * 5))  # over the target's squared length
        assert float(miss(found, target, ratio="released")) == pytest.approx(2 / 5**0.5)
        assert float(relative_distance(found, target)) == pytest.approx(2 / 5**0.5)

    def test_the_mean(self):
        points, target = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]]), torch.tensor([[2.0, 2.0]])
        found = combined(points, equal_coefficients(points))
        assert found.tolist() == [[2.0, 0.0]]
        assert float(miss(found, target)) == pytest.approx(4 / (2 * 8))

    def test_collisions_are_of_every_point(self):
        points, target = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]]), torch.tensor([[1.0, 2.0]])
        assert collisions(points, target).tolist() == [pytest.approx([5 / 10, 13 / 10])]

    def test_released_takes_maps_place_by_place(self):
        """Two places of two channels: off by 1 where the target is 5 long, and by 2 where it is 4 long."""
        target = torch.tensor([[[[3.0, 4.0]], [[4.0, 0.0]]]])  # (1, C=2, H=1, W=2)
        found = target + torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
        assert float(miss(found, target, ratio="released")) == pytest.approx((1 / 5 + 2 / 4) / 2)
        assert float(miss(found, target)) == pytest.approx(5 / (2 * 41))  # as one long vector

    def test_places_where_the_target_is_zero_count_as_places_of_mean_length(self):
        target = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])  # lengths 5 and 0
        found = (target + torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])).requires_grad_(True)
        loss = miss(found, target, ratio="released")
        assert float(loss.detach()) == pytest.approx((0 / 5 + 1 / 2.5) / 2)
        (slope,) = torch.autograd.grad(loss.sum(), found)
        assert bool(torch.isfinite(slope).all())
        assert slope[0, 0, 0].tolist() == pytest.approx([0.0, 0.2])


class TestBorders:
    @pytest.mark.parametrize("ratio", ["squared", "released"])
    @pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
    def test_a_target_of_nothing_but_zeros_gives_numbers_not_nan(self, ratio, shape):
        found = torch.zeros(1, *shape, requires_grad=True)
        loss = miss(found, torch.zeros(1, *shape), ratio=ratio)
        (slope,) = torch.autograd.grad(loss.sum(), found)
        assert float(loss.detach()) == 0
        assert bool((slope == 0).all())
        far = miss(torch.ones(1, *shape), torch.zeros(1, *shape), ratio=ratio)
        assert bool(torch.isfinite(far).all())

    @pytest.mark.parametrize("ratio", ["squared", "released"])
    def test_there_is_no_slope_at_the_target(self, ratio):
        target = normal(2, 3, 2, 2)
        found = target.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(miss(found, target, ratio=ratio).sum(), found)
        assert bool((slope == 0).all())

    def test_coefficients_are_constants_to_the_gradient(self):
        """By the envelope theorem the slope of the loss is right all the same: against finite differences."""
        points, target = normal(1, 3, 5).double().requires_grad_(True), normal(1, 5, seed=1).double()

        def loss(at):
            return miss(combined(at, convex_coefficients(at, target)), target).sum()

        (slope,) = torch.autograd.grad(loss(points), points)
        for place in ((0, 0, 0), (0, 1, 3), (0, 2, 4)):
            shift = torch.zeros_like(points)
            shift[place] = 1e-5
            expected = float((loss(points + shift) - loss(points - shift)).detach()) / 2e-5
            assert float(slope[place]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


class TestAgainstLoops:
    @pytest.mark.parametrize("shape", [(7,), (3, 2, 2)])
    def test_all_of_them_trial_by_trial(self, shape):
        points, targets = normal(3, 4, *shape), normal(3, *shape, seed=1)
        weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(2))
        found = combined(points, weights)
        for t in range(3):
            by_hand = sum(weights[t, j] * points[t, j] for j in range(4))
            assert torch.allclose(found[t], by_hand, atol=1e-6)
            length = float(targets[t].square().sum()) ** 0.5
            off = float((by_hand - targets[t]).square().sum()) ** 0.5
            assert float(lengths(targets)[t]) == pytest.approx(length, rel=1e-5)
            assert float(miss(found, targets)[t]) == pytest.approx(0.5 * (off / length) ** 2, rel=1e-5)
            assert float(relative_distance(found, targets)[t]) == pytest.approx(off / length, rel=1e-5)
            for j in range(4):
                square = float((points[t, j] - targets[t]).square().sum())
                assert float(collisions(points, targets)[t, j]) == pytest.approx(square / length**2 / 2, rel=1e-5)

    def test_released_is_the_mean_over_places_of_norms_over_channels(self):
        found, target = normal(2, 3, 2, 2), normal(2, 3, 2, 2, seed=1)
        for t in range(2):
            places = [
                float((found - target)[t, :, y, x].norm() / target[t, :, y, x].norm()) for y in (0, 1) for x in (0, 1)
            ]
            assert float(miss(found, target, ratio="released")[t]) == pytest.approx(sum(places) / 4, rel=1e-5)
