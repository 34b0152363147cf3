"""A small task for attacks that degrade, and trainings that are solved by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.nn import functional

from mithridate.attack import craft
from mithridate.bilevel import Bilevel, Steering, Unrollable
from mithridate.flipping import begun, poison_of
from mithridate.goal import Degrade
from mithridate.learner import predictions
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel, Unbounded
from tests.learners.blobs import aims_of, blobs

DATA = blobs(30, spread=1.2, dim=3)
FRESH = blobs(80, seed=2, spread=1.2, dim=3, first_id=1000)
LEARNER = GradientDescent(steps=60, lr=0.3)
THREAT = ThreatModel(goal=Degrade(), budget=0.2, perturbation=Unbounded(), labels="dirty", rows="append")


def crafted(attack, *, data=DATA, threat=THREAT, aims=None, learner=LEARNER, seed=1):
    """The poison, checked as the referee does."""
    return craft(attack, data, threat=threat, aims=aims or aims_of(FRESH), surrogates=(learner,), seed=Seed(seed))


def begins_as(attack, *, data=DATA, threat=THREAT, aims=None, learner=LEARNER, seed=1):
    """The poison as it is before it is moved."""
    rows = begun(data, threat, aims=aims or aims_of(FRESH), start=attack.start, learner=learner, seed=Seed(seed))
    return poison_of(rows.inputs, rows.labels, rows, data, trace={})


def harm(poison, *, data=DATA, aims=None, learner=LEARNER, seed=1):
    """Cross-entropy of validation rows after training with the poison, or minus that of what is wanted of them."""
    aims = aims or aims_of(FRESH)
    logits = predictions(learner.fit(poison.apply(data), seed=Seed(seed)).model, aims.inputs)
    if aims.wanted is None:
        return float(functional.cross_entropy(logits, aims.labels))
    return -float(functional.cross_entropy(logits, aims.wanted))


def error(poison, *, data=DATA, test=FRESH, learner=LEARNER):
    """Share of test rows that a victim calls wrong."""
    logits = predictions(learner.fit(poison.apply(data), seed=Seed(9)).model, test.all_inputs())
    return float((logits.argmax(1) != test.labels).double().mean())


@dataclass(frozen=True, kw_only=True)
class Solved(Unrollable):
    """No training at all: a loss that is a function of the poison, with its slopes; and a diary of what was asked."""

    name: ClassVar[str] = "solved"

    value: object
    """From inputs and labels, differentiable by torch."""
    by_labels: object = None
    asked: list

    def build(self, space, seed):
        return LEARNER.build(space, seed)

    def augment(self, inputs, *, space, generator):
        return inputs

    def train(self, data, *, seed, hooks=(), resume=None):
        yield from LEARNER.train(data, seed=seed)

    def bilevel(self, clean, aims, *, seed):
        return _Solved(self, clean, seed)


class _Solved(Bilevel):
    def __init__(self, learner, clean, seed):
        self.learner, self.clean, self.seed = learner, clean, seed

    def value(self, inputs, labels):
        self.learner.asked.append(("value", inputs.clone(), labels.clone(), self.clean, self.seed))
        return float(self.learner.value(inputs, labels))

    def steering(self, inputs, labels, *, method="stored", last=None, by_labels=False):
        self.learner.asked.append(("steering", inputs.clone(), labels.clone(), self.clean, self.seed))
        leaf = inputs.clone().requires_grad_(True)
        value = self.learner.value(leaf, labels)
        classes = self.clean.space.num_classes
        slopes = torch.zeros(len(labels), classes, dtype=torch.float64)
        return Steering(
            value=float(value.detach()),
            inputs=torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(inputs),
            labels=self.learner.by_labels(inputs) if by_labels else slopes,
        )


def solved(value, by_labels=None):
    """A learner with this loss, and the diary of what it was asked."""
    asked = []
    return Solved(value=value, by_labels=by_labels, asked=asked), asked


def wider(data, **columns):
    """The same rows in a wider space, so that nothing is cut off."""
    return replace(data, space=replace(data.space, bounds=(-1000.0, 1000.0), **columns))
