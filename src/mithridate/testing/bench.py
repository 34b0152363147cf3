"""The toy task on which promises are checked: data, a threat model, and the learner of attacker and victim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.attack import Attack, craft
from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims, Goal, GoalSpec, Misclassify
from mithridate.learner import Learner
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.notes import Notes, no_notes
from mithridate.poison import Poison, Trigger
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.threat import Linf, ThreatModel
from mithridate.watch import Watch, silent


def toy(rows: int, *, seed: int, side: int = 8) -> Dataset:
    """Noisy 8-bit grey images in three classes: rows, columns or a chequered pattern of faint lines.

    A perceptron learns them in a tenth of a second, a convolution also where they are shifted and mirrored.
    """
    draws = torch.Generator().manual_seed(seed)
    lines = (torch.arange(side) % 2)[:, None].expand(side, side)
    patterns = torch.stack([lines, lines.T, lines ^ lines.T])
    labels = torch.arange(rows) % len(patterns)
    images = torch.rand(rows, 1, side, side, generator=draws) * 0.6 + 0.2 * patterns[labels][:, None]
    space = Space(shape=(1, side, side), num_classes=3, levels=256, mean=(0.4,), std=(0.2,))
    return Dataset.of(space.encode(images), labels, space=space)


@dataclass(frozen=True, kw_only=True)
class CornerMark(Trigger):
    """A white pixel in the first corner: the trigger of the toy backdoor."""

    name: ClassVar[str] = "corner-mark"

    def apply(self, inputs: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` with the mark."""
        marked = inputs.clone()
        marked[:, :, 0, 0] = 1.0
        return marked


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What promises are checked on: data, a threat model, and the learner of attacker and victim."""

    data: Split
    threat: ThreatModel
    learner: Learner

    def goal(self, seed: int = 3, spec: GoalSpec | None = None) -> Goal:
        """The goal drawn from ``seed``."""
        return (spec or self.threat.goal).draw(self.data.train, self.data.test, Seed(seed))

    def craft(
        self,
        attack: Attack,
        *,
        aims: Aims | None = None,
        threat: ThreatModel | None = None,
        seed: int = 5,
        watch: Watch = silent,
        notes: Notes = no_notes,
    ) -> Poison:
        """The poison of ``attack``, checked against the threat model."""
        return craft(
            attack,
            self.data.train,
            threat=threat or self.threat,
            aims=aims or self.goal().known,
            surrogates=(self.learner,),
            seed=Seed(seed),
            watch=watch,
            notes=notes,
        )


def toy_bench(goal: GoalSpec | None = None, *, rows: str = "replace", labels: str = "clean") -> Bench:
    """The toy task: 120 images in 3 classes, a tenth of them poison, a radius of 32/255, a small perceptron."""
    data = Split(train=toy(120, seed=1), test=toy(60, seed=2))
    learner = SGD(model=MLP(hidden=(16,)), epochs=8, batch_size=16, lr=0.05, schedule="one-cycle", augmentation=None)
    threat = ThreatModel(
        goal=goal or Misclassify(target=0, intended=1),
        budget=0.1,
        perturbation=Linf(radius=32 / 255),
        rows="append" if rows == "append" else "replace",
        labels="dirty" if labels == "dirty" else "clean",
    )
    return Bench(data=data, threat=threat, learner=learner)


def defense_bench() -> Bench:
    """The toy task for defenses: 132 images; the learner augments, so that resuming has draws to repeat."""
    learner = SGD(
        model=MLP(hidden=(16,)),
        epochs=6,
        batch_size=32,
        lr=0.05,
        schedule="one-cycle",
        augmentation=Augmentation(shift=0, flip=False, mode="integer", cutout=0.2),
    )
    return replace(toy_bench(), data=Split(train=toy(132, seed=1), test=toy(90, seed=2)), learner=learner)
