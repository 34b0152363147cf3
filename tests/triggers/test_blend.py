"""A blend mixes one seeded pattern into every input by the share it names, and never leaves the range."""

from __future__ import annotations

import pytest
import torch

from mithridate.errors import ConfigError
from mithridate.triggers.blend import Blend


def images(rows=4, shape=(3, 6, 7)):
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0])
def test_mixes_its_pattern_in_by_alpha(alpha):
    pattern = Blend(alpha=1.0).apply(images())
    assert torch.equal(pattern[0], pattern[3])
    assert torch.allclose(Blend(alpha=alpha).apply(images()), alpha * pattern + (1 - alpha) * images(), atol=1e-6)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 5.0)])
@pytest.mark.parametrize("end", [0, 1])
def test_stays_in_range(bounds, end):
    low, high = bounds
    for alpha in (0.1, 0.3, 0.7):
        marked = Blend(alpha=alpha, bounds=bounds).apply(torch.full((2, 3, 40, 40), bounds[end]))
        assert low <= float(marked.min())
        assert float(marked.max()) <= high


def test_rounding_does_not_step_over_the_end():
    """A weak pattern over inputs at the top: without a clamp, 15 of these 199 strengths give values above 1.9."""
    top = torch.full((1, 3, 40, 40), 1.9)
    for step in range(1, 200):
        assert bool((Blend(alpha=step * 1e-6, seed=step, bounds=(0.0, 1.9)).apply(top) <= top).all())


def test_the_pattern_spreads_over_the_whole_range():
    pattern = Blend(alpha=1.0, bounds=(-1.0, 3.0)).apply(torch.zeros(1, 3, 40, 40))
    assert float(pattern.mean()) == pytest.approx(1.0, abs=0.1)  # 4800 draws: standard error 0.017
    assert float(pattern.std()) == pytest.approx(4 / 12**0.5, abs=0.05)


def test_same_seed_same_pattern_and_another_seed_another():
    one, same, other = (Blend(seed=seed).apply(images()) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(5,), (1, 28, 28)], ids=str)
def test_works_on_inputs_of_any_shape(shape):
    assert Blend().apply(images(shape=shape)).shape == (4, *shape)


def test_leaves_its_inputs_and_global_randomness_alone():
    clean, state = images(), torch.get_rng_state()
    before = clean.clone()
    Blend().apply(clean)
    assert torch.equal(clean, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_pass_through_by_what_is_left_of_the_input():
    clean = images().requires_grad_()
    Blend(alpha=0.25).apply(clean).sum().backward()
    assert torch.allclose(clean.grad, torch.full_like(clean, 0.75))


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1])
def test_alpha_must_be_a_share(alpha):
    with pytest.raises(ConfigError, match=r"alpha must lie in \(0, 1\], but it is"):
        Blend(alpha=alpha)


def test_bounds_must_have_ends():
    with pytest.raises(ConfigError, match="two finite numbers, the lower first"):
        Blend(bounds=(-float("inf"), 1.0))
