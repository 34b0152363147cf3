"""A learner is a way of training: settings that turn rows into a network, one epoch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, MithridateError
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
class Removal:
    """Rows that a defense took out of training for good, at one moment."""

    by: str
    """Name of the defense."""
    epoch: int
    """Epochs done before."""
    ids: Tensor
    """``(n,)`` int64, the most suspect first where the defense ranks them."""
    seconds: float = 0.0
    """Time the choice took."""


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
    """Training accuracy of the epoch, in [0, 1], measured while training (0 where a hook does the backward pass)."""
    removals: tuple[Removal, ...] = ()
    """What defenses have taken out so far, in order."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Numbers that defenses report, so far."""
    reused: float = 0.0
    """Seconds of work so far that were found done, instead of being done again; less those that are not charged."""
    earlier: tuple[tuple[float, float], ...] = ()
    """Loss and accuracy of each epoch before the first that was handed out: of a training found, or gone on with."""
    state: Callable[[], Checkpoint] | None = None
    """Where the training stands, for ``resume``; to be called before the next epoch is asked for. None: not known."""


class Hook:
    """A place in the training loop where a defense can act. Every method may be left as it is."""

    settings: Any = None
    """The settings that decide all it does; None where a training with it must not be remembered."""

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        """Rows to take out for good before the next epoch (``progress`` is None before the first), or None.

        ``data`` holds all rows, ``active`` ``(N,)`` bool says which are still trained on.
        """
        return None

    def batches(self, count: int, size: int, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Row numbers below ``count`` of each batch of an epoch, or None for a shuffle cut into parts of ``size``."""
        return None

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch to train on instead of ``batch``, after augmentation."""
        return batch

    def backward(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Fill the parameters' gradients and return the mean loss, or return None to let the loop do it."""
        return None

    def facts(self) -> Mapping[str, float]:
        """Numbers that describe the training so far, for the tables (``{"epsilon": 3.1}``)."""
        return {}

    def state(self) -> Checkpoint:
        """Everything that :meth:`restore` needs to go on as if nothing had happened."""
        return Checkpoint()

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state."""


class Learner(ABC):
    """A way of training. Kinds are frozen dataclasses in ``learners/``; a defense turns one into another."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network as it is initialised; weights that come from elsewhere are written into it by training."""

    def problems(self, space: Space) -> list[str]:
        """Why it cannot train on data of this space, found without training anything; empty where it can."""
        try:
            self.build(space, Seed(0))
        except MithridateError as error:
            return [str(error)]
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # what torch says to absurd sizes
            text = str(error).partition("\n")[0]
            return [f"this network cannot be built on this machine ({text})"]
        return []

    @abstractmethod
    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """A random draw of the training augmentation, ``(n, *shape)`` to the same shape; differentiable.

        Attackers call it while crafting, so that poison survives what the victim does to it.
        """

    @abstractmethod
    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train on ``data``, on its device; one item an epoch.

        From the start, or from the state of an earlier training on equal data, with equal seed and equal fresh hooks:
        then as if it had never stopped (bit for bit on a CPU).
        """

    def last_drop(self) -> int | None:
        """Epochs done when the learning rate falls for the last time; None where it falls smoothly or never."""
        return None

    def beginnings(self) -> tuple[str, ...]:
        """What decides the weights it starts from, beyond its settings (their data, a file); empty: its own."""
        return ()

    @property
    def remembered(self) -> bool:
        """Whether a network of its is all in tensors, so that a training can be kept in a file and found again."""
        return True

    @property
    def differentiable(self) -> bool:
        """Whether what its networks say has gradients in their inputs, which many attacks follow."""
        return True

    @property
    def seeded(self) -> bool:
        """Whether another seed makes another network of the same rows, where no hook draws anything."""
        return True

    def hook_problems(self, hooks: Sequence[Hook]) -> list[str]:
        """Why it cannot train with these hooks, found without training anything; empty where it can."""
        return []

    def fit_many(self, datasets: Sequence[Dataset], seeds: Sequence[Seed], *, watch: Watch = silent) -> list[Progress]:
        """Train to the end on each of several data sets: what :meth:`fit` gives of each, bit for bit on a CPU.

        Learners of small networks train them together, which is faster; this one after another. ``earlier`` tells of
        all epochs but the last; ``watch`` hears of every epoch.
        """
        return [_fitted(self, data, seed, watch) for data, seed in zip(datasets, seeds, strict=True)]

    @final
    def fit(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Progress:
        """Train to the end; the last item of :meth:`train`, its model in evaluation mode."""
        last: Progress | None = None
        for progress in self.train(data, seed=seed, hooks=hooks, resume=resume):
            last = progress
        if last is None:
            raise ConfigError(f"{self} trains for no epoch; set epochs to at least 1")
        last.model.eval()
        return last


@dataclass(frozen=True, kw_only=True)
class Around(Learner):
    """A learner around another one, which it resembles in all but training. What defenses make of a learner."""

    learner: Learner
    """The learner inside."""

    @final
    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """The augmentation of the learner inside."""
        return self.learner.augment(inputs, space=space, generator=generator)

    @final
    def last_drop(self) -> int | None:
        """That of the learner inside."""
        return self.learner.last_drop()

    @final
    def beginnings(self) -> tuple[str, ...]:
        """Those of the learner inside."""
        return self.learner.beginnings()

    @final
    @property
    def remembered(self) -> bool:
        """As the learner inside."""
        return self.learner.remembered

    @final
    @property
    def differentiable(self) -> bool:
        """As the learner inside."""
        return self.learner.differentiable

    @final
    @property
    def seeded(self) -> bool:
        """As the learner inside."""
        return self.learner.seeded

    @final
    def hook_problems(self, hooks: Sequence[Hook]) -> list[str]:
        """Those of the learner inside."""
        return self.learner.hook_problems(hooks)


def _fitted(learner: Learner, data: Dataset, seed: Seed, watch: Watch) -> Progress:
    """A training to the end, with its whole curve."""
    points: list[tuple[float, float]] = []
    last: Progress | None = None
    for last in learner.train(data, seed=seed):
        points.append((last.loss, last.accuracy))
        watch(Step("training", last.epoch, last.epochs, {"loss": last.loss, "accuracy": last.accuracy}))
    assert last is not None, "a training has at least one epoch"
    last.model.eval()
    return replace(last, earlier=(*last.earlier, *points)[:-1])


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


def removals_state(removals: Sequence[Removal]) -> Checkpoint:
    """Removals as a checkpoint."""
    return Checkpoint(
        tensors={f"{k:06d}": each.ids for k, each in enumerate(removals)},
        facts={f"{k:06d}": [each.by, each.epoch, each.seconds] for k, each in enumerate(removals)},
    )


def removals_of(state: Checkpoint) -> tuple[Removal, ...]:
    """The removals in such a checkpoint."""
    return tuple(
        Removal(by=str(by), epoch=int(epoch), ids=state.tensors[key], seconds=float(seconds))
        for key, (by, epoch, seconds) in sorted(state.facts.items())
    )
