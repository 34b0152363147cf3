"""Differentially private SGD: no row moves the network far, and what it moves is hidden in noise.

"Deep Learning with Differential Privacy", M. Abadi et al., CCS 2016, https://arxiv.org/abs/1607.00133, algorithm 1.
As a defense against poisoning: "On the Effectiveness of Mitigating Data Poisoning Attacks with Gradient Shaping",
S. Hong et al. 2020, https://arxiv.org/abs/2002.11497, and "Strong Data Augmentation Sanitizes Poisoning and Backdoor
Attacks Without an Accuracy Tradeoff", E. Borgnia et al., ICASSP 2021, https://arxiv.org/abs/2011.09527.

Each step takes every row with probability ``q = batch_size / N`` (Poisson sampling), takes the gradient of each of them
alone, scales it down to ``max_grad_norm``, adds up, adds normal noise of standard deviation ``noise_multiplier *
max_grad_norm`` and divides by the expected number of rows. The learner's own optimiser does the rest, momentum, weight
decay and learning rate included, since what is done to a noisy gradient costs no privacy. The privacy spent so far is
reported as ``epsilon`` at ``delta``, for one row added or removed.

Differences from the paper:

1. The accountant is Opacus' (Renyi, a tighter form of the paper's moments, or PRV): the extra ``dp``. Gradients of
   single rows are torch.func's. Opacus' own module agrees with it (see the tests), but attaches itself to the network,
   and fails where layers work in place or are called by name, as in residual additions and attention.
2. The noise comes from the seed of the training, so that a training can be repeated. The guarantee therefore holds only
   for those who do not know the seed, and not against attacks on the rounding of float32.
3. A row whose gradient is not finite counts as zero.
4. An epoch is ``N // batch_size`` steps; gradients are taken in float32, whatever precision the learner trains in.

What is accounted for is this one training. Rows removed by another defense while it runs void the account, which then
says infinity. Not in it are filters that have looked at all rows before, the statistics that inputs are normalised
with, and the choice of settings.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense
from mithridate.errors import ConfigError, MissingExtraError, ModelError
from mithridate.facts import Fact
from mithridate.learner import Around, Batch, Hook, Learner, Progress
from mithridate.model import Architecture, Classifier
from mithridate.ops.group_norm import GroupNormed, mixing_parts
from mithridate.ops.row_gradients import clipped_sum
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class DPSGD(Defense):
    """Clip the gradient of every row and add noise; reports the privacy spent as ``epsilon`` and ``delta``."""

    name: ClassVar[str] = "dp-sgd"
    assumes: ClassVar[tuple[Fact, ...]] = ()

    noise_multiplier: float | None = None
    """Standard deviation of the noise, in units of ``max_grad_norm``; none for 1, or for what ``target_epsilon`` asks.
    0 clips only, and guarantees nothing. Paper: 2, 4 or 8 on MNIST, 6 on CIFAR-10."""
    max_grad_norm: float = 1.0
    """Length to which the gradient of a row is cut, over all parameters together. Paper: 4 on MNIST, 3 on CIFAR-10."""
    target_epsilon: float | None = None
    """The privacy that the whole training may spend, from which the noise follows; none where the noise is given."""
    delta: float = 1e-5
    """How likely the guarantee may fail; below one over the number of rows. Paper: 1e-5."""
    accountant: Literal["rdp", "prv"] = "rdp"
    """Who adds up the privacy: ``rdp`` (Renyi divergences, nearest to the paper's) or ``prv`` (tighter, slower)."""
    replace_batch_norm: bool = False
    """Train with group normalisation where the network has batch normalisation, which is refused otherwise: through
    the statistics of a batch, rows meet without being clipped."""
    chunk: int = 32
    """Rows whose gradients are held in memory at once, each as large as the network. Changes nothing else."""

    def __post_init__(self) -> None:
        """Refuse settings under which nothing is bounded."""
        if self.noise_multiplier is not None and self.target_epsilon is not None:
            raise ConfigError(
                "noise_multiplier and target_epsilon both decide the noise; give one, and leave the other none"
            )
        if self.noise_multiplier is not None and not 0 <= self.noise_multiplier < math.inf:
            raise ConfigError(f"noise_multiplier must be at least 0, but it is {self.noise_multiplier:g}")
        for what in ("max_grad_norm", "target_epsilon"):
            value = getattr(self, what)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{what} must be positive, but it is {value:g}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta must lie between 0 and 1, but it is {self.delta:g}")
        if self.chunk < 1:
            raise ConfigError(f"chunk must be at least 1, but it is {self.chunk}")

    def protect(self, learner: Learner) -> Learner:
        """Train as ``learner`` does, privately. Raises :class:`MissingExtraError` where there is no Opacus."""
        _opacus("accountants")
        if isinstance(learner, Private):
            if learner.defense != self:
                raise ConfigError("dp-sgd stands twice in the stack, with different settings; leave one out")
            return learner
        return Private(learner=group_normed(learner) if self.replace_batch_norm else learner, defense=self)


@dataclass(frozen=True, kw_only=True)
class Private(Around):
    """Trains with clipped and noisy gradients on randomly chosen rows."""

    name: ClassVar[str] = "private"

    defense: DPSGD
    """How much of each."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside. Raises :class:`ModelError` for batch normalisation."""
        model = self.learner.build(space, seed)
        refuse_batch_norm(model)
        return model

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train with a fresh hook, before the hooks given."""
        epochs = epochs_of(self.learner) if self.defense.target_epsilon is not None else 0
        hook = PrivateSteps(self.defense, epochs=epochs)
        yield from self.learner.train(data, seed=seed, hooks=(hook, *hooks), resume=resume)


class PrivateSteps(Hook):
    """Chooses the rows of each step by chance, clips, adds noise, and keeps the account."""

    def __init__(self, defense: DPSGD, *, epochs: int) -> None:
        """Begin an account. ``epochs`` are those of the whole training, wanted where an epsilon is aimed at."""
        self.settings = defense
        self._defense, self._epochs = defense, epochs
        self._accountant = _opacus("accountants").create_accountant(mechanism=defense.accountant)
        self._noise: float | None = 1.0 if defense.noise_multiplier is None else defense.noise_multiplier
        if defense.target_epsilon is not None:
            self._noise = None  # known with the number of rows
        self._rows = 0
        self._whole = True
        self._rate = 0.0
        self._due: list[int] = []

    def batches(self, count: int, size: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Row numbers of ``count // size`` batches, each row in each with probability ``size / count``."""
        steps, self._rate = max(count // size, 1), min(size / count, 1.0)
        self._whole &= self._rows in (0, count)
        self._rows = count
        if self._noise is None:
            self._noise = self._sought(steps * self._epochs)
        draws = torch.rand(steps, count, generator=generator, device=generator.device)
        chosen = [(each < self._rate).nonzero().flatten() for each in draws]
        self._due = [len(each) for each in chosen]
        return chosen

    def backward(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Tensor:
        """Fill the gradients with the noisy mean of the clipped ones; the mean loss ``()``, 0 without rows."""
        self._check(model, batch)
        assert self._noise is not None  # the batches were chosen
        bound, expected = self._defense.max_grad_norm, self._rate * self._rows
        totals, loss = clipped_sum(model, batch.inputs, batch.labels, bound=bound, chunk=self._defense.chunk)
        for name, each in model.named_parameters():
            if name in totals:
                noise = torch.randn(each.shape, generator=generator, device=each.device, dtype=each.dtype)
                each.grad = (totals[name] + self._noise * bound * noise) / expected
        self._accountant.step(noise_multiplier=self._noise, sample_rate=self._rate)
        return loss / max(len(batch.inputs), 1)

    def facts(self) -> Mapping[str, float]:
        """``epsilon`` spent so far (infinite where nothing is guaranteed), at ``delta``.

        Raises :class:`ConfigError` where another defense took the steps instead.
        """
        if self._due or not self._accountant.history:
            raise ConfigError(
                "dp-sgd chose rows but did not get to take the steps, as another defense computes the gradients (or "
                "chooses the batches) before it; put dp-sgd first in the stack and leave the other out"
            )
        return {"epsilon": self._epsilon(), "delta": self._defense.delta}

    def state(self) -> Checkpoint:
        """The account."""
        history = [list(each) for each in self._accountant.history]
        return Checkpoint(
            facts={"history": history, "noise": self._noise, "rows": self._rows, "whole": self._whole},
        )

    def restore(self, state: Checkpoint) -> None:
        """Go on with the account."""
        self._accountant.history = [tuple(each) for each in state.facts["history"]]
        self._noise, self._rows, self._whole = (state.facts[name] for name in ("noise", "rows", "whole"))

    def _sought(self, steps: int) -> float:
        """The noise with which ``steps`` steps spend what is aimed at."""
        target = self._defense.target_epsilon
        try:
            with _quiet():
                found = _opacus("accountants.utils").get_noise_multiplier(
                    target_epsilon=target,
                    target_delta=self._defense.delta,
                    sample_rate=self._rate,
                    steps=steps,
                    accountant=self._defense.accountant,
                )
        except ValueError as error:
            raise ConfigError(f"no noise keeps {steps} steps below an epsilon of {target:g}; allow more") from error
        return float(found)

    def _epsilon(self) -> float:
        if not self._whole or not self._noise:
            return math.inf
        with _quiet():
            return float(self._accountant.get_epsilon(delta=self._defense.delta))

    def _check(self, model: Classifier, batch: Batch) -> None:
        """Refuse what would break the bound on a row's influence, or the account."""
        refuse_batch_norm(model)
        if batch.labels.ndim != 1:
            raise ConfigError(
                "dp-sgd bounds the influence of one row, but another defense mixes rows (their labels are no single "
                "classes); leave mixing out of the stack"
            )
        if not self._due or self._due.pop(0) != len(batch.inputs):
            raise ConfigError(
                "dp-sgd must choose the rows of every step itself, but another defense changed them; leave it out of "
                "the stack"
            )


def refuse_batch_norm(model: Classifier) -> None:
    """Raise :class:`ModelError` where rows of a batch meet inside ``model``."""
    parts = mixing_parts(model)
    if parts:
        raise ModelError(
            f"dp-sgd cannot train a network with batch normalisation, through which rows meet unclipped, but "
            f"{type(model).__name__} has it in {len(parts)} places ('{parts[0]}'); set replace_batch_norm to true for "
            "group normalisation instead, or take a network without it"
        )


def group_normed(learner: Learner) -> Learner:
    """``learner`` with group instead of batch normalisation in its architecture, however deep it lies.

    Raises :class:`ConfigError` where no setting of the learner is an architecture.
    """
    changes: dict[str, Any] = {}
    for name, value in _settings(learner).items():
        if isinstance(value, Architecture):
            changes[name] = GroupNormed(model=value)
        elif isinstance(value, Learner):
            changes[name] = group_normed(value)
    if not changes:
        raise ConfigError(
            f"replace_batch_norm cannot reach the network of '{learner.name}', which has no architecture among its "
            "settings; build it without batch normalisation"
        )
    changed: Learner = replace(cast("Any", learner), **changes)
    return changed


def epochs_of(learner: Learner) -> int:
    """Epochs that a learner trains for, its own or those of the learner inside. Raises :class:`ConfigError`."""
    while isinstance(learner, Around):
        learner = learner.learner
    epochs = _settings(learner).get("epochs")
    if not isinstance(epochs, int):
        raise ConfigError(
            f"target_epsilon needs to know how many epochs are trained, but '{learner.name}' has no setting 'epochs'; "
            "give noise_multiplier instead"
        )
    return epochs


def _settings(learner: Learner) -> dict[str, Any]:
    return {each.name: getattr(learner, each.name) for each in fields(learner)} if is_dataclass(learner) else {}


def _opacus(part: str) -> Any:
    try:
        return importlib.import_module(f"opacus.{part}")
    except ImportError:
        raise MissingExtraError("DP-SGD (its privacy accountant)", "dp") from None


def _quiet() -> warnings.catch_warnings:
    """Without the accountant's advice to try more orders: the bound it finds holds all the same."""
    return warnings.catch_warnings(action="ignore")
