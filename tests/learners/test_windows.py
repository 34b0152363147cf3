"""Images cut out of their padded selves, against sampling on a grid: values, and derivatives in the inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space
from mithridate.learners.augment import Augmentation, augmented
from mithridate.learners.windows import cut, shown
from mithridate.seeding import Seed

MEAN = (0.3, 0.5, 0.7)
KINDS = st.builds(
    Augmentation,
    shift=st.sampled_from([0.0, 1.0, 2.5, 4.0, 9.0]),
    flip=st.booleans(),
    mode=st.sampled_from(["bilinear", "integer"]),
    cutout=st.sampled_from([0.0, 0.4]),
)
SIZES = st.sampled_from([(6, 8), (7, 7), (1, 5), (5, 1), (1, 1), (32, 32)])


def space(size, bounds=(0.0, 1.0), channels=3, levels=256):
    mean, std = MEAN[:channels], (0.2,) * channels
    return Space(shape=(channels, *size), num_classes=2, bounds=bounds, levels=levels, mean=mean, std=std)


def rows(here, count=5, seed=0):
    draws = Seed(seed).generator()
    inputs = torch.randint(0, here.levels, (count, *here.shape), dtype=torch.uint8, generator=draws)
    return Dataset.of(inputs, torch.randint(2, (count,), generator=draws), space=here, first_id=7)


@given(KINDS, SIZES, st.sampled_from([(0.0, 1.0), (-1.0, 3.0)]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_a_cut_is_the_sample_on_the_grid(kind, size, bounds, channels, seed):
    here = space(size, bounds, channels)
    data, draw = rows(here, seed=seed), kind.draw(5, Seed(seed).generator())
    expected = kind.apply(data.all_inputs(), draw, space=here)
    found = cut(data.inputs, draw, kind, space=here)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5 * (bounds[1] - bounds[0]))


@settings(max_examples=15)
@given(KINDS, st.sampled_from([(3, 4), (1, 3)]), st.integers(0, 99))
def test_what_a_code_moves_is_the_derivative_of_the_sample(kind, size, seed):
    """Both are linear in the images: from all codes 0, one code up at a time is the whole derivative."""
    here = space(size, channels=1, levels=2)  # a code is a unit
    draw = kind.draw(1, Seed(seed).generator())
    count = size[0] * size[1]
    slopes = torch.autograd.functional.jacobian(
        lambda image: kind.apply(image, draw, space=here), torch.rand(1, 1, *size)
    ).reshape(count, count)
    zero = torch.zeros(1, 1, *size, dtype=torch.uint8)
    start = cut(zero, draw, kind, space=here)
    for place in range(count):
        one = zero.clone()
        one.view(-1)[place] = 1
        moved = (cut(one, draw, kind, space=here) - start).flatten()
        assert torch.allclose(moved, slopes[:, place], atol=1e-5)


@given(st.sampled_from([(6, 8), (5, 5)]), st.integers(0, 99))
def test_whole_shifts_are_exact(size, seed):
    kind, here = Augmentation(shift=2.0, mode="integer"), space(size)
    data, draw = rows(here, seed=seed), kind.draw(5, Seed(seed).generator())
    found = cut(data.inputs, draw, kind, space=here)
    assert torch.equal(found, here.decode((found * 255).round().to(torch.uint8))), "no code is between two codes"


@pytest.mark.parametrize("kind", [None, Augmentation(shift=2.0), Augmentation(shift=2.0, mode="integer", cutout=0.3)])
@pytest.mark.parametrize("stored", ["codes", "floats", "table"])
def test_rows_are_shown_as_the_augmentation_draws_them(kind, stored):
    here = Space(shape=(4,), num_classes=2) if stored == "table" else space((6, 8))
    data = rows(space((6, 8))) if stored != "table" else None
    if data is None or stored == "floats":
        inputs = torch.rand(5, *here.shape) if data is None else data.all_inputs()
        data = Dataset.of(inputs, torch.zeros(5, dtype=torch.int64), space=here)
    index, one, two = torch.tensor([3, 0, 3]), Seed(4).generator(), Seed(4).generator()
    inputs, labels = shown(data, index, kind, one)
    expected = augmented(data.take(index)[0], kind, space=here, generator=two)
    assert torch.allclose(inputs, expected, atol=1e-5)
    assert torch.equal(labels, data.labels[index])
    assert torch.equal(one.get_state(), two.get_state()), "both draw as much"
