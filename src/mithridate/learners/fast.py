"""Fast victims: a network in a few epochs of large steps. A protocol of its own, unlike that of any poisoning paper.

After Keller Jordan, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU*, 2024, https://arxiv.org/abs/2404.00498, whose
settings are the defaults: SGD with Nesterov's momentum, a rate that rises and falls in one triangle, biases of batch
norm that learn 64 times as fast, smoothed labels, whole-pixel shifts, and mirror images that alternate: an image shown
as it is in one epoch is shown mirrored in the next.

Differences from the paper:
1. No Lookahead, and no part of an epoch: 10 epochs instead of 9.9.
2. Shifts leave black borders (the paper's: reflected ones).
3. On few rows batches are smaller, so that an epoch has ``least_steps``; the rate goes with the root of their size.

What it changes: smoothed labels, whitening, and the mean over mirror images all may make poison weaker or stronger, and
nothing measured here says yet which; ``benchmarks/fast-victims.yaml`` sets it beside ``paper-40`` on the same poisons.
Never put its numbers beside those of a published protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.learner import Batch, Hook, Learner, Progress
from mithridate.learners.augment import Augmentation, augmented
from mithridate.learners.compiling import compiled
from mithridate.learners.hooks import hooked_backward, parts
from mithridate.learners.precision import Precision, autocast, fitting
from mithridate.learners.running import Run
from mithridate.learners.windows import cut
from mithridate.model import Architecture, Classifier
from mithridate.ops.optimisers import Momentum
from mithridate.seeding import Seed

WHITENED = 5000
"""Training rows, the first ones, that a whitening layer is computed from. Paper: 5 000."""
_START, _PEAK, _END = 0.2, 0.23, 0.07
"""Share of the rate at first; share of the steps until it is whole; share of the rate at last. Paper: these."""
_LEAST_ROWS = 16
"""Rows in a step on however little data."""


@dataclass(frozen=True, kw_only=True)
class Fast(Learner):
    """Train a network in seconds: large steps, smoothed labels, alternating mirror images; its own protocol."""

    name: ClassVar[str] = "fast"

    model: Architecture
    """The network; ``fastnet`` is made for this."""
    epochs: int = 10
    """Passes over the training rows. Paper: 9.9."""
    batch_size: int = 1024
    """Rows in a step; fewer where an epoch would have fewer than ``least_steps``. Paper: 1024."""
    least_steps: int = 40
    """Steps in an epoch on however few rows, as long as each has 16. The paper's epoch has 48."""
    lr: float = 1.5
    """Highest learning rate of a step of ``batch_size`` rows. Paper: 1.5 (written there as 11.5, momentum included)."""
    momentum: float = 0.85
    """Nesterov's momentum. Paper: 0.85."""
    bias_factor: float = 64.0
    """How many times as fast the biases of batch norm learn. Paper: 64."""
    decay: float = 0.002
    """Share by which a step at the highest rate shrinks every parameter, before momentum. Paper: 0.002 (written there
    as 0.0153 a thousand rows, momentum included)."""
    smoothing: float = 0.2
    """The share of the label that goes to all classes alike. Paper: 0.2."""
    augmentation: Augmentation | None = Augmentation(shift=2.0, flip=True, mode="integer")
    """What happens to images before every step; with ``flip``, mirror images alternate. Paper: shifts of 2."""
    precision: Precision = "auto"
    """``float32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware has it and the network bears it."""
    channels_last: bool = True
    """Keep what is between layers, and weights, channels-last in memory."""
    compile: bool = False
    """Compile the network with ``torch.compile`` (pays on CUDA)."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for what in ("epochs", "batch_size", "least_steps"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        for what in ("lr", "bias_factor"):
            if not getattr(self, what) > 0:
                raise ConfigError(f"{what} must be positive, but it is {getattr(self, what):g}")
        for what in ("momentum", "smoothing", "decay"):
            if not 0 <= getattr(self, what) < 1:
                raise ConfigError(f"{what} must lie in [0, 1), but it is {getattr(self, what):g}")

    @property
    def title(self) -> str:
        """What tables call it."""
        network = "" if self.model.name == "fastnet" else f" {self.model.name}"
        return f"fast{network}, {self.epochs} epochs"

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network, initialised by ``seed`` alone; :meth:`train` then computes its whitening from the rows."""
        with seed.scope():
            return self.model.build(space)

    def problems(self, space: Space) -> list[str]:
        """A network that does not fit the data, and data that are no images."""
        if len(space.shape) != 3:
            return [f"fast victims train on images, but inputs are of shape {space.shape}; use another learner"]
        return super().problems(space)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """A random draw of the augmentation."""
        return augmented(inputs, self.augmentation, space=space, generator=generator)

    def rows(self, count: int) -> int:
        """Rows in a step where there are so many in an epoch."""
        return min(self.batch_size, max(_LEAST_ROWS, count // self.least_steps))

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train on ``data``, on its device. Same seed and rows: same weights (bit for bit on a CPU).

        Resumed from the end of a training, it yields that last item again. Raises :class:`FormatError` where the state
        is that of a training of another kind.
        """
        run = self._begun(data, seed, hooks)
        if resume is not None:
            run.restore(resume)
            if run.progress is not None and run.epoch >= self.epochs:
                yield run.progress
        forward: Callable[[Tensor], Tensor] = compiled(run.model, rows=self.batch_size) if self.compile else run.model
        first = _first_sides(data, seed)
        for epoch in range(run.epoch, self.epochs):
            run.drop()
            run.model.train()
            with seed.child("dropout", epoch).scope():
                loss, correct = self._epoch(run, forward, first ^ bool(epoch % 2)).tolist()
            yield run.reached(epoch=epoch + 1, epochs=self.epochs, loss=loss, accuracy=correct)

    def _begun(self, data: Dataset, seed: Seed, hooks: Sequence[Hook]) -> Run:
        """Before the first epoch."""
        model = self.build(data.space, seed.child("weights")).to(data.device)
        prepare = getattr(model, "prepare", None)
        if prepare is not None:
            with torch.no_grad():
                prepare(data.take(slice(WHITENED))[0])
        if self.channels_last and len(data.space.shape) == 3:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Run(
            data=data,
            active=torch.ones(len(data), dtype=torch.bool, device=data.device),
            hooks=hooks,
            model=model,
            trained=list(model.parameters()),
            optimiser=Steps(self._groups(model), momentum=self.momentum),
            precision=fitting(self.precision, self.model, data.space, data.device),
            order=seed.child("order").generator(),
            draws=seed.child("augmentation").generator(data.device),
        )

    def _groups(self, model: Classifier) -> list[dict[str, Any]]:
        """Biases of batch norm, which learn faster but shrink alike, and all others."""
        norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        quick = [each.bias for each in model.modules() if isinstance(each, norms) and each.bias is not None]
        own = {id(each) for each in quick}
        others = [each for each in model.parameters() if id(each) not in own]
        return [
            {"params": params, "factor": factor, "decay": self.decay / (self.lr * factor)}
            for params, factor in ((quick, self.bias_factor), (others, 1.0))
        ]

    def _epoch(self, run: Run, forward: Callable[[Tensor], Tensor], mirrored: Tensor) -> Tensor:
        """One pass over the rows; mean loss and accuracy ``(2,)``."""
        left = run.active.nonzero().flatten()
        totals, seen = torch.zeros(2, device=left.device), 0
        size = self.rows(len(left))
        rate = self.lr * (size / self.batch_size) ** 0.5
        batches = parts(run.hooks, len(left), size, run.order, device=left.device)
        for step, index in enumerate(batches):
            share = triangle((run.epoch + step / len(batches)) / self.epochs)
            for group in run.optimiser.param_groups:
                group["lr"] = rate * group["factor"] * share
            batch = self._batch(left[index], run, mirrored)
            run.optimiser.zero_grad(set_to_none=True)
            totals += self._slope(run, forward, batch) * len(index)
            run.optimiser.step()
            seen += len(index)
        return totals / max(seen, 1)

    def _slope(self, run: Run, forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Fill the gradients; mean loss and accuracy of the batch ``(2,)``, the latter 0 where a hook fills them."""
        loss = hooked_backward(run.hooks, run.model, batch, run.draws)
        if loss is not None:
            return torch.stack([loss, torch.zeros_like(loss)])
        with autocast(run.precision, batch.inputs.device):
            logits = forward(batch.inputs).float()
        losses = functional.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing)
        losses.backward()  # type: ignore[no-untyped-call]
        right = batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(1)
        return torch.stack([losses.detach(), (logits.argmax(1) == right).float().mean()])

    def _batch(self, index: Tensor, run: Run, mirrored: Tensor) -> Batch:
        """The rows at ``index`` as a step sees them."""
        data, how = run.data, self.augmentation
        stored, labels = data.inputs.index_select(0, index), data.labels.index_select(0, index)
        if how is None:
            inputs = data.space.decode(stored)
        else:
            draw = replace(how.draw(len(index), run.draws), flip=mirrored[index] & how.flip)
            codes = stored.dtype == torch.uint8
            inputs = (cut if codes else _applied)(stored, draw, how, space=data.space)
        batch = Batch(inputs=inputs, labels=labels, ids=data.ids[index])
        for hook in run.hooks:
            batch = hook.transform(run.model, batch, run.draws)
        return batch


class Steps(Momentum):
    """Nesterov's steps over groups of parameters, each with a ``decay`` of its own."""

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float) -> None:
        """Prepare steps over ``groups`` of ``params``, ``factor`` and ``decay``; each step needs their ``lr``."""
        super().__init__(groups, lr=0.0, momentum=momentum, weight_decay=0.0, nesterov=momentum > 0)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient by one step."""
        for group in self.param_groups:
            self._decay = group["decay"]
            params = [each for each in group["params"] if each.grad is not None]
            if params:
                self._step(params, [each.grad for each in params], lr=group["lr"])


def triangle(done: float) -> float:
    """Share of the highest rate once a share ``done`` of all steps is made: 0.2 at first, 1 at 0.23, 0.07 at last."""
    if done < _PEAK:
        return _START + (1 - _START) * done / _PEAK
    return 1 + (_END - 1) * (done - _PEAK) / (1 - _PEAK)


def _first_sides(data: Dataset, seed: Seed) -> Tensor:
    """Which rows ``(N,)`` are mirrored in the first epoch, and so in every other one."""
    return (torch.rand(len(data), generator=seed.child("sides").generator()) < 0.5).to(data.device)


def _applied(images: Tensor, draw: Any, augmentation: Augmentation, *, space: Space) -> Tensor:
    return augmentation.apply(images.to(torch.float32), draw, space=space)
