"""Mixup, against sums written out row by row from the same draws."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mithridate.defense import protect
from mithridate.defenses.cutmix import CutMix
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.ops.mixing import dirichlet, partners
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from mithridate.trial import accuracy
from tests.conftest import stripes
from tests.defenses.augmenting import (
    QUICK,
    Diary,
    assert_resuming_equals_not_stopping,
    batch_of,
    learns,
    table,
    transformed,
)


@pytest.mark.parametrize("ways", [2, 4])
@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_inputs_and_labels_are_the_same_weighted_sums(ways, per, soft):
    data = stripes(7, seed=1)
    batch = batch_of(data, soft=soft)
    found = transformed(Mixup(ways=ways, alpha=0.7, per=per), batch, data, seed=3)
    replay = Seed(3).generator()
    weights = dirichlet(7 if per == "row" else 1, ways, 0.7, replay).expand(7, ways)
    rows = partners(7, ways, replay)
    classes = batch.labels if soft else functional.one_hot(batch.labels, 3).float()
    for k in range(7):
        inputs = sum(float(weights[k, way]) * batch.inputs[rows[way, k]] for way in range(ways))
        labels = sum(float(weights[k, way]) * classes[rows[way, k]] for way in range(ways))
        assert torch.allclose(found.inputs[k], inputs, atol=1e-6)
        assert torch.allclose(found.labels[k], labels, atol=1e-6)
    assert torch.allclose(found.labels.sum(1), torch.ones(7), atol=1e-6)


def test_the_loss_of_the_mixed_label_is_the_mixed_sum_of_losses():
    data = stripes(6, seed=1)
    batch = batch_of(data)
    found = transformed(Mixup(), batch, data, seed=3)
    replay = Seed(3).generator()
    (weights,), (first, second) = dirichlet(1, 2, 1.0, replay).tolist(), partners(6, 2, replay)
    logits = QUICK.build(data.space, Seed(0)).eval()(found.inputs).detach()
    parts = [functional.cross_entropy(logits, batch.labels[row]) for row in (first, second)]
    expected = weights[0] * parts[0] + weights[1] * parts[1]
    assert torch.allclose(functional.cross_entropy(logits, found.labels), expected, atol=1e-6)


@pytest.mark.parametrize("per", ["batch", "row"])
def test_weights_are_drawn_once_a_batch_or_for_every_row(per):
    """Rows of ones and zeros show the weight of the ones."""
    data = table(40)
    inputs = torch.eye(40)[:, :1].expand(40, 5).clone()  # the first row is ones, the others are zeros
    found = transformed(Mixup(per=per), batch_of(data), data)  # checks that nothing is written in place
    assert found.inputs.shape == inputs.shape
    labels = found.labels.max(1).values  # the larger weight, or 1 where partners share a class
    drawn = {round(value, 5) for value in labels.tolist() if value < 0.9999}
    assert len(drawn) == 1 if per == "batch" else len(drawn) > 15


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_batches_are_mixed_too(rows):
    data = stripes(rows, seed=1)
    found = transformed(Mixup(ways=4, per="row"), batch_of(data), data)
    assert found.labels.shape == (rows, 3)
    if rows == 1:  # with itself
        assert torch.allclose(found.inputs, data.all_inputs(), atol=1e-6)
        assert torch.allclose(found.labels, torch.tensor([[1.0, 0, 0]]), atol=1e-6)


def test_channels_last_stays_and_only_the_generator_decides():
    data = stripes(9, seed=1)
    batch = batch_of(data, channels_last=True)
    with undisturbed("mixup"):
        one, two, other = (transformed(Mixup(), batch, data, seed=seed) for seed in (1, 1, 2))
    assert one.inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.labels, two.labels)
    assert not torch.allclose(one.inputs, other.inputs, atol=0.01)


def test_mixes_what_cutmix_has_pasted():
    """The labels of the second are mixtures of the labels of the first, with mixup's weights."""
    between, after, data = Diary(), Diary(), stripes(16, seed=1)
    cutmix, mixup = (each.hook(QUICK, Seed(0)) for each in (CutMix(p=1.0, per="row"), Mixup()))
    QUICK.fit(data, seed=Seed(1), hooks=(cutmix, between, mixup, after))
    assert len(after.seen) == 8
    for first, second in zip(between.seen, after.seen, strict=True):
        found = torch.cat([second.inputs.flatten(1), second.labels], 1)
        given = torch.cat([first.inputs.flatten(1), first.labels], 1)
        weights = torch.linalg.lstsq(given.T.double(), found.T.double()).solution.T  # (16, 16): of which rows
        assert torch.allclose(weights @ given.double(), found.double(), atol=1e-5)
        assert torch.allclose(weights.sum(1), torch.ones(16, dtype=torch.float64), atol=1e-4)
        assert int((weights.abs() > 1e-3).sum(1).max()) <= 2


def test_images_are_still_learnt():
    assert learns(Mixup()) > 0.9
    assert learns(Mixup(ways=4)) > 0.9
    assert learns(CutMix(), Mixup()) > 0.9


def test_tables_are_mixed_and_learnt():
    assert Mixup().problems(table(3).space) == []
    learner = SGD(model=Linear(), epochs=20, batch_size=16, lr=0.3, augmentation=None)
    fitted = protect(learner, (Mixup(),)).fit(table(150), seed=Seed(1))
    assert accuracy(fitted.model, table(150)) > 0.9
    assert fitted.loss > 0.4  # of mixed labels, which no network gets right


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("stack", [(Mixup(ways=3),), (CutMix(per="row"), Mixup(per="row"))], ids=["alone", "on cutmix"])
def test_resuming_equals_not_stopping(stack, stop, tmp_path):
    assert_resuming_equals_not_stopping(stack, stop, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ways": 1}, "ways must be at least 2 rows, but it is 1"),
        ({"alpha": 0.0}, "alpha must be a positive number, but it is 0"),
        ({"alpha": float("nan")}, "alpha must be a positive number"),
        ({"alpha": float("inf")}, "alpha must be a positive number"),
        ({"per": "rows"}, "per must be 'batch' or 'row', but it is 'rows'"),
    ],
)
def test_settings_that_mix_nothing_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Mixup(**wrong)
