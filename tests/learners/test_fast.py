"""Fast victims: their schedule, their steps against a slow form, alternating mirror images, hooks, and resuming."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mithridate import config
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Space
from mithridate.defense import protect
from mithridate.defenses.epic import EPIC
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError, FormatError
from mithridate.knowledge import box
from mithridate.learner import Hook, Learner, Removal
from mithridate.learners.augment import Augmentation
from mithridate.learners.fast import Fast, triangle
from mithridate.learners.recipes import recipe
from mithridate.learners.sgd import SGD
from mithridate.models.fastnet import FastNet
from mithridate.models.linear import Linear
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.naming import label
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.trial import accuracy

NET = FastNet(widths=(4, 6))
QUICK = Fast(model=NET, epochs=3, precision="float32")
DATA = toy(60, seed=1)


class Diary(Hook):
    """Writes down every batch."""

    def __init__(self):
        self.seen = []

    def transform(self, model, batch, generator):
        self.seen.append(batch)
        return batch


def test_the_rate_rises_and_falls_in_one_triangle():
    found = [triangle(each) for each in (0, 0.115, 0.23, 0.615, 1)]
    assert found == pytest.approx([0.2, 0.6, 1.0, 0.535, 0.07])


def test_the_settings_are_those_of_the_paper():
    """Written there as rates a thousand rows, with momentum's part in them."""
    found = Fast(model=FastNet())
    amplified = 1 + 1 / (1 - found.momentum)
    assert found.lr * amplified == pytest.approx(11.5)
    assert found.decay * amplified == pytest.approx(0.0153, rel=0.01)
    assert (found.batch_size, found.bias_factor, found.smoothing) == (1024, 64, 0.2)
    assert found.augmentation == Augmentation(shift=2.0, flip=True, mode="integer")


@pytest.mark.parametrize(("count", "rows"), [(50_000, 1024), (2531, 63), (300, 16)])
def test_few_rows_make_small_batches(count, rows):
    assert Fast(model=NET).rows(count) == rows


def test_steps_are_those_of_the_formulas():
    """Nesterov's, with a rate and a decay for each kind of parameter, over a whole training without augmentation."""
    learner = replace(QUICK, augmentation=None, channels_last=False)
    diary = Diary()
    found = learner.fit(DATA, seed=Seed(4), hooks=[diary]).model
    with Seed(4).child("weights").scope():
        model = NET.build(DATA.space)
    with torch.no_grad():
        model.prepare(DATA.all_inputs())
    size = learner.rows(len(DATA))
    rate = 1.5 * (size / 1024) ** 0.5
    norms = [name.startswith("body") and each.ndim == 1 for name, each in model.named_parameters()]
    params = list(model.train().parameters())
    speeds = [torch.zeros_like(each) for each in params]
    for number, batch in enumerate(diary.seen):
        loss = functional.cross_entropy(model(batch.inputs), batch.labels, label_smoothing=0.2)
        slopes = torch.autograd.grad(loss, params)
        for each, slope, speed, norm in zip(params, slopes, speeds, norms, strict=True):
            factor = 64 if norm else 1
            slope = slope + 0.002 / (1.5 * factor) * each.detach()
            speed.mul_(0.85).add_(slope)
            each.data -= rate * factor * triangle(number / len(diary.seen)) * (slope + 0.85 * speed)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_mirror_images_alternate():
    """With shifts off, each image is shown as it is in every other epoch, and mirrored in the others; half begin so."""
    diary = Diary()
    learner = replace(QUICK, augmentation=Augmentation(shift=0, flip=True, mode="integer"))
    learner.fit(DATA, seed=Seed(1), hooks=[diary])
    sides = {int(each): [] for each in DATA.ids}
    for batch in diary.seen:
        for number, image in zip(batch.ids, batch.inputs, strict=True):
            known = DATA.rows(number[None]).all_inputs()[0]
            assert torch.equal(image, known) != torch.equal(image, known.flip(2))
            sides[int(number)].append(torch.equal(image, known))
    patterns = list(sides.values())
    assert {tuple(each) for each in patterns} == {(True, False, True), (False, True, False)}
    assert 0.3 < sum(each[0] for each in patterns) / len(patterns) < 0.7


@pytest.mark.parametrize("augmentation", [None, Augmentation(shift=0, flip=False, mode="integer")])
def test_without_flips_images_stay_as_they_are(augmentation):
    diary = Diary()
    replace(QUICK, epochs=1, augmentation=augmentation).fit(DATA, seed=Seed(1), hooks=[diary])
    for batch in diary.seen:
        assert torch.equal(batch.inputs, DATA.rows(batch.ids).all_inputs())


def test_images_stored_as_floats_are_shown_alike():
    floats = replace(DATA, inputs=DATA.all_inputs())
    one, two = (QUICK.fit(each, seed=Seed(1)).model.state_dict() for each in (DATA, floats))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-3, rtol=1e-3)


class Forgetful(Diary):
    """Takes out the first rows before the second epoch, and draws from the training's random numbers."""

    def drop(self, data, active, progress):
        if progress is not None and progress.epoch == 1:
            return Removal(by="forgetful", epoch=1, ids=data.ids[:20])
        return None

    def transform(self, model, batch, generator):
        torch.rand(3, generator=generator)
        return super().transform(model, batch, generator)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_goes_on_as_if_it_had_never_stopped(epochs):
    whole = [(each.loss, each.accuracy) for each in QUICK.train(DATA, seed=Seed(2), hooks=[Forgetful()])]
    straight = QUICK.fit(DATA, seed=Seed(2), hooks=[Forgetful()])
    training = QUICK.train(DATA, seed=Seed(2), hooks=[Forgetful()])
    state = [next(training) for _ in range(epochs)][-1].state()
    resumed = list(QUICK.train(DATA, seed=Seed(2), hooks=[Forgetful()], resume=state))
    assert [(each.loss, each.accuracy) for each in resumed][-1:] == whole[-1:]
    end = resumed[-1].model.state_dict()
    assert all(torch.equal(end[name], value) for name, value in straight.model.state_dict().items())
    assert [each.ids.tolist() for each in resumed[-1].removals] == [DATA.ids[:20].tolist()]


def test_a_state_of_another_training_is_refused():
    with pytest.raises(FormatError, match="is not that of this training"):
        next(QUICK.train(DATA, seed=Seed(2), resume=Checkpoint()))


def test_rows_that_were_taken_out_are_not_seen_again():
    hook = Forgetful()
    QUICK.fit(DATA, seed=Seed(2), hooks=[hook])
    seen = torch.cat([batch.ids for batch in hook.seen])
    assert sorted(seen[:60].tolist()) == sorted(DATA.ids.tolist())
    assert not torch.isin(seen[60:], DATA.ids[:20]).any()


def test_epic_takes_rows_out_of_it():
    epic = EPIC(fraction=0.5, warmup=1, interval=1, stop=3, min_class_size=2)
    found = protect(QUICK, [epic]).fit(DATA, seed=Seed(1))
    assert found.epoch == 3
    assert sum(len(each.ids) for each in found.removals) > 0


def test_mixtures_of_rows_are_trained_on():
    found = protect(QUICK, [Mixup()]).fit(DATA, seed=Seed(1))
    assert found.epoch == 3
    assert found.loss > 0


def test_it_learns_in_few_epochs():
    found = replace(QUICK, epochs=6).fit(toy(240, seed=1), seed=Seed(1))
    assert accuracy(found.model, toy(90, seed=2)) > 0.8


def test_the_recipe_can_be_written_as_such():
    known = Fast(model=FastNet(widths=(4, 6)), epochs=2)
    written = {"recipe": "fast", "epochs": 2, "model": {"name": "fastnet", "widths": [4, 6]}}
    assert config.parse(Learner, written) == known
    assert config.parse(Learner, {"recipe": "fast"}) == Fast(model=FastNet())
    assert recipe("fast", model=FastNet(widths=(4, 6)), epochs=2) == known
    with pytest.raises(ConfigError, match="the recipe 'fast' trains a network; name one"):
        recipe("fast")


def test_tables_and_boxes_know_it():
    assert label(Fast(model=FastNet())) == "fast, 10 epochs"
    assert label(Fast(model=SmallConvNet())) == "fast smallconvnet, 10 epochs"
    assert box((QUICK,), replace(QUICK, epochs=9)) == "grey-box"
    assert box((QUICK,), SGD(model=SmallConvNet())) == "black-box"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0}, "epochs must be at least 1, but it is 0"),
        ({"least_steps": 0}, "least_steps must be at least 1"),
        ({"lr": 0.0}, "lr must be positive, but it is 0"),
        ({"smoothing": 1.0}, r"smoothing must lie in \[0, 1\), but it is 1"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Fast(model=NET, **settings)


def test_tables_are_refused_before_anything_is_trained():
    (problem,) = Fast(model=Linear()).problems(Space(shape=(5,), num_classes=3))
    assert "fast victims train on images" in problem
