"""Small tables and quick learners, for the tests of defenses that look at rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from mithridate.dataset import Dataset, Space
from mithridate.defense import Sanitiser, Verdict
from mithridate.learner import Learner, Progress
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.linear import Linear
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.testing.bench import Bench, toy_bench

LEARNER = SGD(model=Linear(), epochs=6, batch_size=16, lr=0.1, momentum=0.0, schedule="constant", augmentation=None)
"""Softmax regression, learnt in a few steps."""


@dataclass(frozen=True, kw_only=True)
class Means(Learner):
    """Calls a row by the nearest mean of a class: no seed matters, so that results can be worked out by hand."""

    name: ClassVar[str] = "means"

    trained: list[list[int]] = field(default_factory=list, compare=False)
    """Ids of the rows of each training so far."""

    def build(self, space, seed):
        return Nearest(torch.full((space.num_classes, *space.shape), torch.inf))

    def augment(self, inputs, *, space, generator):
        return inputs

    def train(self, data, *, seed, hooks=(), resume=None):
        self.trained.append(data.ids.tolist())
        model = self.build(data.space, seed)
        for label in set(data.labels.tolist()):
            model.means[label] = data.all_inputs()[data.labels == label].mean(0)
        yield Progress(epoch=1, epochs=1, model=model, loss=0.0, accuracy=0.0, reused=0.25)


class Nearest(Classifier):
    """Logits are minus the squared distances to the means; a class without any is never called."""

    def __init__(self, means):
        super().__init__()
        self.register_buffer("means", means)

    def features(self, inputs):
        return inputs

    def head(self, features):
        return -(features[:, None] - self.means).square().sum(2)

    def head_parameters(self) -> list[nn.Parameter]:
        return []


def table(inputs, labels, *, ids=None, classes=None, mean=(), std=()) -> Dataset:
    """Rows of numbers; one column where ``inputs`` are single numbers."""
    inputs, labels = torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(labels)
    inputs = inputs[:, None] if inputs.ndim == 1 else inputs
    space = Space(
        shape=tuple(inputs.shape[1:]),
        num_classes=classes or max(int(labels.max()) + 1, 2),
        bounds=(-1e6, 1e6),
        mean=mean,
        std=std,
    )
    ids = torch.arange(len(labels)) if ids is None else torch.as_tensor(ids)
    return Dataset(inputs=inputs, labels=labels, ids=ids, space=space)


def blobs(rows: int, *, seed: int, classes: int = 2, columns: int = 4, apart: float = 3.0) -> Dataset:
    """A round cloud a class, ``apart`` times its width from the middle, each along a column of its own."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    inputs = torch.randn(rows, columns, generator=draws)
    inputs[torch.arange(rows), labels] += apart
    return table(inputs, labels, classes=classes)


def flipped(data: Dataset, count: int, *, seed: int = 0) -> tuple[Dataset, Tensor]:
    """Rows of which ``count`` random ones bear the next label, and the ids of these."""
    place = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    labels = data.labels.clone()
    labels[place] = (labels[place] + 1) % data.space.num_classes
    return replace(data, labels=labels), data.ids[place]


def sifted(defense: Sanitiser, data: Dataset, *, learner=LEARNER, seed: int = 0) -> Verdict:
    """What the defense says of rows, which it is given sorted by id."""
    return defense.sift(learner, data.at(data.ids.argsort()), seed=Seed(seed))


def gone(defense: Sanitiser, data: Dataset, **more) -> list[int]:
    """Ids that it flags, sorted."""
    return data.ids.sort().values[sifted(defense, data, **more).flagged].tolist()


def table_bench() -> Bench:
    """A table of three classes, as promises of defenses are checked on."""
    return replace(
        toy_bench(),
        data=Split(train=blobs(132, seed=1, classes=3), test=blobs(90, seed=2, classes=3)),
        learner=LEARNER,
    )
