"""A patch changes its own square and nothing else, stays in range, and is the same wherever it is applied."""

from __future__ import annotations

import pytest
import torch

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.triggers.patch import Patch


def images(rows=3, channels=3, height=8, width=10):
    return 0.2 + 0.5 * torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("top left", slice(1, 4), slice(1, 4)),
        ("top right", slice(1, 4), slice(6, 9)),
        ("bottom left", slice(4, 7), slice(1, 4)),
        ("bottom right", slice(4, 7), slice(6, 9)),
    ],
)
def test_covers_the_square_in_its_corner_and_nothing_else(corner, rows, columns):
    clean = images()
    marked = Patch(side=3, corner=corner, margin=1, colour=(1.0,)).apply(clean)
    expected = clean.clone()
    expected[:, :, rows, columns] = 1.0
    assert torch.equal(marked, expected)


def test_a_colour_has_one_value_a_channel():
    marked = Patch(side=2, colour=(0.1, 0.5, 1.0)).apply(images())
    assert torch.equal(marked[:, :, -1, -1], torch.tensor([0.1, 0.5, 1.0]).expand(3, 3))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)])
def test_random_pixels_are_at_the_ends_of_the_bounds_and_never_outside(bounds):
    square = Patch(side=8, bounds=bounds).apply(images())[..., -8:]
    assert set(square.unique().tolist()) == set(bounds)


def test_survives_storage_in_eight_bits():
    space = Space(shape=(3, 8, 10), num_classes=2, levels=256)
    marked = Patch().apply(space.quantise(images()))
    assert torch.equal(space.quantise(marked), marked)


def test_same_seed_same_pixels_on_every_image_and_another_seed_others():
    one, same, other = (Patch(seed=seed).apply(images())[..., -5:, -5:] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one[0], one[2])
    assert not torch.equal(one, other)


def test_leaves_its_inputs_and_global_randomness_alone():
    clean, state = images(), torch.get_rng_state()
    before = clean.clone()
    Patch().apply(clean)
    assert torch.equal(clean, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_reach_the_pixels_around_it_only():
    clean = images().requires_grad_()
    Patch(side=3).apply(clean).sum().backward()
    expected = torch.ones_like(clean)
    expected[:, :, -3:, -3:] = 0
    assert torch.equal(clean.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_the_type_of_its_inputs(dtype):
    assert Patch().apply(images().to(dtype)).dtype == dtype


@pytest.mark.parametrize("channels", [1, 3])
def test_works_on_grey_and_colour_images(channels):
    assert Patch().apply(images(channels=channels)).shape == (3, channels, 8, 10)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"colour": (255.0, 0.0, 0.0)}, r"in \[0, 1\], but it is \(255.0, 0.0, 0.0\) \(divide 8-bit colours by 255\)"),
        ({"colour": (1.2,)}, r"colour must be one or more values in \[0, 1\]"),
        ({"colour": ()}, "colour must be one or more values"),
        ({"side": 0}, "a side of at least 1 and no negative margin, but they are 0 and 0"),
        ({"margin": -1}, "no negative margin"),
        ({"bounds": (1.0, 0.0)}, "two finite numbers, the lower first"),
        ({"bounds": (0.0, float("inf"))}, "two finite numbers, the lower first"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Patch(**settings)


@pytest.mark.parametrize(
    ("patch", "inputs", "sentence"),
    [
        (Patch(side=6, margin=3), images(), "side 6 and margin 3 does not fit images of 8 x 10"),
        (Patch(colour=(0.1, 0.2)), images(), "colour has 2 values, but the images have 3 channels"),
        (Patch(), torch.rand(4, 5), r"images of shape \(N, C, H, W\), but inputs have \(4, 5\)"),
    ],
)
def test_images_it_does_not_fit_are_refused(patch, inputs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        patch.apply(inputs)


def test_a_patch_may_fill_the_image():
    assert bool((Patch(side=8, colour=(0.0,)).apply(images(width=8)) == 0).all())
