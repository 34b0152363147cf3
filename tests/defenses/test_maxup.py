"""MaxUp, against a loop that draws again, judges row by row and keeps the worst."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate.defense import protect
from mithridate.defenses.cutmix import CutMix
from mithridate.defenses.cutout import Cutout
from mithridate.defenses.jpeg import JPEG
from mithridate.defenses.maxup import MaxUp, worst
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError
from mithridate.learner import Batch, Progress
from mithridate.learners.sgd import SGD
from mithridate.model import Stack
from mithridate.models.linear import Linear
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from tests.conftest import stripes
from tests.defenses.augmenting import (
    QUICK,
    Diary,
    assert_resuming_equals_not_stopping,
    batch_of,
    begun,
    learns,
    table,
    transformed,
)

BASES = {"default": None, "cutout": Cutout(side=0.7), "cutmix": CutMix(per="row"), "mixup": Mixup(ways=3)}


def trained(data):
    """A network with batch norm that knows something, in training mode."""
    return replace(QUICK, epochs=3).fit(data, seed=Seed(1)).model.train()


def dropping(data):
    """A network with dropout, batch norm, and one batch norm frozen in evaluation mode."""
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5),
        nn.Flatten(),
    )  # fmt: skip
    with Seed(2).scope():
        model = Stack(data.space, body=body, width=256).train()
    model.body[4].eval()
    return model


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_every_row_gets_exactly_its_worst_draw(base, soft):
    data = stripes(11, seed=1)
    batch, model = batch_of(data, soft=soft), trained(data)
    found = begun(MaxUp(base=BASES[base], draws=5, warmup=0), data).transform(model, batch, Seed(3).generator())
    replay, again = Seed(3).generator(), begun(BASES[base] or Cutout(side=0.5), data)
    drawn = [again.transform(model, batch, replay) for _ in range(5)]
    model.eval()
    picks = set()
    for k in range(11):
        losses = []
        for each in drawn:
            likely = model(each.inputs[k : k + 1]).log_softmax(1)[0].tolist()
            label = each.labels[k]
            classes = label.tolist() if label.ndim else functional.one_hot(label, 3).tolist()
            losses.append(-sum(share * value for share, value in zip(classes, likely, strict=True)))
        pick = max(range(5), key=losses.__getitem__)
        picks.add(pick)
        assert torch.equal(found.inputs[k], drawn[pick].inputs[k])
        assert torch.equal(found.labels[k], drawn[pick].labels[k])
    assert len(picks) > 1
    assert torch.equal(found.ids, batch.ids)


def test_the_network_and_global_randomness_are_left_alone():
    data = stripes(12, seed=1)
    model = dropping(data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hook = begun(MaxUp(warmup=0), data)
    with undisturbed("maxup"):
        found = hook.transform(model, batch_of(data), Seed(0).generator())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == modes
    assert modes.count(True) > 1
    assert modes.count(False) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not found.inputs.requires_grad


class Known(nn.Module):
    """Logits are the inputs."""

    def forward(self, inputs):
        assert not torch.is_grad_enabled()  # several graphs in memory would be several times a step
        return inputs.flatten(1)


def test_the_first_of_equals_is_taken_and_never_what_is_no_number():
    """By hand: losses of the label 0 fall with the first logit."""
    nan, inf = float("nan"), float("inf")
    labels, ids = torch.zeros(4).long(), torch.arange(4)
    rows = [
        [[1.0, 0.0], [nan, 0.0], [0.0, 0.0], [nan, 0.0]],
        [[-1.0, 0.0], [5.0, 0.0], [-inf, 0.0], [nan, 0.0]],
        [[-1.0, -0.0], [nan, 1.0], [1.0, 0.0], [nan, 2.0]],
    ]
    drawn = [Batch(inputs=torch.tensor(each), labels=labels, ids=ids) for each in rows]
    found = worst(Known(), drawn).inputs
    assert found[0].tolist() == [-1.0, 0.0]  # second and third are equal
    assert not torch.signbit(found[0, 1])
    assert found[1].tolist() == [5.0, 0.0]
    assert found[2].tolist() == [-inf, 0.0]
    assert found[3, 1] == 0.0


def test_the_warm_up_trains_on_one_draw():
    data = stripes(9, seed=1)
    batch, model = batch_of(data), trained(data)
    hook, single = MaxUp(draws=3, warmup=2).hook(QUICK, Seed(0)), begun(Cutout(), data)
    for epoch, warm in [(None, True), (1, True), (2, False), (7, False), (0, True)]:
        progress = None if epoch is None else Progress(epoch=epoch, epochs=8, model=model, loss=0.0, accuracy=0.0)
        hook.drop(data, torch.ones(9, dtype=torch.bool), progress)
        found = hook.transform(model, batch, Seed(4).generator())
        assert torch.equal(found.inputs, single.transform(model, batch, Seed(4).generator()).inputs) == warm


def test_the_loop_compares_after_the_warm_up_only():
    """Of the inputs that are trained on, only the later epochs differ from those of the base."""
    learner, data = replace(QUICK, epochs=4, lr=1e-9), stripes(48, seed=1)
    diaries = Diary(), Diary()
    for defense, diary in zip((MaxUp(warmup=2), Cutout()), diaries, strict=True):
        protect(learner, (defense,)).fit(data, seed=Seed(1), hooks=(diary,))
    same = [torch.equal(a.inputs, b.inputs) for a, b in zip(diaries[0].seen, diaries[1].seen, strict=True)]
    assert same == [True] * 6 + [False] * 6


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("base", BASES)
def test_tiny_batches(base, rows):
    data = stripes(rows, seed=1)
    found = transformed(MaxUp(base=BASES[base], warmup=0), batch_of(data), data)
    assert found.inputs.shape == data.inputs.shape


def test_channels_last_stays_and_only_the_generator_decides():
    data = stripes(9, seed=1)
    batch = batch_of(data, channels_last=True)
    for base in BASES.values():
        one, two, other = (transformed(MaxUp(base=base, warmup=0), batch, data, seed=seed) for seed in (1, 1, 2))
        assert one.inputs.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(one.inputs, two.inputs)
        assert not torch.equal(one.inputs, other.inputs)


def test_images_are_still_learnt():
    assert learns(MaxUp(warmup=2)) > 0.9
    assert learns(Mixup(), MaxUp(warmup=2, base=CutMix())) > 0.9


def test_tables_are_refused_unless_the_base_is_mixup():
    space = table(3).space
    assert MaxUp().problems(space)[0].startswith("maxup of cutout needs images of shape")
    assert MaxUp(base=CutMix()).problems(space)[0].startswith("maxup of cutmix needs images of shape")
    assert MaxUp(base=Mixup()).problems(space) == MaxUp().problems(stripes(3, seed=1).space) == []
    learner = SGD(model=Linear(), epochs=3, augmentation=None)
    with pytest.raises(ConfigError, match="maxup of cutout needs images"):
        protect(learner, (MaxUp(),)).fit(table(30), seed=Seed(0))
    plain = learner.fit(table(30), seed=Seed(0))
    assert protect(learner, (MaxUp(base=Mixup(), warmup=1),)).fit(table(30), seed=Seed(0)).loss > plain.loss


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("base", ["default", "mixup"])
def test_resuming_equals_not_stopping(base, stop, tmp_path):
    """Also where the training stopped during the warm-up, at its end and after it."""
    assert_resuming_equals_not_stopping((CutMix(), MaxUp(base=BASES[base], warmup=2)), stop, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"draws": 1}, "draws must be at least 2, but it is 1"),
        ({"warmup": -1}, "warmup must be at least 0 epochs, but it is -1"),
        ({"base": JPEG()}, "base must be one of cutout, cutmix, mixup, or none, but it is jpeg"),
        ({"base": MaxUp()}, "base must be one of cutout, cutmix, mixup, or none, but it is maxup"),
    ],
    ids=["draws", "warmup", "jpeg", "maxup"],
)
def test_settings_that_compare_nothing_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MaxUp(**wrong)
