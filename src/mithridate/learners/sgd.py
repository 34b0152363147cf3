"""Stochastic gradient descent: the training loop, on one page.

Recipes (see ``recipes.py``): ``paper-40``, the victim of Witches' Brew (Geiping et al. 2021, https://arxiv.org/abs/2009.02276),
``benchmark-200``, the victim of Just How Toxic is Data Poisoning (Schwarzschild et al. 2021,
https://arxiv.org/abs/2006.12557), and ``cpu-fast``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.checkpoint import Checkpoint, generator_state
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError, FormatError
from mithridate.learner import Batch, Hook, Learner, Progress, Removal, removals_of, removals_state
from mithridate.learners.augment import Augmentation, augmented
from mithridate.learners.precision import Precision, autocast
from mithridate.learners.schedule import Schedule, factor
from mithridate.model import Architecture, Classifier
from mithridate.seeding import Seed

_COUNTS = ("epoch", "epochs", "loss", "accuracy")


@dataclass(frozen=True, kw_only=True)
class SGD(Learner):
    """Train a network from scratch by SGD with momentum."""

    name: ClassVar[str] = "sgd"

    model: Architecture
    """The network."""
    epochs: int = 40
    """Passes over the training rows. Paper: 40; benchmark: 200."""
    batch_size: int = 128
    """Rows in a step. Papers: 128."""
    lr: float = 0.1
    """Learning rate. Paper: 0.1, or 0.01 for ConvNet, VGG and MobileNet; benchmark: 0.1."""
    momentum: float = 0.9
    """Momentum. Papers: 0.9."""
    nesterov: bool = True
    """Nesterov's form of momentum. Paper: yes; benchmark: no."""
    weight_decay: float = 5e-4
    """L2 penalty on all parameters. Paper: 5e-4; benchmark: 2e-4."""
    schedule: Schedule = "steps"
    """How the learning rate falls: ``steps``, ``cosine``, ``one-cycle`` or ``constant``."""
    drops: tuple[int, ...] = (14, 24, 35)
    """Epochs after which ``steps`` divides the rate by ten. Paper: 14, 24, 35; benchmark: 100, 150."""
    augmentation: Augmentation | None = Augmentation()
    """What happens to images before every step; none for tables or to switch it off."""
    precision: Precision = "float32"
    """``float32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware has it."""
    channels_last: bool = False
    """Keep images and weights channels-last in memory (1.3 times faster convolutions on CPUs)."""
    compile: bool = False
    """Compile the network with ``torch.compile`` (pays on CUDA; on CPU it gains nothing)."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for what in ("epochs", "batch_size"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        if not self.lr > 0:
            raise ConfigError(f"lr must be positive, but it is {self.lr:g}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), but it is {self.momentum:g}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay must be at least 0, but it is {self.weight_decay:g}")

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network, initialised by ``seed`` alone."""
        with seed.scope():
            return self.model.build(space)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """A random draw of the augmentation."""
        return augmented(inputs, self.augmentation, space=space, generator=generator)

    def last_drop(self) -> int | None:
        """The last of ``drops`` that comes before the end, where the schedule has steps."""
        return (
            max((each for each in self.drops if each < self.epochs), default=None) if self.schedule == "steps" else None
        )

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train on ``data``, on its device. Same seed and rows: same weights (bit for bit on a CPU).

        Resumed from the end of a training, it yields that last item again. Raises :class:`FormatError` where the state
        is that of a training of another kind.
        """
        run = _Run.begun(self, data, seed, hooks)
        forward: Callable[[Tensor], Tensor] = torch.compile(run.model) if self.compile else run.model
        if resume is not None:
            run.restore(resume)
            if run.progress is not None and run.epoch >= self.epochs:
                yield run.progress
        for epoch in range(run.epoch, self.epochs):
            run.drop()
            run.model.train()
            with seed.child("dropout", epoch).scope():
                loss, correct = self._epoch(run, forward).tolist()
            yield run.reached(epoch=epoch + 1, epochs=self.epochs, loss=loss, accuracy=correct)

    def _epoch(self, run: _Run, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """One pass over the rows; mean loss and accuracy ``(2,)``."""
        data = run.remaining()
        totals, seen = torch.zeros(2, device=data.device), 0
        batches = _batches(len(data), self.batch_size, run)
        for step, index in enumerate(batches):
            rate = factor(self.schedule, epoch=run.epoch + step / len(batches), epochs=self.epochs, drops=self.drops)
            run.optimiser.param_groups[0]["lr"] = self.lr * rate
            batch = self._batch(data, index, run)
            run.optimiser.zero_grad(set_to_none=True)
            loss = _hooked_backward(batch, run)
            if loss is None:
                with autocast(self.precision, data.device):
                    logits = forward(batch.inputs)
                losses = functional.cross_entropy(logits.float(), batch.labels)
                losses.backward()  # type: ignore[no-untyped-call]
                hits = logits.argmax(1) == (batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(1))
                totals += torch.stack([losses.detach() * len(index), hits.sum()])
            else:
                totals[0] += loss * len(index)
            run.optimiser.step()
            seen += len(index)
        return totals / max(seen, 1)

    def _batch(self, data: Dataset, index: Tensor, run: _Run) -> Batch:
        inputs, labels = data.take(index)
        inputs = self.augment(inputs, space=data.space, generator=run.draws)
        if self.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        batch = Batch(inputs=inputs, labels=labels, ids=data.ids[index])
        for hook in run.hooks:
            batch = hook.transform(run.model, batch, run.draws)
        return batch


@dataclass(kw_only=True, eq=False)
class _Run:
    """Everything that changes while one network is trained: what a checkpoint holds."""

    data: Dataset
    active: Tensor
    """``(N,)`` bool: the rows not removed."""
    hooks: Sequence[Hook]
    model: Classifier
    optimiser: torch.optim.SGD
    order: torch.Generator
    draws: torch.Generator
    removals: list[Removal] = field(default_factory=list)
    progress: Progress | None = None

    @staticmethod
    def begun(learner: SGD, data: Dataset, seed: Seed, hooks: Sequence[Hook]) -> _Run:
        """Before the first epoch."""
        model = learner.build(data.space, seed.child("weights")).to(data.device)
        if learner.channels_last and len(data.space.shape) == 3:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.SGD(
            model.parameters(),
            lr=learner.lr,
            momentum=learner.momentum,
            weight_decay=learner.weight_decay,
            nesterov=learner.nesterov and learner.momentum > 0,
        )
        return _Run(
            data=data,
            active=torch.ones(len(data), dtype=torch.bool, device=data.device),
            hooks=hooks,
            model=model,
            optimiser=optimiser,
            order=seed.child("order").generator(),
            draws=seed.child("augmentation").generator(data.device),
        )

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.progress.epoch if self.progress else 0

    def remaining(self) -> Dataset:
        """The rows still trained on."""
        return self.data if bool(self.active.all()) else self.data.at(self.active)

    def drop(self) -> None:
        """Take out what the hooks say."""
        for hook in self.hooks:
            removal = hook.drop(self.data, self.active, self.progress)
            if removal is not None and len(removal.ids):
                self.active = self.active & ~torch.isin(self.data.ids, removal.ids.to(self.data.device))
                self.removals.append(removal)
        left = int(self.active.sum())
        if left < 2:
            raise DataError(f"training needs at least 2 rows, but there are {left}" + (" left" if self.hooks else ""))

    def reached(self, *, epoch: int, epochs: int, loss: float, accuracy: float) -> Progress:
        """Note and return where the training stands."""
        self.progress = Progress(
            epoch=epoch,
            epochs=epochs,
            model=self.model,
            loss=loss,
            accuracy=accuracy,
            removals=tuple(self.removals),
            facts={name: value for hook in self.hooks for name, value in hook.facts().items()},
            state=self.state,
        )
        return self.progress

    def state(self) -> Checkpoint:
        """Where the training stands, as copies: it goes on."""
        assert self.progress is not None  # handed out with the progress
        momenta = {
            f"momentum/{k}": self.optimiser.state[each]["momentum_buffer"].clone()
            for k, each in enumerate(self.optimiser.param_groups[0]["params"])
            if self.optimiser.state[each].get("momentum_buffer") is not None
        }
        facts = {name: getattr(self.progress, name) for name in _COUNTS}
        own = Checkpoint(
            tensors={**momenta, "order": generator_state(self.order), "draws": generator_state(self.draws)}, facts=facts
        )
        hooks = {f"hook-{k}": hook.state() for k, hook in enumerate(self.hooks)}
        model = Checkpoint(tensors={name: value.clone() for name, value in self.model.state_dict().items()})
        return own.joined(model=model, removals=removals_state(self.removals), **hooks)

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state. Raises :class:`FormatError` where it does not fit."""
        try:
            self._restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(
                f"the state to resume from is not that of this training ({type(error).__name__}: {error}); "
                "train from the start, or with the settings, data and defenses it was written with"
            ) from error

    def _restore(self, state: Checkpoint) -> None:
        with torch.no_grad():  # load_state_dict keeps each parameter's memory format
            self.model.load_state_dict(dict(state.under("model").tensors))
        for k, each in enumerate(self.optimiser.param_groups[0]["params"]):
            if f"momentum/{k}" in state.tensors:
                buffer = torch.empty_like(each).copy_(state.tensors[f"momentum/{k}"])
                self.optimiser.state[each]["momentum_buffer"] = buffer
        self.order.set_state(state.tensors["order"].cpu())
        self.draws.set_state(state.tensors["draws"].cpu())
        for k, hook in enumerate(self.hooks):
            hook.restore(state.under(f"hook-{k}"))
        self.removals = list(removals_of(state.under("removals")))
        for removal in self.removals:
            self.active = self.active & ~torch.isin(self.data.ids, removal.ids.to(self.data.device))
        self.reached(**{name: state.facts[name] for name in _COUNTS})


def _batches(count: int, size: int, run: _Run) -> Sequence[Tensor]:
    """Row numbers in batches; a last row on its own joins the batch before, as batch norm needs two."""
    device = run.data.device
    for hook in run.hooks:
        found = hook.batches(count, size, run.order)
        if found is not None:
            return [each.to(device) for each in found]
    parts = list(torch.split(torch.randperm(count, generator=run.order).to(device), size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _hooked_backward(batch: Batch, run: _Run) -> Tensor | None:
    """The loss of the hook that fills the gradients itself, or None. Raises :class:`ConfigError` for a second one."""
    for k, hook in enumerate(run.hooks):
        loss = hook.backward(run.model, batch, run.draws)
        if loss is None:
            continue
        others = [each for each in run.hooks[k + 1 :] if type(each).backward is not Hook.backward]
        if others:
            names = [getattr(each.settings, "name", type(each).__name__) for each in (hook, *others)]
            raise ConfigError(f"only one defense can fill the gradients, but {' and '.join(names)} would; wear one")
        return loss.detach()
    return None
