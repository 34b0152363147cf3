"""Cutout: the square is read off the pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mithridate.dataset import Dataset, Space
from mithridate.defense import protect
from mithridate.defenses.cutout import Cutout
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from tests.conftest import stripes
from tests.defenses.augmenting import assert_resuming_equals_not_stopping, batch_of, learns, table, transformed


def black(rows, *, channels=3, height=32, width=32, mean=(0.25, 0.5, 0.75)):
    space = Space(shape=(channels, height, width), num_classes=2, mean=mean)
    inputs = torch.zeros(rows, *space.shape)
    return Dataset(inputs=inputs, labels=torch.zeros(rows).long(), ids=torch.arange(rows), space=space)


def test_a_square_of_the_papers_size_is_filled_with_the_mean_colour():
    data = black(300)
    found = transformed(Cutout(), batch_of(data), data).inputs
    holes = (found != 0).all(1)
    assert torch.equal(found, holes[:, None] * torch.tensor(data.space.mean).reshape(1, 3, 1, 1))
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.flatten(1).sum(1), heights * widths)
    assert int(heights.max()) == int(widths.max()) == 16
    assert int(heights.min()) == int(widths.min()) == 8  # a centre in the first row leaves rows 0 to 7
    whole = float(((heights == 16) & (widths == 16)).float().mean())
    assert whole == pytest.approx((17 / 32) ** 2, abs=0.07)  # 17 of 32 centres are far enough from both edges


def test_the_fill_is_what_models_see_as_zero():
    data = replace(stripes(4, seed=1), space=replace(stripes(4, seed=1).space, mean=(0.2, 0.4, 0.6)))
    batch = batch_of(data)
    found = transformed(Cutout(side=1.0), batch, data).inputs
    model = SGD(model=Linear()).build(data.space, Seed(0))
    holes = (found != batch.inputs).any(1)
    normalised = model.normalise(found).permute(0, 2, 3, 1)[holes]
    assert len(normalised) > 100
    assert float(normalised.abs().max()) == 0.0


def test_grey_images_odd_sizes_and_labels():
    data = black(50, channels=1, height=7, width=11, mean=(0.5,))
    batch = batch_of(data, soft=True)
    found = transformed(Cutout(side=0.4), batch, data)  # 3 of 7 pixels
    assert torch.equal(found.labels, batch.labels)
    holes = found.inputs[:, 0] == 0.5
    assert int(holes.any(2).sum(1).max()) == int(holes.any(1).sum(1).max()) == 3


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_batches(rows):
    data = black(rows)
    assert int((transformed(Cutout(), batch_of(data), data).inputs != 0).sum()) >= 3 * 64 * rows


def test_channels_last_stays_and_only_the_generator_decides():
    data = stripes(9, seed=1)
    batch = batch_of(data, channels_last=True)
    with undisturbed("cutout"):
        one, two, other = (transformed(Cutout(), batch, data, seed=seed) for seed in (1, 1, 2))
    assert one.inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one.inputs, two.inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_images_are_still_learnt():
    assert learns(Cutout()) > 0.9
    assert learns(Mixup(), Cutout()) > 0.9


def test_tables_are_refused_with_a_sentence():
    (sentence,) = Cutout().problems(table(3).space)
    assert sentence.startswith("cutout needs images of shape (channels, height, width), but inputs are (5,)")
    assert Cutout().problems(stripes(3, seed=1).space) == []
    with pytest.raises(ConfigError, match="cutout needs images"):
        protect(SGD(model=Linear()), (Cutout(),)).fit(table(30), seed=Seed(0))


@pytest.mark.parametrize("stop", [1, 3])
def test_resuming_equals_not_stopping(stop, tmp_path):
    assert_resuming_equals_not_stopping((Cutout(), Mixup()), stop, tmp_path)


@pytest.mark.parametrize("side", [0.0, -0.5, 1.01, 16.0, float("nan")], ids=str)
def test_sides_that_are_no_share_are_refused(side):
    with pytest.raises(ConfigError, match=r"side must lie in \(0, 1\]"):
        Cutout(side=side)
