"""CutMix: what was pasted is read off the pixels, and the labels must say the same."""

from __future__ import annotations

import pytest
import torch

from mithridate.defense import protect
from mithridate.defenses.cutmix import CutMix
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError
from mithridate.learner import Batch
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from tests.conftest import stripes
from tests.defenses.augmenting import assert_resuming_equals_not_stopping, batch_of, begun, learns, table, transformed


def flat(rows):
    """Row ``k`` is an image of one colour, ``k / rows``, of class ``k % 3``; the colour of a pixel tells its row."""
    data = stripes(rows, seed=1)
    colours = (torch.arange(rows) / rows).reshape(rows, 1, 1, 1).expand(rows, *data.space.shape)
    return data, Batch(inputs=colours.clone(), labels=data.labels, ids=data.ids)


@pytest.mark.parametrize("per", ["batch", "row"])
def test_labels_weigh_exactly_the_pixels_pasted(per):
    data, batch = flat(24)
    pasted_on = 0
    for seed in range(20):
        found = transformed(CutMix(p=1.0, per=per), batch, data, seed=seed)
        holes = []
        for k in range(24):
            origin = (found.inputs[k] * 24).round().long()
            assert bool((origin == origin[:1]).all())  # all channels from the same row
            other = origin[0] != k
            assert len(origin[0][other].unique()) <= 1
            holes.append(other)
            share = int(other.sum()) / 144
            expected = [0.0, 0.0, 0.0]
            expected[k % 3] += 1 - share
            if share:
                expected[int(origin[0][other][0]) % 3] += share
                pasted_on += 1
                rows, columns = other.any(1), other.any(0)
                assert int(other.sum()) == int(rows.sum()) * int(columns.sum())
                assert torch.equal(other, rows[:, None] & columns[None])  # a rectangle
            assert found.labels[k].tolist() == pytest.approx(expected, abs=1e-6)
        shapes = {tuple(hole.flatten().tolist()) for hole in holes if bool(hole.any())}
        assert len(shapes) <= 1 if per == "batch" else len(shapes) > 5
    assert pasted_on > 300  # of 480: some rectangles are smaller than a pixel, some rows met themselves


@pytest.mark.parametrize("p", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_as_many_are_changed_as_p_says(per, p):
    """With a huge alpha every rectangle is half an image: a row stays where the coin says so, or meets itself."""
    data, batch = flat(24)
    generator, hook = Seed(0).generator(), begun(CutMix(p=p, per=per, alpha=1e4), data)
    batches = [hook.transform(None, batch, generator) for _ in range(400)]
    changed = torch.stack([(each.inputs != batch.inputs).flatten(1).any(1) for each in batches]).float()
    assert float(changed.mean()) == pytest.approx(p * 23 / 24, abs=0.05)
    whole = float((changed.sum(1) > 0).float().mean())
    assert whole == pytest.approx(p if per == "batch" else 1, abs=0.05)
    pixels = torch.stack([(each.inputs != batch.inputs)[:, 0].flatten(1).sum(1) for each in batches])
    assert 8 * 8 <= int(pixels.max()) <= 9 * 9  # of 12 x 12: a side of 8.5, where none of it reaches over the edge
    for each in batches:
        assert each.labels.shape == (24, 3)  # probabilities, also where nothing was pasted


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_tiny_batches_and_soft_labels(rows, soft):
    data = stripes(rows, seed=1)
    batch = batch_of(data, soft=soft)
    found = transformed(CutMix(p=1.0), batch, data, seed=2)
    assert torch.allclose(found.labels.sum(1), torch.ones(rows), atol=1e-6)
    if rows == 1:  # pasted onto itself
        assert torch.equal(found.inputs, batch.inputs)
        expected = batch.labels if soft else torch.tensor([[1.0, 0, 0]])
        assert torch.allclose(found.labels, expected, atol=1e-6)


def test_channels_last_stays_and_only_the_generator_decides():
    data = stripes(9, seed=1)
    batch = batch_of(data, channels_last=True)
    with undisturbed("cutmix"):
        one, two, other = (transformed(CutMix(p=1.0), batch, data, seed=seed) for seed in (1, 1, 2))
    assert one.inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.inputs, other.inputs)


def test_images_are_still_learnt():
    assert learns(CutMix()) > 0.9
    assert learns(CutMix(p=1.0, per="row")) > 0.9
    assert learns(Mixup(), CutMix()) > 0.9


def test_tables_are_refused_with_a_sentence():
    (sentence,) = CutMix().problems(table(3).space)
    assert sentence.startswith("cutmix needs images of shape (channels, height, width), but inputs are (5,)")
    assert CutMix().problems(stripes(3, seed=1).space) == []
    with pytest.raises(ConfigError, match="cutmix needs images"):
        protect(SGD(model=Linear()), (CutMix(),)).fit(table(30), seed=Seed(0))


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_resuming_equals_not_stopping(per, stop, tmp_path):
    assert_resuming_equals_not_stopping((CutMix(per=per),), stop, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"p": 0.0}, r"p must lie in \(0, 1\], but it is 0"),
        ({"p": 1.5}, r"p must lie in \(0, 1\], but it is 1.5"),
        ({"alpha": -1.0}, "alpha must be a positive number, but it is -1"),
        ({"alpha": float("nan")}, "alpha must be a positive number"),
        ({"per": "image"}, "per must be 'batch' or 'row', but it is 'image'"),
    ],
)
def test_settings_that_paste_nothing_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        CutMix(**wrong)
