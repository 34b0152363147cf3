"""What the tests of the augmenting defenses share: a quick learner, batches, and trainings that are interrupted."""

from __future__ import annotations

import torch

from mithridate import checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.defense import protect
from mithridate.learner import Batch, Hook
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from mithridate.trial import accuracy
from tests.conftest import stripes

QUICK = SGD(
    model=SmallConvNet(widths=(4, 6)), epochs=8, batch_size=16, lr=0.05, schedule="one-cycle", augmentation=None
)
"""Learns the stripes (with batch norm)."""
TABLE = Space(shape=(5,), num_classes=3, bounds=(-9.0, 9.0))


class Diary(Hook):
    """Writes down every batch."""

    def __init__(self):
        self.seen = []

    def transform(self, model, batch, generator):
        self.seen.append(batch)
        return batch


def table(rows: int) -> Dataset:
    inputs = torch.randn(rows, 5, generator=Seed(0).generator())
    return Dataset.of(inputs.clamp(-9, 9), inputs[:, :3].argmax(1), space=TABLE)


def batch_of(data: Dataset, *, soft: bool = False, channels_last: bool = False) -> Batch:
    inputs = data.all_inputs()
    labels = data.labels
    if soft:
        labels = torch.rand(len(data), data.space.num_classes, generator=Seed(5).generator()).softmax(1)
    if channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Batch(inputs=inputs, labels=labels, ids=data.ids)


def begun(defense, data: Dataset) -> Hook:
    """A hook before the first epoch."""
    hook = defense.hook(QUICK, Seed(0))
    assert hook.settings == defense
    assert hook.drop(data, torch.ones(len(data), dtype=torch.bool), None) is None
    return hook


def transformed(defense, batch: Batch, data: Dataset, *, seed: int = 3) -> Batch:
    """What a fresh hook makes of a batch, its inputs and labels left alone."""
    model = QUICK.build(data.space, Seed(0)) if len(data.space.shape) == 3 else None
    before = batch.inputs.clone(), batch.labels.clone()
    found = begun(defense, data).transform(model, batch, Seed(seed).generator())
    assert torch.equal(batch.inputs, before[0])
    assert torch.equal(batch.labels, before[1])
    assert torch.equal(found.ids, batch.ids)
    low, high = data.space.bounds
    assert low <= float(found.inputs.min()) <= float(found.inputs.max()) <= high
    return found


def learns(*defenses, seed: int = 1) -> float:
    """Accuracy on test rows after training on stripes."""
    fitted = protect(QUICK, defenses).fit(stripes(120, seed=1), seed=Seed(seed))
    return accuracy(fitted.model, stripes(60, seed=2))


def assert_resuming_equals_not_stopping(defenses, stop: int, folder) -> None:
    """Four epochs in one go, and stopped after ``stop``, written, read and resumed: the same network bit for bit."""
    inside = SGD(
        model=SmallConvNet(widths=(4, 6)), epochs=4, batch_size=16, lr=0.05, schedule="one-cycle",
        augmentation=Augmentation(shift=1.0), channels_last=True,
    )  # fmt: skip
    learner, data = protect(inside, defenses), stripes(50, seed=1)
    whole = learner.fit(data, seed=Seed(1))
    for progress in learner.train(data, seed=Seed(1)):
        if progress.epoch == stop:
            checkpoint.write(progress.state(), folder / "state.safetensors")
            break
    state = checkpoint.read(folder / "state.safetensors")
    rest = list(learner.train(data, seed=Seed(1), resume=state))
    assert [progress.epoch for progress in rest] == list(range(stop + 1, 5))
    assert (rest[-1].loss, rest[-1].accuracy) == (whole.loss, whole.accuracy)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest[-1].model.state_dict()[name]), name
