"""Trainings of a defense, and what sets two of them apart."""

from __future__ import annotations

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Defense, Truth
from mithridate.learner import Learner, Progress
from mithridate.seeding import Seed
from mithridate.testing.bench import Bench

SEED = Seed(1)
"""The seed of all trainings."""
TOLD = 6
"""Rows that oracles are told to be poison."""


def truth(data: Dataset, count: int = TOLD) -> Truth:
    """Some rows of the commonest class, said to be poison."""
    commonest = torch.bincount(data.labels).argmax()
    return Truth(poison_ids=data.ids[data.labels == commonest][:count].clone())


def protected(defense: Defense, bench: Bench) -> Learner:
    """The learner of the bench inside the defense, which is told the truth as a referee would."""
    return defense.told(truth(bench.data.train)).protect(bench.learner)


def differences(one: Progress, two: Progress) -> str:
    """The first thing that sets the ends of two trainings apart, as ``'body.1.weight' differs``; empty for none."""
    states = one.model.state_dict(), two.model.state_dict()
    if states[0].keys() != states[1].keys():
        return "the networks differ in their parts"
    for name, value in states[0].items():
        if not torch.equal(value, states[1][name]):
            return f"'{name}' differs"
    if _removals(one) != _removals(two):
        return "other rows are dropped"
    if repr(sorted(one.facts.items())) != repr(sorted(two.facts.items())):  # repr, because NaN is not NaN
        return f"facts are {dict(two.facts)} instead of {dict(one.facts)}"
    if repr((one.loss, one.accuracy)) != repr((two.loss, two.accuracy)):
        return "the training loss differs"
    return ""


def _removals(progress: Progress) -> list[tuple[str, int, list[int]]]:
    return [(each.by, each.epoch, each.ids.tolist()) for each in progress.removals]


def emptied(data: Dataset, gone: Tensor) -> list[int]:
    """The classes of ``data`` that have rows, and none left without the ids ``gone``."""
    left = data.labels[~torch.isin(data.ids, gone.to(data.device))]
    return sorted(set(data.labels.tolist()) - set(left.tolist()))
