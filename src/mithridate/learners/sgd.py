"""Stochastic gradient descent: the training loop, on one page.

Recipes (see ``recipes.py``): ``paper-40``, the victim of Witches' Brew (Geiping et al. 2021, https://arxiv.org/abs/2009.02276),
``benchmark-200``, the victim of Just How Toxic is Data Poisoning (Schwarzschild et al. 2021,
https://arxiv.org/abs/2006.12557), and ``cpu-fast``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError
from mithridate.learner import Batch, Hook, Learner, Progress
from mithridate.learners.augment import Augmentation, augmented
from mithridate.learners.precision import Precision, autocast
from mithridate.learners.schedule import Schedule, factor
from mithridate.model import Architecture, Classifier
from mithridate.seeding import Seed


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

    def train(self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = ()) -> Iterator[Progress]:
        """Train on ``data``, on its device. Same seed and rows: same weights (bit for bit on a CPU)."""
        model = self.build(data.space, seed.child("weights")).to(data.device)
        if self.channels_last and len(data.space.shape) == 3:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        forward: Callable[[Tensor], Tensor] = torch.compile(model) if self.compile else model
        optimiser = torch.optim.SGD(
            model.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
        )
        order, draws = seed.child("order").generator(), seed.child("augmentation").generator(data.device)
        progress: Progress | None = None
        for epoch in range(self.epochs):
            data = _kept(data, hooks, progress)
            model.train()
            with seed.child("dropout", epoch).scope():
                totals = self._epoch(data, model, forward, optimiser, hooks, epoch, order, draws)
            loss, correct = totals.tolist()
            progress = Progress(epoch=epoch + 1, epochs=self.epochs, model=model, loss=loss, accuracy=correct)
            yield progress

    def _epoch(
        self,
        data: Dataset,
        model: Classifier,
        forward: Callable[[Tensor], Tensor],
        optimiser: torch.optim.Optimizer,
        hooks: Sequence[Hook],
        epoch: int,
        order: torch.Generator,
        draws: torch.Generator,
    ) -> Tensor:
        """One pass over the rows; mean loss and accuracy ``(2,)``."""
        totals = torch.zeros(2, device=data.device)
        batches = _batches(torch.randperm(len(data), generator=order).to(data.device), self.batch_size)
        for step, index in enumerate(batches):
            rate = factor(self.schedule, epoch=epoch + step / len(batches), epochs=self.epochs, drops=self.drops)
            optimiser.param_groups[0]["lr"] = self.lr * rate
            batch = self._batch(data, index, hooks, draws)
            optimiser.zero_grad(set_to_none=True)
            loss = _hooked_backward(model, batch, hooks, draws)
            if loss is None:
                with autocast(self.precision, data.device):
                    logits = forward(batch.inputs)
                losses = functional.cross_entropy(logits.float(), batch.labels)
                losses.backward()  # type: ignore[no-untyped-call]
                hits = logits.argmax(1) == (batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(1))
                totals += torch.stack([losses.detach() * len(index), hits.sum()])
            else:
                totals[0] += loss * len(index)
            optimiser.step()
        return totals / len(data)

    def _batch(self, data: Dataset, index: Tensor, hooks: Sequence[Hook], draws: torch.Generator) -> Batch:
        inputs, labels = data.take(index)
        inputs = self.augment(inputs, space=data.space, generator=draws)
        if self.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        batch = Batch(inputs=inputs, labels=labels, ids=data.ids[index])
        for hook in hooks:
            batch = hook.transform(batch, draws)
        return batch


def _kept(data: Dataset, hooks: Sequence[Hook], progress: Progress | None) -> Dataset:
    """The rows that all hooks keep."""
    for hook in hooks:
        ids = hook.keep(data, progress)
        if ids is not None:
            data = data.at(torch.isin(data.ids, ids.to(data.device)))
    if len(data) < 2:
        raise DataError(f"training needs at least 2 rows, but there are {len(data)}" + (" left" if hooks else ""))
    return data


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Row numbers ``(N,)`` in batches; a last row on its own joins the batch before, as batch norm needs two."""
    parts = list(torch.split(order, size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _hooked_backward(model: Classifier, batch: Batch, hooks: Sequence[Hook], draws: torch.Generator) -> Tensor | None:
    """The loss of the first hook that fills the gradients itself, or None."""
    for hook in hooks:
        loss = hook.backward(model, batch, draws)
        if loss is not None:
            return loss.detach()
    return None
