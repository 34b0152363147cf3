"""Small data to scan, and quick probes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.learner import Hook, Learner, Progress
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.mlp import MLP
from mithridate.scan.reading import Material
from mithridate.seeding import Seed
from mithridate.testing import toy


@cache
def network() -> Classifier:
    """A network that has learnt the toy task on other rows."""
    learner = SGD(model=MLP(hidden=(32,)), epochs=10, batch_size=32, lr=0.1, schedule="one-cycle", augmentation=None)
    return learner.fit(toy(600, seed=9), seed=Seed(0)).model


def material(rows: int, *, wrong: int = 0, seed: int = 1) -> tuple[Material, Tensor]:
    """Toy images, some with wrong labels, and which."""
    data = toy(rows, seed=seed)
    odd = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:wrong]
    labels = data.labels.clone()
    labels[odd] = (labels[odd] + 1) % 3
    return Material(place="toy", data=replace(data, labels=labels), files=(), notes=()), odd


@dataclass(frozen=True, kw_only=True)
class Memory(Learner):
    """Learns by heart which rows it saw, and nothing else: rows are told apart by their first pixel."""

    name: ClassVar[str] = "memory"

    def build(self, space: Space, seed: Seed) -> Classifier:
        return Memorised(torch.empty(0))

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        return inputs

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        model = Memorised(data.all_inputs()[:, 0, 0, 0])
        yield Progress(epoch=1, epochs=1, model=model, loss=0.0, accuracy=0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Known(Memory):
    """Hands out one network, whatever the rows."""

    model: Classifier

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        yield Progress(epoch=1, epochs=1, model=self.model, loss=0.0, accuracy=0.0)


class Memorised(Classifier):
    """Says class 1 of rows that it saw, class 0 of others."""

    def __init__(self, seen: Tensor) -> None:
        super().__init__()
        self.register_buffer("seen", seen)

    def features(self, inputs: Tensor) -> Tensor:
        known = torch.isin(inputs[:, 0, 0, 0], self.get_buffer("seen"))
        return torch.stack([~known, known], dim=1).float()

    def head(self, features: Tensor) -> Tensor:
        return features

    def head_parameters(self) -> list[torch.nn.Parameter]:
        return []
