"""Mixing, pasting and blanking: by hand, against loops over rows and pixels, and their draws against the formulas."""

from __future__ import annotations

from math import gamma

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mithridate.dataset import Space
from mithridate.ops.mixing import (
    blanked,
    cut_out,
    dirichlet,
    mixed,
    no_images,
    partners,
    pasted,
    probabilities,
    rectangles,
    squares,
)
from mithridate.seeding import Seed

MEAN = (0.3, 0.5, 0.7)
SPACE = Space(shape=(3, 5, 4), num_classes=3, mean=MEAN)
TABLE = Space(shape=(6,), num_classes=3, bounds=(-9.0, 9.0))


def draws(seed=0):
    return Seed(seed).generator()


def images(count, seed=0):
    return torch.rand(count, 3, 5, 4, generator=draws(seed))


class TestDirichlet:
    @pytest.mark.parametrize("ways", [2, 4])
    @pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
    def test_has_the_moments_of_the_formula(self, ways, alpha):
        weights = dirichlet(40_000, ways, alpha, draws()).double()
        variance = (1 / ways) * (1 - 1 / ways) / (ways * alpha + 1)
        covariance = -1 / (ways**2 * (ways * alpha + 1))
        expected = torch.full((ways, ways), covariance, dtype=torch.float64).fill_diagonal_(variance)
        assert torch.allclose(weights.mean(0), torch.full((ways,), 1 / ways, dtype=torch.float64), atol=0.008)
        assert torch.allclose(weights.T.cov(), expected, atol=0.004)

    @pytest.mark.parametrize(("ways", "alpha"), [(2, 1.0), (2, 0.4), (4, 1.0), (3, 2.5)])
    def test_each_weight_has_its_beta_distribution(self, ways, alpha):
        weights = dirichlet(10_000, ways, alpha, draws(1)).double()
        for k in range(ways):
            found = stats.kstest(weights[:, k].numpy(), stats.beta(alpha, (ways - 1) * alpha).cdf)
            assert found.statistic < 0.0163  # 1 % would be above

    @pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1e3])
    def test_sums_to_one_where_gamma_variates_would_be_rounded(self, alpha):
        weights = dirichlet(2000, 4, alpha, draws())
        assert torch.allclose(weights.sum(1), torch.ones(2000), atol=1e-6)
        assert float(weights.min()) >= 0
        if alpha < 1e-3:  # nearly always one row alone, each as often
            assert float((weights.max(1).values > 0.999).float().mean()) > 0.99
            assert float(torch.bincount(weights.argmax(1), minlength=4).min()) > 430


class TestPartners:
    @given(st.integers(1, 9), st.integers(2, 5), st.integers(0, 50))
    def test_are_the_row_itself_and_shuffles(self, count, ways, seed):
        rows = partners(count, ways, draws(seed)).tolist()
        assert rows[0] == list(range(count))
        assert len(rows) == ways
        assert all(sorted(each) == rows[0] for each in rows)

    def test_every_order_is_as_likely(self):
        generator = draws()
        seen = [tuple(partners(3, 2, generator)[1].tolist()) for _ in range(1200)]
        assert min(seen.count(order) for order in set(seen)) > 160  # 200 each
        assert len(set(seen)) == 6


class TestMixed:
    def test_a_case_by_hand(self):
        space = Space(shape=(2,), num_classes=2)
        inputs, labels = torch.tensor([[0.0, 1.0], [1.0, 0.5]]), torch.tensor([0, 1])
        found = mixed(
            inputs, labels, weights=torch.tensor([[0.75, 0.25]]), rows=torch.tensor([[0, 1], [1, 0]]), space=space
        )
        assert found[0].tolist() == [[0.25, 0.875], [0.75, 0.625]]
        assert found[1].tolist() == [[0.75, 0.25], [0.25, 0.75]]

    @given(st.integers(1, 6), st.integers(2, 4), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 20))
    def test_weighs_inputs_and_labels_alike(self, count, ways, per_row, table, soft, seed):
        generator, space = draws(seed), TABLE if table else SPACE
        inputs = torch.rand(count, *space.shape, generator=generator)
        labels = torch.rand(count, 3, generator=generator).softmax(1) if soft else torch.arange(count) % 3
        weights, rows = dirichlet(count if per_row else 1, ways, 1.0, generator), partners(count, ways, generator)
        found_inputs, found_labels = mixed(inputs, labels, weights=weights, rows=rows, space=space)
        for k in range(count):
            expected, classes = torch.zeros(space.shape), [0.0] * 3
            for way in range(ways):
                weight, row = float(weights[k if per_row else 0, way]), int(rows[way, k])
                expected += weight * inputs[row]
                for label in range(3):
                    classes[label] += weight * (float(labels[row, label]) if soft else float(labels[row] == label))
            assert torch.allclose(found_inputs[k], expected, atol=1e-6)
            assert found_labels[k].tolist() == pytest.approx(classes, abs=1e-6)
            assert float(found_labels[k].sum()) == pytest.approx(1, abs=1e-6)

    def test_stays_within_the_bounds(self):
        """Weights sum to 1 but for rounding, and a white image must not become whiter than white."""
        weights, rows = dirichlet(500, 7, 1.0, draws()), partners(500, 7, draws())
        assert float(weights.sum(1).max()) > 1
        white = torch.ones(500, 3, 5, 4)
        found, _ = mixed(white, torch.zeros(500).long(), weights=weights, rows=rows, space=SPACE)
        assert float(found.max()) == 1.0


class TestRectangles:
    @pytest.mark.parametrize("size", [(6, 9), (1, 1), (32, 32)])
    def test_hold_the_pixels_whose_centres_lie_inside(self, size):
        height, width = size
        found = rectangles(20, 1.0, size, draws(4))
        replay = draws(4)
        share = dirichlet(20, 2, 1.0, replay)[:, 0].double()
        centre = torch.rand(20, 2, generator=replay).double()
        for k in range(20):
            tall, wide = height * share[k].sqrt(), width * share[k].sqrt()
            middle = centre[k, 0] * height, centre[k, 1] * width
            for y in range(height):
                for x in range(width):
                    inside = abs(y + 0.5 - middle[0]) < tall / 2 and abs(x + 0.5 - middle[1]) < wide / 2
                    assert bool(found[k, y, x]) == bool(inside)

    @pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
    def test_cover_the_share_of_the_formula(self, alpha):
        """A side of s around a centre anywhere covers s - s^2/4 of the image's side; areas are s^2 ~ Beta."""

        def moment(power):
            return gamma(alpha + power) * gamma(2 * alpha) / gamma(alpha) / gamma(2 * alpha + power)

        expected = moment(1) - moment(1.5) / 2 + moment(2) / 16
        assert alpha != 1.0 or expected == pytest.approx(0.5 - 0.2 + 1 / 48)
        shares = rectangles(20_000, alpha, (16, 12), draws()).float().mean((1, 2))
        assert float(shares.mean()) == pytest.approx(expected, abs=0.005)


class TestSquares:
    @pytest.mark.parametrize("side", [1, 2, 3, 4])
    def test_lie_around_every_pixel_as_often_and_are_cut_at_the_edges(self, side):
        height, width = 4, 5
        expected = torch.zeros(height, width, height, width, dtype=torch.bool)
        for row in range(height):
            for column in range(width):
                for y in range(row - side // 2, row - side // 2 + side):
                    for x in range(column - side // 2, column - side // 2 + side):
                        if 0 <= y < height and 0 <= x < width:
                            expected[row, column, y, x] = True
        possible = expected.reshape(20, height, width)
        found = squares(6000, side, (height, width), draws())
        match = (found[:, None] == possible[None]).all(3).all(2)
        assert bool((match.sum(1) == 1).all())
        counts = match.sum(0)
        assert int(counts.min()) > 240  # 300 each
        assert int(counts.max()) < 360


class TestPasted:
    def test_a_case_by_hand(self):
        space = Space(shape=(1, 2, 2), num_classes=2)
        inputs, labels = torch.tensor([[[[0.0, 0.1], [0.2, 0.3]]], [[[0.5, 0.6], [0.7, 0.8]]]]), torch.tensor([0, 1])
        mask = torch.tensor([[[True, False], [False, False]], [[True, True], [False, True]]])
        found = pasted(inputs, labels, mask=mask, row=torch.tensor([1, 0]), space=space)
        assert torch.equal(found[0], torch.tensor([[[[0.5, 0.1], [0.2, 0.3]]], [[[0.0, 0.1], [0.7, 0.3]]]]))
        assert found[1].tolist() == [[0.75, 0.25], [0.75, 0.25]]

    @given(st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 30))
    def test_labels_weigh_exactly_the_pixels_replaced(self, count, per_row, soft, seed):
        generator = draws(seed)
        inputs = images(count, seed + 100)
        labels = torch.rand(count, 3, generator=generator).softmax(1) if soft else torch.arange(count) % 3
        mask = rectangles(count if per_row else 1, 1.0, (5, 4), generator)
        row = torch.randperm(count, generator=generator)
        found_inputs, found_labels = pasted(inputs, labels, mask=mask, row=row, space=SPACE)
        for k in range(count):
            replaced, other = 0, int(row[k])
            for y in range(5):
                for x in range(4):
                    taken = bool(mask[k if per_row else 0, y, x])
                    replaced += taken
                    assert torch.equal(found_inputs[k, :, y, x], inputs[other if taken else k, :, y, x])
            own, theirs = (
                labels[each] if soft else torch.tensor([float(labels[each] == c) for c in range(3)])
                for each in (k, other)
            )
            assert torch.allclose(found_labels[k], own + (theirs - own) * replaced / 20, atol=1e-6)


class TestBlanked:
    @pytest.mark.parametrize(
        ("space", "colour"),
        [
            (SPACE, MEAN),
            (Space(shape=(3, 5, 4), num_classes=2), (0.0, 0.0, 0.0)),
            (Space(shape=(3, 5, 4), num_classes=2, bounds=(0.25, 2.0)), (0.25, 0.25, 0.25)),
        ],
        ids=["mean", "no mean", "0 out of bounds"],
    )
    def test_fills_with_the_mean_colour_and_leaves_the_rest(self, space, colour):
        inputs, mask = images(4), squares(4, 2, (5, 4), draws())
        found = blanked(inputs, mask=mask, space=space)
        for k in range(4):
            for y in range(5):
                for x in range(4):
                    expected = torch.tensor(colour) if mask[k, y, x] else inputs[k, :, y, x]
                    assert torch.equal(found[k, :, y, x], expected)

    @pytest.mark.parametrize(("side", "pixels"), [(0.5, 16), (0.25, 8), (1.0, 32), (0.51, 16), (0.001, 1)])
    def test_squares_have_their_share_of_the_shorter_side(self, side, pixels):
        space = Space(shape=(3, 40, 32), num_classes=2, mean=(0.5,) * 3)
        found = cut_out(torch.zeros(800, 3, 40, 32), side=side, space=space, generator=draws())
        holes = (found == 0.5).all(1)
        assert int(holes.any(2).sum(1).max()) == int(holes.any(1).sum(1).max()) == pixels
        assert bool(holes.flatten(1).any(1).all())

    def test_each_image_has_a_square_of_its_own(self):
        found = cut_out(torch.zeros(30, 3, 5, 4), side=0.5, space=SPACE, generator=draws())
        assert len(torch.unique(found.flatten(1), dim=0)) > 5


def test_labels_become_probabilities_once():
    soft = torch.tensor([[0.2, 0.8, 0.0]])
    assert probabilities(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert probabilities(soft, 3) is soft


def test_nothing_is_written_in_place_and_channels_last_stays():
    inputs = images(4).contiguous(memory_format=torch.channels_last)
    labels, before = torch.tensor([0, 1, 2, 0]), inputs.clone()
    row = torch.tensor([1, 2, 3, 0])
    found = [
        mixed(inputs, labels, weights=dirichlet(1, 3, 1.0, draws()), rows=partners(4, 3, draws()), space=SPACE)[0],
        mixed(inputs, labels, weights=dirichlet(4, 2, 1.0, draws()), rows=partners(4, 2, draws()), space=SPACE)[0],
        pasted(inputs, labels, mask=rectangles(1, 1.0, (5, 4), draws()), row=row, space=SPACE)[0],
        pasted(inputs, labels, mask=rectangles(4, 1.0, (5, 4), draws()), row=row, space=SPACE)[0],
        cut_out(inputs, side=0.5, space=SPACE, generator=draws()),
    ]
    for each in found:
        assert each.is_contiguous(memory_format=torch.channels_last)
        assert each.dtype == torch.float32
    assert torch.equal(inputs, before)
    assert labels.tolist() == [0, 1, 2, 0]


def test_says_where_images_are_needed():
    assert no_images(SPACE, "cutmix") == []
    (sentence,) = no_images(TABLE, "cutmix")
    assert sentence.startswith("cutmix needs images of shape (channels, height, width), but inputs are (6,)")
