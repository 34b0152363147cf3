"""A learner is a way of training: settings that turn rows into a network, one epoch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some rows on their way into a training step."""

    inputs: Tensor
    """``(n, *shape)`` float in natural units."""
    labels: Tensor
    """``(n,)`` int64, or ``(n, num_classes)`` probabilities once a hook has mixed them."""
    ids: Tensor
    """``(n,)`` int64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """Where a training stands after an epoch."""

    epoch: int
    """Epochs done, from 1."""
    epochs: int
    """Epochs in all."""
    model: Classifier
    """The network as it stands; it goes on changing unless this is the last epoch."""
    loss: float
    """Mean training loss of the epoch."""
    accuracy: float
    """Training accuracy of the epoch, in [0, 1], measured while training."""


class Hook:
    """A place in the training loop where a defense can act. Every method may be left as it is."""

    def keep(self, data: Dataset, progress: Progress | None) -> Tensor | None:
        """Ids ``(n,)`` to go on training with after an epoch (``progress`` is None before the first); None: all."""
        return None

    def transform(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch to train on instead of ``batch``, after augmentation."""
        return batch

    def backward(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Fill the parameters' gradients and return the loss, or return None to let the loop do it."""
        return None


class Learner(ABC):
    """A way of training. Kinds are frozen dataclasses in ``learners/``; a defense turns one into another."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network before training."""

    @abstractmethod
    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """A random draw of the training augmentation, ``(n, *shape)`` to the same shape; differentiable.

        Attackers call it while crafting, so that poison survives what the victim does to it.
        """

    @abstractmethod
    def train(self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = ()) -> Iterator[Progress]:
        """Train from the start on ``data``, on its device; one item an epoch."""

    @final
    def fit(self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = ()) -> Progress:
        """Train to the end; the last item of :meth:`train`, its model in evaluation mode."""
        last: Progress | None = None
        for progress in self.train(data, seed=seed, hooks=hooks):
            last = progress
        if last is None:
            raise ConfigError(f"{self} trains for no epoch; set epochs to at least 1")
        last.model.eval()
        return last


def trained(
    learner: Learner,
    data: Dataset,
    *,
    seed: Seed,
    until: int | None = None,
    stage: str = "training",
    watch: Watch = silent,
) -> Progress:
    """Train to the end, or to the end of epoch ``until`` if that comes first, reporting every epoch to ``watch``."""
    last: Progress | None = None
    for last in learner.train(data, seed=seed):
        watch(Step(stage, last.epoch, last.epochs, {"loss": last.loss, "accuracy": last.accuracy}))
        if last.epoch == until:
            break
    if last is None:
        raise ConfigError(f"{learner} trains for no epoch; set epochs to at least 1")
    last.model.eval()
    return last


def predictions(model: Classifier, inputs: Tensor, *, batch_size: int = 512) -> Tensor:
    """Logits ``(N, num_classes)`` in evaluation mode, without gradients, in batches; the mode is restored."""
    training = model.training
    model.eval()
    with torch.no_grad():
        parts = [model(part) for part in torch.split(inputs, batch_size)]
    model.train(training)
    return torch.cat(parts)
