"""Augmentation, against slicing and flipping by hand; affine in the images; replayable; differentiable."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.errors import ConfigError
from mithridate.learners.augment import Augmentation, Draw, augmented
from mithridate.seeding import Seed

MEAN = (0.3, 0.5, 0.7)


def space(channels=3, height=6, width=8, mean=MEAN):
    return Space(shape=(channels, height, width), num_classes=2, mean=mean[:channels], std=(0.2,) * channels)


def images(count, channels=3, height=6, width=8, seed=0, dtype=torch.float32):
    return torch.rand(count, channels, height, width, generator=Seed(seed).generator(), dtype=dtype)


def drawn(right, down, flip=False, hole=(9.0, 9.0)):
    """The draw that does this to one image."""
    return Draw(
        shift=torch.tensor([[right, down]], dtype=torch.float32),
        flip=torch.tensor([flip]),
        hole=torch.tensor([hole], dtype=torch.float32),
    )


def sliced(image, right, down, flip, fill):
    """The slow obvious one: pad with ``fill`` ``(C,)``, cut out at the shifted place, mirror."""
    count, channels, height, width = image.shape
    padded = fill.reshape(1, channels, 1, 1).expand(count, channels, height + 20, width + 20).clone()
    padded[:, :, 10 : 10 + height, 10 : 10 + width] = image
    top, left = 10 - down, 10 - right
    moved = padded[:, :, top : top + height, left : left + width]
    return moved.flip(3) if flip else moved


whole = st.integers(-4, 4)


@given(whole, whole, st.booleans(), st.sampled_from([(6, 8), (7, 7), (2, 5), (32, 32)]))
def test_whole_shifts_are_slices_padded_with_black_or_mean_colour(right, down, flip, size):
    shown, here = images(1, 3, *size), space(3, *size)
    for mode, fill in (("integer", torch.zeros(3)), ("bilinear", torch.tensor(MEAN))):
        found = Augmentation(mode=mode).apply(shown, drawn(right, down, flip), space=here)
        assert torch.allclose(found, sliced(shown, right, down, flip, fill), atol=2e-5)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_fractional_shifts_are_the_blend_of_the_whole_ones_around(right, down):
    shown, fill = images(1), torch.tensor(MEAN)
    left, top = int(torch.floor(torch.tensor(right))), int(torch.floor(torch.tensor(down)))
    a, b = right - left, down - top
    expected = sum(
        (a if i else 1 - a) * (b if j else 1 - b) * sliced(shown, left + i, top + j, False, fill)
        for i in (0, 1)
        for j in (0, 1)
    )
    found = Augmentation().apply(shown, drawn(right, down), space=space())
    assert torch.allclose(found, expected, atol=2e-5)


def test_each_image_has_its_own_draw():
    shown = images(3)
    draw = Draw(
        shift=torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.0, 0.0]]),
        flip=torch.tensor([False, False, True]),
        hole=torch.zeros(3, 2),
    )
    found = Augmentation(mode="integer").apply(shown, draw, space=space())
    black = torch.zeros(3)
    for k, (right, down, flip) in enumerate([(1, 0, False), (0, -2, False), (0, 0, True)]):
        assert torch.allclose(found[k : k + 1], sliced(shown[k : k + 1], right, down, flip, black), atol=1e-5)


def test_cutout_blanks_a_square_and_nothing_else():
    shown = images(1, height=8) + 0.1
    found = Augmentation(shift=0, flip=False, cutout=0.5).apply(
        shown, drawn(0, 0, hole=(0.5, 0.25)), space=space(height=8)
    )
    expected = shown.clone()
    expected[:, :, 0:4, 2:6] = 0
    assert torch.equal(found, expected)


def test_draws_cover_their_range_evenly():
    draw = Augmentation(shift=4.0).draw(4000, Seed(0).generator())
    assert float(draw.shift.abs().max()) <= 4
    assert torch.allclose(draw.shift.mean(0), torch.zeros(2), atol=0.15)
    assert torch.allclose(draw.shift.var(0), torch.full((2,), 64 / 12), rtol=0.06)  # of a uniform on [-4, 4]
    assert abs(float(draw.flip.float().mean()) - 0.5) < 0.03
    whole_pixels = Augmentation(shift=2.0, mode="integer").draw(4000, Seed(0).generator()).shift
    assert whole_pixels.unique().tolist() == [-2, -1, 0, 1, 2]
    assert float(torch.bincount((whole_pixels + 2).flatten().long()).min()) > 1450  # 1600 each
    assert not Augmentation(flip=False).draw(4000, Seed(0).generator()).flip.any()


@given(st.sampled_from(["integer", "bilinear"]), st.sampled_from([0.0, 0.4]), st.integers(0, 100))
def test_affine_in_the_images(mode, cutout, seed):
    """Weights that add up to one may go outside; so perturbations move linearly."""
    augmentation = Augmentation(mode=mode, cutout=cutout)
    draw = augmentation.draw(4, Seed(seed).generator())
    one, two = images(4, seed=1), images(4, seed=2)
    show = lambda x: augmentation.apply(x, draw, space=space())  # noqa: E731
    assert torch.allclose(show(1.7 * one - 0.7 * two), 1.7 * show(one) - 0.7 * show(two), atol=1e-4)


@pytest.mark.parametrize("mode", ["integer", "bilinear"])
def test_gradients_are_exact(mode):
    augmentation = Augmentation(shift=1.5, mode=mode, cutout=0.3)
    draw = augmentation.draw(2, Seed(3).generator())
    shown = images(2, height=4, width=4, dtype=torch.float64).requires_grad_(True)
    here = space(3, 4, 4)
    assert torch.autograd.gradcheck(lambda x: augmentation.apply(x, draw, space=here), shown, atol=1e-4)


def test_a_draw_can_be_replayed_and_a_generator_moves_on():
    shown, generator = images(8), Seed(0).generator()
    first = augmented(shown, Augmentation(), space=space(), generator=generator)
    second = augmented(shown, Augmentation(), space=space(), generator=generator)
    again = augmented(shown, Augmentation(), space=space(), generator=Seed(0).generator())
    assert torch.equal(first, again)
    assert float((first - second).abs().mean()) > 0.05


@pytest.mark.parametrize("mode", ["integer", "bilinear"])
def test_grey_images_are_moved_like_colours(mode):
    colours = images(4)
    draw = Augmentation(mode=mode).draw(4, Seed(0).generator())
    found = Augmentation(mode=mode).apply(colours, draw, space=space())
    grey = Augmentation(mode=mode).apply(colours[:, 1:2], draw, space=space(1, mean=(0.5,)))
    assert torch.allclose(grey, found[:, 1:2], atol=1e-6)


def test_tables_pass_through():
    table, here = torch.rand(5, 7), Space(shape=(7,), num_classes=2)
    assert torch.equal(augmented(table, Augmentation(), space=here, generator=Seed(0).generator()), table)
    assert torch.equal(Augmentation().apply(table, Augmentation().draw(5, Seed(0).generator()), space=here), table)


def test_none_and_nothing_leave_images_alone():
    shown, generator = images(5), Seed(0).generator()
    state = generator.get_state()
    assert augmented(shown, None, space=space(), generator=generator) is shown
    assert torch.equal(generator.get_state(), state)
    still = Augmentation(shift=0, flip=False)
    assert torch.equal(augmented(shown, still, space=space(), generator=generator), shown)


def test_whole_shifts_are_the_crop_of_the_common_library():
    """Pad by four with black and crop at a random place: what RandomCrop(size, padding=4) does."""
    shown = images(1, height=8)
    padded = functional.pad(shown, (4, 4, 4, 4))
    for top in (0, 3, 8):
        for left in (0, 4, 7):
            crop = padded[:, :, top : top + 8, left : left + 8]
            found = Augmentation(mode="integer").apply(shown, drawn(4 - left, 4 - top), space=space(height=8))
            assert torch.allclose(found, crop, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shift": -1}, "at least 0 pixels, but it is -1"),
        ({"shift": float("nan")}, "at least 0 pixels"),
        ({"cutout": 1.5}, r"cutout must lie in \[0, 1\], but it is 1.5"),
    ],
)
def test_impossible_amounts_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Augmentation(**wrong)
