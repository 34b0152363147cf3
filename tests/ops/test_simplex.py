"""Convex combinations nearest to a target, against an active-set solver, bisection, and cases solved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from mithridate.errors import DataError
from mithridate.ops import simplex
from mithridate.ops.simplex import coefficients, gap, least_combination, projection

COUNTS = [1, 2, 3, 4, 5, 6, 7, 12, 25]


def draws(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_one_far(points):
    return torch.cat([1e5 * points[:, :1], points[:, 1:]], 1)


STRETCH = torch.logspace(0, -3, 40, dtype=torch.float64)
KINDS = {
    "random": lambda p, t, c: (p, t),
    "few dimensions": lambda p, t, c: (p[..., :2], t[:, :2] / 2),
    "one dimension": lambda p, t, c: (p[..., :1], t[:, :1]),
    "duplicates": lambda p, t, c: (p[:, torch.arange(p.shape[1]) // 2], t),
    "target in the hull": lambda p, t, c: (p, (c[:, None] @ p)[:, 0]),
    "stretched hull": lambda p, t, c: (STRETCH * p, STRETCH * (c[:, None] @ p)[:, 0]),
    "target a vertex": lambda p, t, c: (p, p[:, -1].clone()),
    "far target": lambda p, t, c: (p, 1000 * p[:, 0]),
    "far cluster": lambda p, t, c: (0.01 * p + 10 * t[:, None], t),
    "collinear": lambda p, t, c: (p[:, :1] + p[..., :1] * t.flip(1)[:, None], t),
    "all points equal": lambda p, t, c: (p[:, :1].expand_as(p), t),
    "all points the target": lambda p, t, c: (p[:, :1].expand_as(p), p[:, 0]),
    "one point far": lambda p, t, c: (with_one_far(p), t / 5),
}


def problems(kind, count, *, batch=3):
    """Points ``(B, k, D)`` and targets ``(B, D)``."""
    normal = draws(count)
    return KINDS[kind](normal(batch, count, 40), normal(batch, 40), normal(batch, count).softmax(1))


def squared_distance(points, target, c):
    return (target - (c[:, None] @ points)[:, 0]).square().sum(1)


def nearest(points, target):
    """Least squared distances ``(B,)``, by Lawson and Hanson's active sets, one problem after the other.

    With one more coordinate in which every point is at a constant and the target is too, non-negative least squares has
    the same solution but for its sum.
    """
    found = []
    for p, t in zip(points.double().numpy(), target.double().numpy(), strict=True):
        apart = p - t
        height = np.sqrt((apart**2).sum(1).min()) or 1.0
        c, _ = nnls(np.vstack([apart.T, np.full(len(p), height)]), np.append(np.zeros(len(t)), height), maxiter=10_000)
        found.append(float(((c / c.sum()) @ apart) @ ((c / c.sum()) @ apart)))
    return torch.tensor(found, dtype=torch.float64)


def grams(points, target):
    apart = points - target[:, None]
    return apart @ apart.mT


def noise(gram):
    """How far apart two answers may be ``(B,)``: what the solver promises, for the least entry and for rounding."""
    return 1e-9 * gram.diagonal(0, 1, 2).amin(1) + 1e-14 * gram.amax((1, 2))


def check_convex(c):
    assert c.dtype == torch.float64
    assert bool((c >= 0).all())
    assert float((c.sum(-1) - 1).abs().max()) < 1e-12


def bisected(values):
    """The projection by bisection on what to subtract."""
    low, high = values.min() - 1, values.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(values - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(values - high, 0)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_projection_is_that_of_bisection(count, size):
    values = size * draws(count)(4, 3, count)
    found = projection(values)
    check_convex(found)
    for row, given_values in zip(found.reshape(-1, count), values.reshape(-1, count), strict=True):
        np.testing.assert_allclose(row.numpy(), bisected(given_values.numpy()), atol=1e-12 * max(size, 1))


def test_projection_by_hand():
    values = torch.tensor([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [1.0, 1.0, -5.0], [0.0, 0.0, 0.0], [1e20, 0.0, 0.0]])
    wanted = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3] * 3, [1.0, 0.0, 0.0]])
    torch.testing.assert_close(projection(values), wanted)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_combination_is_nearer(kind, count):
    points, target = problems(kind, count)
    c = coefficients(points, target)
    check_convex(c)
    reached, least = squared_distance(points, target, c), nearest(points, target)
    assert bool(((reached - least).abs() <= 1e-9 * torch.maximum(target.square().sum(1), least)).all())


@settings(max_examples=60)
@given(data=st.data(), count=st.integers(1, 9), width=st.integers(1, 3))
def test_no_combination_of_whole_numbers_is_nearer(data, count, width):
    rows = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    points = torch.tensor([data.draw(st.lists(rows, min_size=count, max_size=count))], dtype=torch.float64)
    target = torch.tensor([data.draw(rows)], dtype=torch.float64)
    c = coefficients(points, target)
    check_convex(c)
    assert squared_distance(points, target, c).item() == pytest.approx(nearest(points, target).item(), abs=1e-7)


def test_by_hand():
    triangle = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    targets = torch.tensor([[0.5, 1.0], [2.0, 2.0], [3.0, -1.0], [1.0, -7.0], [0.0, 0.0]])
    wanted = torch.tensor([[0.25, 0.25, 0.5], [0, 0.5, 0.5], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]])
    found = coefficients(triangle.expand(5, 3, 2), targets)
    torch.testing.assert_close(found, wanted.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("count", [5, 12])
def test_a_target_in_the_hull_is_reached_with_its_own_coefficients(count):
    normal = draws(3)
    points, wanted = normal(4, count, 40), normal(4, count).softmax(1)
    found = coefficients(points, (wanted[:, None] @ points)[:, 0])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [5, 12])
def test_digits_of_far_off_clouds_are_kept(count):
    points, target = problems("random", count)
    points, target = points.round(decimals=3), target.round(decimals=3)
    far = coefficients(points + 2**20, target + 2**20)
    torch.testing.assert_close(far, coefficients(points, target), rtol=0, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("count", [5, 25])
def test_scale_does_not_matter(count, scale):
    gram = grams(*problems("random", count))
    torch.testing.assert_close(least_combination(scale * gram), least_combination(gram), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [4, 9, 25])
def test_each_problem_is_solved_as_if_alone(count):
    all_kinds = [grams(*problems(kind, count, batch=1)) for kind in KINDS]
    together = least_combination(torch.cat(all_kinds))
    for gram, c in zip(all_kinds, together, strict=True):
        alone = least_combination(gram)
        difference = simplex._value(gram, c[None]) - simplex._value(gram, alone)
        assert float(difference.abs()) <= float(noise(gram))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_broken_problem_is_not_a_number_and_leaves_the_others_alone(count, value):
    gram = grams(*problems("random", count))
    broken = gram.clone()
    broken[1, -1, -1] = value
    found = least_combination(broken)
    assert bool(found[1].isnan().all())
    torch.testing.assert_close(found[[0, 2]], least_combination(gram)[[0, 2]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [5, 12])
@pytest.mark.parametrize("kind", ["random", "few dimensions", "duplicates"])
def test_the_order_of_the_points_does_not_matter(kind, count):
    points, target = problems(kind, count)
    mixed = points[:, torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    reached = squared_distance(points, target, coefficients(points, target))
    again = squared_distance(mixed, target, coefficients(mixed, target))
    torch.testing.assert_close(again, reached, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_enumeration_finds_is_what_steps_find(kind):
    for count in (5, 6):
        gram = grams(*problems(kind, count))
        exact, stepped = simplex._enumerated(gram), simplex._accelerated(gram, 2000)
        check_convex(stepped)
        difference = simplex._value(gram, stepped) - simplex._value(gram, exact)
        assert bool((difference[:, 0].abs() <= noise(gram)).all())


@pytest.mark.parametrize("count", [2, 5, 12, 25])
@pytest.mark.parametrize("kind", ["random", "few dimensions", "target in the hull", "far cluster"])
def test_the_gap_bounds_what_could_be_gained_and_closes(kind, count):
    points, target = problems(kind, count)
    gram, least = grams(points, target), nearest(points, target)
    for c in (draws(8)(3, count).softmax(1), projection(2 * draws(9)(3, count))):
        assert bool((gap(gram, c) >= squared_distance(points, target, c) - least - 1e-12).all())
    assert bool((gap(gram, least_combination(gram, max_steps=200)) <= 1.1 * noise(gram)).all())


def test_the_gap_by_hand():
    gram = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))[None]
    assert gap(gram, torch.tensor([[0.75, 0.25]], dtype=torch.float64)).item() == 0
    assert gap(gram, torch.tensor([[0.0, 1.0]], dtype=torch.float64)).item() == 6
    assert gap(gram, torch.tensor([[0.5, 0.5]], dtype=torch.float64)).item() == 1  # 2 (4/4 - 1/2)


def test_steps_end_where_told_and_the_gap_says_how_far():
    gram = grams(*problems("random", 25))
    few = least_combination(gram, max_steps=1)
    check_convex(few)
    assert float(gap(gram, few).max()) > 1e-6
    assert float(gap(gram, least_combination(gram)).max()) < 1e-9


def test_no_gradient_is_kept_and_any_float_is_taken():
    points, target = problems("random", 5)
    wanted = coefficients(points.half(), target.half())
    found = coefficients(points.half().double().requires_grad_(), target.half().double())
    assert not found.requires_grad
    assert torch.equal(found, wanted)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"but they have \(2, 3, 4\) and \(2, 3\)"):
        coefficients(torch.zeros(2, 3, 4), torch.zeros(2, 3))
    for gram in (torch.zeros(2, 3, 4).double(), torch.zeros(3, 3).double(), torch.zeros(2, 3, 3), torch.zeros(2, 0, 0)):
        with pytest.raises(DataError, match="Gram matrices must be"):
            least_combination(gram)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("count", [5, 12])
def test_cuda_equals_cpu(count):
    points, target = problems("random", count)
    found = coefficients(points.cuda(), target.cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), coefficients(points, target), rtol=0, atol=1e-8)
