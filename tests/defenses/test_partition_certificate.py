"""The certificate of partition aggregation holds against every change of a toy set, tried one by one, and is tight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import pytest
import torch

from mithridate.dataset import Dataset, Space
from mithridate.defenses.partition_aggregation import PartitionAggregation
from mithridate.learner import Learner, Progress, predictions
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.linear import Linear
from mithridate.seeding import Seed

VALUES, CLASSES = 6, 2
SPACE = Space(shape=(1,), num_classes=CLASSES, bounds=(0.0, 5.0), levels=VALUES, mean=(2.5,), std=(1.7,))
EVERY_INPUT = SPACE.decode(torch.arange(VALUES, dtype=torch.uint8)[:, None])


class Centroids(Classifier):
    """Nearest class mean; classes without rows are far away."""

    def __init__(self, space, inputs=None, labels=None):
        super().__init__()
        centres = torch.zeros(space.num_classes)
        if inputs is not None:
            for label in range(space.num_classes):
                own = inputs[labels == label]
                centres[label] = own.mean() if len(own) else 100.0
        self.register_buffer("centres", centres)

    def features(self, inputs):
        return inputs.flatten(1)

    def head(self, features):
        return -(features - self.centres).abs()

    def head_parameters(self):
        return []


@dataclass(frozen=True, kw_only=True)
class NearestCentroid(Learner):
    name: ClassVar[str] = "nearest-centroid"

    def build(self, space, seed):
        return Centroids(space)

    def augment(self, inputs, *, space, generator):
        return inputs

    def train(self, data, *, seed, hooks=(), resume=None):
        yield Progress(epoch=1, epochs=1, model=Centroids(data.space, *data.take(slice(None))), loss=0.0, accuracy=1.0)


SOFTMAX = SGD(model=Linear(), epochs=1, batch_size=2, lr=0.5, schedule="constant", augmentation=None)


def rows(pairs, classes=CLASSES):
    """Rows of (value, label) pairs, in that order."""
    values = torch.tensor([value for value, _ in pairs], dtype=torch.uint8).reshape(-1, 1)
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    space = replace(SPACE, num_classes=classes)
    return Dataset(inputs=values, labels=labels, ids=torch.arange(len(pairs)), space=space)


def voted(case, pairs):
    """Classes and certificates of every input once the learner of a case was trained on the pairs."""
    defense = PartitionAggregation(partitions=case.partitions)
    model = defense.protect(case.learner).fit(rows(pairs, case.classes), seed=Seed(4)).model
    return predictions(model, EVERY_INPUT).argmax(1), model.certificate(EVERY_INPUT)


def edited(pairs, classes):
    """Every set one insertion, removal or changed label away."""
    found = set()
    for pair in product(range(VALUES), range(classes)):
        found.add(tuple(sorted((*pairs, pair))))
    for k, (value, label) in enumerate(pairs):
        rest = pairs[:k] + pairs[k + 1 :]
        found.add(rest)
        found |= {tuple(sorted((*rest, (value, other)))) for other in range(classes) if other != label}
    return found - {pairs}


def attacked(pairs, classes, most):
    """Every set that an attacker can make of ``pairs``, and the least number of edits it takes, up to ``most``."""
    costs = {pairs: 0}
    for cost in range(1, most + 1):
        for known in [each for each, paid in costs.items() if paid == cost - 1]:
            for made in edited(known, classes):
                costs.setdefault(made, cost)
    return costs


@dataclass(frozen=True, kw_only=True)
class Case:
    """A toy set, and what its inputs are certified for."""

    pairs: tuple[tuple[int, int], ...]
    partitions: int
    most: int
    """Edits tried."""
    radii: set[int]
    """The certificates that occur."""
    tight: set[int]
    """Those of them that one edit more breaks for some input."""
    learner: Learner = NearestCentroid()
    classes: int = 2


CASES = {
    "lower class wins": Case(
        pairs=((0, 0), (0, 0), (2, 0), (2, 1), (4, 0), (4, 0), (4, 1)), partitions=3, most=2, radii={0, 1}, tight={0, 1}
    ),
    "higher class wins": Case(
        pairs=((0, 0), (1, 1), (2, 1), (3, 0), (4, 1), (5, 1), (5, 1)), partitions=3, most=2, radii={0, 1}, tight={0, 1}
    ),
    "five partitions": Case(
        pairs=((0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1)), partitions=5, most=2, radii={1, 2}, tight={1}
    ),
    "three classes": Case(
        pairs=((0, 1), (1, 2), (1, 2), (2, 2), (3, 1), (5, 2)),
        partitions=3,
        most=2,
        radii={0, 1},
        tight={0, 1},
        classes=3,
    ),
    "trained by descent": Case(
        pairs=((1, 0), (2, 0), (2, 0), (3, 1), (5, 0)),
        partitions=3,
        most=1,
        radii={0, 1},
        tight={0},
        learner=SOFTMAX,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_no_attack_within_the_certificate_changes_a_class_and_one_just_beyond_does(name):
    """Exhaustive: every set of rows at most ``most`` insertions, removals and changed labels away is trained on."""
    case = CASES[name]
    classes, radii = voted(case, case.pairs)
    tight = set()
    for made, cost in attacked(case.pairs, case.classes, case.most).items():
        changed = voted(case, made)[0] != classes
        assert not bool((changed & (radii >= cost)).any()), f"{made} costs {cost}, certified were {radii.tolist()}"
        tight |= set(radii[changed & (radii == cost - 1)].tolist())
    assert set(radii.tolist()) == case.radii
    assert tight == case.tight


def test_a_changed_input_costs_two():
    """Exhaustive over single rows replaced by any other: a certificate of 2 holds, one of 1 need not."""
    broken = set()
    for case in (CASES["five partitions"], CASES["higher class wins"]):
        classes, radii = voted(case, case.pairs)
        for k, new in product(range(len(case.pairs)), product(range(VALUES), range(CLASSES))):
            made = tuple(sorted((*case.pairs[:k], *case.pairs[k + 1 :], new)))
            broken |= set(radii[voted(case, made)[0] != classes].tolist())
    assert broken == {0, 1}
