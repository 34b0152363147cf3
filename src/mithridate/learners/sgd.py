"""Stochastic gradient descent: the training loop, on one page.

Recipes (see ``recipes.py``): ``paper-40``, the victim of Witches' Brew (Geiping et al. 2021, https://arxiv.org/abs/2009.02276),
``benchmark-200``, the victim of Just How Toxic is Data Poisoning (Schwarzschild et al. 2021,
https://arxiv.org/abs/2006.12557), and ``cpu-fast``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.bilevel import Bilevel, Method, Unrollable
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.goal import Aims
from mithridate.learner import Batch, Hook, Progress
from mithridate.learners import graphed, stacked, together
from mithridate.learners.augment import Augmentation, augmented
from mithridate.learners.compiling import compiled
from mithridate.learners.hooks import hooked_backward
from mithridate.learners.module_bilevel import ModuleBilevel, method_problems
from mithridate.learners.precision import Precision, autocast
from mithridate.learners.running import Run
from mithridate.learners.schedule import Schedule, factor
from mithridate.learners.start import Scratch, Start
from mithridate.learners.windows import shown
from mithridate.model import Architecture, Classifier
from mithridate.ops.descent import Descent
from mithridate.seeding import Seed
from mithridate.settings import LATER
from mithridate.watch import Watch, silent


@dataclass(frozen=True, kw_only=True)
class SGD(Unrollable):
    """Train a network by SGD with momentum, or by Adam: from scratch, or from weights trained elsewhere."""

    name: ClassVar[str] = "sgd"

    model: Architecture
    """The network."""
    start: Start = Scratch()
    """What training starts from: ``scratch``, ``fine-tune`` (weights, all trained) or ``transfer`` (head alone)."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """How steps are made. Papers: SGD; Convex Polytope's victims: Adam (``momentum`` is then its first beta)."""
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
    """``float32``, ``bf16`` (autocast), or ``auto``: bf16 where the hardware has it and the network bears it."""
    channels_last: bool = False
    """Keep what is between layers, and weights, channels-last in memory (1.3 times faster convolutions on CPUs)."""
    compile: bool = False
    """Compile the network with ``torch.compile``, once for all trainings of a process (pays on CUDA)."""
    graph: bool = field(default=False, metadata=LATER)
    """Replay whole steps as a CUDA graph: the same steps but for rounding. Elsewhere, and where a defense takes part in
    steps, nothing changes."""

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
        if self.graph and self.optimiser != "sgd":
            raise ConfigError(f"graph: true records steps of optimiser: sgd, but it is '{self.optimiser}'")

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network, initialised by ``seed`` alone; :meth:`train` then writes the weights of ``start`` into it."""
        with seed.scope():
            return self.model.build(space)

    def problems(self, space: Space) -> list[str]:
        """A network that does not fit the data, and weights that do not fit the network."""
        return super().problems(space) or self.start.problems(self.model, space)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """A random draw of the augmentation."""
        return augmented(inputs, self.augmentation, space=space, generator=generator)

    def beginnings(self) -> tuple[str, ...]:
        """What decides the weights that it starts from, if it does."""
        source = self.start.source()
        return () if source is None else (source.identity(),)

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
        run = Run.begun(self, data, seed, hooks)
        if resume is not None:
            run.restore(resume)
            if run.progress is not None and run.epoch >= self.epochs:
                yield run.progress
        with _training(run.trained, run.model):
            run.features = self._fixed_features(run)
            forward = self._forward(run)
            steps = graphed.Graphed(self, run, forward) if self.graph and graphed.fits(run) else None
            for epoch in range(run.epoch, self.epochs):
                run.drop()
                self.start.ready(run.model)
                with seed.child("dropout", epoch).scope():
                    loss, correct = self._epoch(run, forward, steps).tolist()
                yield run.reached(epoch=epoch + 1, epochs=self.epochs, loss=loss, accuracy=correct)

    def fit_many(self, datasets: Sequence[Dataset], seeds: Sequence[Seed], *, watch: Watch = silent) -> list[Progress]:
        """Train small dense networks, and linear heads on fixed features, side by side; others one after another."""
        runs = [Run.begun(self, data, seed, ()) for data, seed in zip(datasets, seeds, strict=True)]
        for run in runs:
            run.features = self._fixed_features(run)
        if not all(stacked.layers(self, run) for run in runs):
            return super().fit_many(datasets, seeds, watch=watch)
        return together.trained(self, runs, lambda run: _batches(len(run.data), self.batch_size, run), watch=watch)

    def _fixed_features(self, run: Run) -> Tensor | None:
        """Features ``(N, D)`` of all rows where no step changes them: then they are computed once, not every epoch."""
        plain = all(
            type(hook).transform is Hook.transform and type(hook).backward is Hook.backward for hook in run.hooks
        )
        if not (self.start.frozen and self.augmentation is None and plain):
            return None
        self.start.ready(run.model)
        parts = torch.split(torch.arange(len(run.data), device=run.data.device), 512)
        with torch.no_grad(), autocast(run.precision, run.data.device):
            return torch.cat([run.model.features(run.data.take(part)[0]).float() for part in parts])

    def bilevel(self, clean: Dataset, aims: Aims, *, seed: Seed) -> Bilevel:
        """The training as an attacker differentiates it: its mini-batches and rates, in evaluation mode, in float32.

        Dropout is off and batch norm keeps the statistics it starts with. Raises :class:`ConfigError` for Adam, for
        weights from elsewhere, and for augmentation.
        """
        wrong = self.bilevel_problems()
        if wrong:
            raise ConfigError("; ".join(wrong))
        return ModuleBilevel(
            model=self.build(clean.space, seed.child("weights")),
            descent=self._descent,
            plan=partial(self._plan, seed=seed),
            clean=clean,
            aims=aims,
        )

    def bilevel_problems(self, method: Method = "stored", last: int | None = None) -> list[str]:
        """Adam, weights from elsewhere, augmentation, and methods that only other learners have."""
        settings = {
            "optimiser: adam": self.optimiser != "sgd",
            f"start: {self.start.name}": self.start != Scratch(),
            "augmentation": self.augmentation is not None,
        }
        found = [
            f"a training with {what} cannot be differentiated; train by sgd from scratch without"
            for what, is_set in settings.items()
            if is_set
        ]
        return found + method_problems(method, last)

    def _descent(self, steps: int) -> Descent:
        """So many steps as arithmetic."""
        return Descent(
            steps=steps,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            l2=self.weight_decay,
        )

    def _plan(self, count: int, *, seed: Seed) -> tuple[list[Tensor], list[float]]:
        """Positions of each step's rows among ``count``, and its share of the learning rate."""
        order, found, rates = seed.child("order").generator(), [], []
        for epoch in range(self.epochs):
            batches = _parts(torch.randperm(count, generator=order), self.batch_size)
            places = [epoch + step / len(batches) for step in range(len(batches))]
            rates += [factor(self.schedule, epoch=each, epochs=self.epochs, drops=self.drops) for each in places]
            found += batches
        return found, rates

    def _forward(self, run: Run) -> Callable[[Tensor], Tensor]:
        """Logits of what a batch holds: inputs, or features that were computed once."""
        if run.features is not None:
            return run.model.head
        return compiled(run.model, rows=self.batch_size) if self.compile else run.model

    def _epoch(self, run: Run, forward: Callable[[Tensor], Tensor], steps: graphed.Graphed | None) -> Tensor:
        """One pass over the rows; mean loss and accuracy ``(2,)``."""
        left = run.active.nonzero().flatten()
        totals, seen = torch.zeros(2, device=left.device), 0
        batches = _batches(len(left), self.batch_size, run)
        if stacked.layers(self, run):
            return torch.tensor(stacked.epoch(self, run, [left[index] for index in batches]))
        if steps is not None:
            return steps.epoch([left[index] for index in batches])
        for step, index in enumerate(batches):
            rate = factor(self.schedule, epoch=run.epoch + step / len(batches), epochs=self.epochs, drops=self.drops)
            for group in run.optimiser.param_groups:
                group["lr"] = self.lr * group["factor"] * rate
            batch = self._batch(left[index], run)
            run.optimiser.zero_grad(set_to_none=True)
            loss = hooked_backward(run.hooks, run.model, batch, run.draws)
            if loss is None:
                with autocast(run.precision, left.device):
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

    def _batch(self, index: Tensor, run: Run) -> Batch:
        data = run.data
        if run.features is not None:
            return Batch(inputs=run.features[index], labels=data.labels[index], ids=data.ids[index])
        inputs, labels = shown(data, index, self.augmentation, run.draws)
        batch = Batch(inputs=inputs, labels=labels, ids=data.ids[index])
        for hook in run.hooks:
            batch = hook.transform(run.model, batch, run.draws)
        return batch


@contextmanager
def _training(trained: Sequence[torch.nn.Parameter], model: Classifier) -> Iterator[None]:
    """Inside the block only ``trained`` ask for gradients, and of these only those that did before; then all as before.

    A network of the user's may have parts that are never trained.
    """
    chosen, asking = {id(each) for each in trained}, [each for each in model.parameters() if each.requires_grad]
    for each in asking:
        each.requires_grad_(id(each) in chosen)
    try:
        yield
    finally:
        for each in asking:
            each.requires_grad_(True)


def _batches(count: int, size: int, run: Run) -> Sequence[Tensor]:
    """Row numbers in batches; a last row on its own joins the batch before, as batch norm needs two."""
    device = run.data.device
    for hook in run.hooks:
        found = hook.batches(count, size, run.order)
        if found is not None:
            return [each.to(device) for each in found]
    return _parts(torch.randperm(count, generator=run.order).to(device), size)


def _parts(order: Tensor, size: int) -> list[Tensor]:
    """Batches of ``size`` rows; a last row on its own joins the batch before."""
    parts = list(torch.split(order, size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
