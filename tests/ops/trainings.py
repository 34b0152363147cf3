"""Small trainings of dense networks, and what they end in by the slow and obvious way: torch, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Beginning, Rows, train
from mithridate.ops.scores import LOSSES
from mithridate.ops.unroll import hypergradient
from mithridate.ops.upper import Direct, Hidden, Upper

CLASSES = [
    ("logistic", 2),
    ("softmax", 2),
    ("softmax", 4),
    ("squared", 2),
    ("squared", 3),
    ("smoothed-hinge", 2),
    ("smoothed-hinge", 3),
]
LEARNERS = [(*each, activation) for each in CLASSES for activation in ("", "tanh", "sigmoid")]
DESCENTS = {
    "plain": {},
    "plain with l2": {"l2": 0.1},
    "averaged momentum": {"momentum": 0.9, "dampening": 0.9, "lr": 0.5},
    "averaged momentum with l2": {"momentum": 0.9, "dampening": 0.9, "lr": 0.5, "l2": 0.1},
    "heavy ball": {"momentum": 0.8},
    "heavy ball with l2": {"momentum": 0.8, "l2": 0.1},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "nesterov with l2": {"momentum": 0.8, "nesterov": True, "l2": 0.1},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    rows: Rows
    validation: Rows
    upper: Upper
    descent: Descent
    start: Beginning
    chosen: slice

    def hypergradient(self, **options):
        named = {"upper": self.upper, "descent": self.descent, "start": self.start, "chosen": self.chosen, **options}
        return hypergradient(self.rows, self.validation, **named)


def descent(name, **changes):
    return Descent(**{"steps": 9, "lr": 0.1, **DESCENTS[name], **changes})


def random_rows(draws, count, dim, loss, classes):
    labels = torch.from_numpy(draws.integers(classes, size=count))
    inputs, weights = draws.normal(size=(count, dim)), draws.uniform(0.5, 1.5, size=count)
    return Rows(inputs=inputs, targets=loss.targets(labels, classes).numpy(), weights=weights)


def training(learner=("logistic", 2, ""), steps=None, *, rows=11, chosen=3, dim=5, seed=0):
    """A random training of ``rows`` rows, the last ``chosen`` of which may move."""
    name, classes, activation = learner
    draws, loss, hidden = np.random.default_rng(seed), LOSSES[name], 4
    columns = loss.columns(classes)
    shapes = [(hidden,), (hidden, columns), (columns,)] if activation else [(columns,)]
    return Training(
        rows=random_rows(draws, rows, dim, loss, classes),
        validation=random_rows(draws, 7, dim, loss, classes),
        upper=Hidden(loss, activation) if activation else Direct(loss),
        descent=steps or descent("plain"),
        start=Beginning(
            first=0.3 * draws.normal(size=(dim, hidden if activation else columns)),
            upper=tuple(0.3 * draws.normal(size=shape) for shape in shapes),
        ),
        chosen=slice(rows - chosen, None),
    )


def trained_slowly(of, inputs, targets, weights, *, graph=False):
    """First layer and what is above it after all steps, each step's gradient by autograd."""
    d, decays = of.descent, (True, *of.upper.decays)
    parts = [torch.from_numpy(each).clone().requires_grad_() for each in (of.start.first, *of.start.upper)]
    speeds = [torch.zeros_like(each) for each in parts]
    for _ in range(d.steps):
        losses = of.upper.loss.value(of.upper.scores(inputs @ parts[0], tuple(parts[1:])), targets)
        found = torch.autograd.grad((losses * weights).sum() / len(inputs), parts, create_graph=graph)
        found = [g + d.l2 * w if decayed else g for g, w, decayed in zip(found, parts, decays, strict=True)]
        speeds = [d.momentum * v + (1 - d.dampening) * g for v, g in zip(speeds, found, strict=True)]
        moves = [g + d.momentum * v for g, v in zip(found, speeds, strict=True)] if d.nesterov else speeds
        parts = [w - d.lr * v for w, v in zip(parts, moves, strict=True)]
        parts = parts if graph else [w.detach().requires_grad_() for w in parts]
    return parts


def loss_after(of, inputs, targets, weights, *, graph=False):
    """The validation loss after all steps on these rows (tensors)."""
    parts, seen = trained_slowly(of, inputs, targets, weights, graph=graph), of.validation
    scores = of.upper.scores(torch.from_numpy(seen.inputs) @ parts[0], tuple(parts[1:]))
    losses = of.upper.loss.value(scores, torch.from_numpy(seen.targets))
    return (losses * torch.from_numpy(seen.weights)).sum() / len(losses)


def leaves(of):
    """Inputs, targets and weights of the training rows."""
    weights = np.ones(len(of.rows)) if of.rows.weights is None else of.rows.weights
    return tuple(torch.from_numpy(each).clone() for each in (of.rows.inputs, of.rows.targets, weights))


def by_autograd(of):
    """The validation loss, and its derivatives by inputs of chosen rows, targets and weights: one graph for it all."""
    found = tuple(each.requires_grad_() for each in leaves(of))
    value = loss_after(of, *found, graph=True)
    inputs, targets, weights = (each.numpy() for each in torch.autograd.grad(value, found))
    return float(value.detach()), inputs[of.chosen], targets, weights


def by_difference(of, which, direction, step):
    """The derivative along ``direction`` of ``inputs``, ``targets`` or ``weights``, by training twice."""
    ends = []
    for sign in (1, -1):
        moved = replace(of.rows, **{which: getattr(of.rows, which) + sign * step * direction})
        found, seen = train(moved, of.upper, of.descent, of.start, form="plain"), of.validation
        scores = of.upper.scores(torch.from_numpy(seen.inputs @ found.first), tuple(map(torch.from_numpy, found.upper)))
        losses = of.upper.loss.value(scores, torch.from_numpy(seen.targets))
        ends.append(float(losses @ torch.from_numpy(seen.shares()[:, 0])))
    return (ends[0] - ends[1]) / (2 * step)


def unit(draws, shape):
    direction = draws.normal(size=shape)
    return direction / np.linalg.norm(direction)


def relative(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def cosine(one, other):
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
