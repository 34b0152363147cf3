"""JPEG, against Pillow's own way through a file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mithridate.dataset import Dataset, Space
from mithridate.defense import protect
from mithridate.defenses.jpeg import JPEG, compressed
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError
from mithridate.learners.augment import Augmentation
from mithridate.seeding import Seed
from tests.conftest import stripes
from tests.defenses.augmenting import QUICK, Diary, assert_resuming_equals_not_stopping, learns, table


def photographs(rows, channels=3, height=13, width=18, seed=0):
    """Smooth images with a little noise."""
    draws = torch.Generator().manual_seed(seed)
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    waves = torch.rand(rows, channels, 1, 1, generator=draws) * 3 + torch.rand(rows, 1, 1, 1, generator=draws)
    smooth = 0.5 + 0.35 * torch.sin(waves * (x + 2 * y) * 2)
    noisy = smooth + 0.03 * torch.randn(rows, channels, height, width, generator=draws)
    space = Space(shape=(channels, height, width), num_classes=2, levels=256)
    return Dataset.of(space.encode(noisy.clamp(0, 1)), torch.arange(rows) % 2, space=space, first_id=70)


def through_a_file(image, quality, path):
    """One image ``(C, H, W)`` uint8, saved by Pillow and opened again."""
    array = image.numpy()
    picture = Image.fromarray(array[0]) if len(array) == 1 else Image.fromarray(array.transpose(1, 2, 0))
    picture.save(path, quality=quality)
    with Image.open(path) as opened:
        back = np.array(opened)
    return torch.from_numpy(back[None] if back.ndim == 2 else back.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [1, 50, 75, 100])
@pytest.mark.parametrize("size", [(13, 18), (32, 32), (1, 1)], ids=str)
def test_pixels_are_those_of_pillows_round_trip(channels, quality, size, tmp_path):
    codes = photographs(5, channels, *size).inputs
    found = compressed(codes, quality)
    assert found.dtype == torch.uint8
    for k in range(5):
        assert torch.equal(found[k], through_a_file(codes[k], quality, tmp_path / "image.jpg"))


def seen_in_training(data, defense):
    """The rows that a protected learner without augmentation is trained on, sorted by id."""
    diary, learner = Diary(), replace(QUICK, epochs=1, batch_size=len(data))
    protect(learner, (defense,)).fit(data, seed=Seed(0), hooks=(diary,))
    (batch,) = diary.seen
    order = batch.ids.argsort()
    return batch.inputs[order], batch.labels[order], batch.ids[order]


@pytest.mark.parametrize("stored", ["codes", "floats"])
def test_trains_on_compressed_rows_with_their_ids_and_labels(stored, tmp_path):
    data = photographs(6)
    given = data if stored == "codes" else replace(data, inputs=data.all_inputs())
    digest = given.digest()
    inputs, labels, ids = seen_in_training(given, JPEG(quality=40))
    expected = torch.stack([through_a_file(image, 40, tmp_path / "image.jpg") for image in data.inputs])
    assert torch.equal(inputs, expected.float() / 255)
    assert not torch.equal(inputs, data.all_inputs())
    assert torch.equal(labels, data.labels)
    assert torch.equal(ids, data.ids)
    assert given.digest() == digest


def test_the_order_of_rows_decides_nothing():
    data = photographs(6)
    for one, two in zip(
        *(seen_in_training(each, JPEG()) for each in (data, data.at(torch.arange(5, -1, -1)))), strict=True
    ):
        assert torch.equal(one, two)


def test_is_the_training_on_compressed_data():
    data = stripes(60, seed=1)
    learner = replace(QUICK, epochs=2, augmentation=Augmentation(shift=1.0))
    ours = protect(learner, (JPEG(quality=30),)).fit(data, seed=Seed(1)).model.state_dict()
    theirs = learner.fit(replace(data, inputs=compressed(data.inputs, 30)), seed=Seed(1)).model.state_dict()
    plain = learner.fit(data, seed=Seed(1)).model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not all(torch.equal(value, plain[name]) for name, value in ours.items())


def test_images_are_still_learnt():
    assert learns(JPEG()) > 0.9
    assert learns(JPEG(quality=10)) > 0.9
    assert learns(Mixup(), JPEG()) > 0.9


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("stack", [(JPEG(),), (JPEG(), Mixup()), (Mixup(), JPEG())], ids=["alone", "inside", "outside"])
def test_resuming_equals_not_stopping(stack, stop, tmp_path):
    assert_resuming_equals_not_stopping(stack, stop, tmp_path)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (table(2).space, r"jpeg needs images of 1 or 3 channels, \(channels, height, width\), but inputs are \(5,\)"),
        (Space(shape=(4, 8, 8), num_classes=2, levels=256), r"1 or 3 channels.* but inputs are \(4, 8, 8\)"),
        (Space(shape=(3, 8, 8), num_classes=2), r"8-bit images \(256 levels\), but inputs are stored as real numbers"),
        (Space(shape=(1, 8, 8), num_classes=2, levels=17), r"8-bit images \(256 levels\), .* stored as 17 levels"),
    ],
    ids=["table", "four channels", "real numbers", "17 levels"],
)
def test_what_is_no_8_bit_image_is_refused_with_a_sentence(space, sentence):
    """Before, through ``problems``; and when training begins."""
    data = Dataset(
        inputs=torch.zeros(4, *space.shape), labels=torch.arange(4) % 2, ids=torch.arange(4), space=space
    )  # fmt: skip
    assert len(JPEG().problems(space)) == 1
    with pytest.raises(ConfigError, match=sentence) as refusal:
        protect(QUICK, (JPEG(),)).fit(data, seed=Seed(0))
    assert str(refusal.value) == JPEG().problems(space)[0]


def test_8_bit_images_are_not_refused():
    assert JPEG().problems(stripes(3, seed=1).space) == JPEG().problems(photographs(2, channels=1).space) == []


@pytest.mark.parametrize("quality", [0, -1, 101])
def test_qualities_that_the_encoder_does_not_know_are_refused(quality):
    with pytest.raises(ConfigError, match=r"quality must lie in 1\.\.100"):
        JPEG(quality=quality)
