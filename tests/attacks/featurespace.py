"""Small problems in feature space that the tests of feature-space attacks share."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from mithridate.dataset import Dataset, Space
from mithridate.feature_attack import trained_networks
from mithridate.goal import Aims, Misclassify
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import wrap
from mithridate.ops.layers import recording
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.threat import Linf, ThreatModel, Unbounded

DATA, TEST = toy(60, seed=1), toy(30, seed=2)
NET = SGD(model=MLP(hidden=(12, 16)), epochs=4, batch_size=16, lr=0.05, schedule="one-cycle", augmentation=None)
CONV = replace(NET, model=SmallConvNet(widths=(6, 8)))
THREAT = ThreatModel(goal=Misclassify(target=0, intended=1), budget=0.05, perturbation=Linf(radius=32 / 255))
ANYTHING = replace(THREAT, perturbation=Unbounded())
BOTH = ("last-but-one", "penultimate")


def network(learner: SGD = NET, *, seed: int = 0) -> Classifier:
    """A surrogate trained on the toy data, each time a fresh copy."""
    return deepcopy(_trained(learner, seed))


@cache
def _trained(learner: SGD, seed: int) -> Classifier:
    (found,) = trained_networks([learner], DATA, seed=Seed(seed))
    return found


def rows(label: int = 1, count: int = 3, *, first: int = 0) -> Dataset:
    """Base rows: some of a class."""
    return DATA.at((DATA.labels == label).nonzero().flatten()[first : first + count])


def aims(*positions: int, wanted: int = 1) -> Aims:
    """The test rows at these positions as targets (labels are positions modulo 3)."""
    found = TEST.at(torch.tensor(positions or (0,)))
    return Aims(inputs=found.all_inputs(), labels=found.labels, wanted=torch.full_like(found.labels, wanted))


def crafted(attack, networks, *, base=None, at=None, threat=ANYTHING, seed=1, watch=None) -> Poison:
    """The raw poison of one trial."""
    more = {"watch": watch} if watch else {}
    (poison,) = attack.craft_together(
        [rows() if base is None else base], [at or aims()], threat=threat, networks=networks, seed=Seed(seed), **more
    )
    return poison


def shown(model: Classifier, inputs: Tensor, layer: str = "penultimate") -> Tensor:
    """What a layer shows of inputs, ``(N, *map)``, without dropout."""
    with recording(model.eval(), [layer]) as recorder, torch.no_grad():
        return recorder(inputs)[0]


def transparent(*layers: nn.Module) -> Classifier:
    """A network whose features are the pixels as given, or what ``layers`` make of them."""
    parts = OrderedDict(flat=nn.Flatten(), **{f"layer{k}": each for k, each in enumerate(layers)}, fc=nn.Linear(4, 2))
    return wrap(nn.Sequential(parts).eval(), "fc")


FLAT = Space(shape=(4,), num_classes=2)
"""A few numbers in [0, 1], a normalised pixel each."""


def points(*values: list[float]) -> Dataset:
    """Base rows of class 1 in a flat space."""
    inputs = torch.tensor(values)
    return Dataset.of(inputs, torch.ones(len(inputs)), space=replace(FLAT, shape=tuple(inputs.shape[1:])))


def at(*values: list[float]) -> Aims:
    """Targets of class 0 in a flat space."""
    inputs = torch.tensor(values)
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    return Aims(inputs=inputs, labels=labels, wanted=labels + 1)
