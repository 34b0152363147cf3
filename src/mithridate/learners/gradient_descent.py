"""Gradient descent on all rows at once, in float64: linear classifiers and perceptrons with one hidden layer.

The learners of Muñoz-González et al. 2017 (*Towards Poisoning of Deep Learning Algorithms with Back-gradient
Optimization*, https://arxiv.org/abs/1708.08689) and its released code: a fixed number of full-batch steps from a
fixed start. Recipes (see ``recipes.py``): ``adaline``, ``logistic-regression``, ``softmax-regression``, ``linear-svm``,
``ridge``, ``mlp-10``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mithridate.bilevel import Bilevel, Method, Unrollable
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.goal import Aims
from mithridate.learner import Hook, Progress
from mithridate.learners.dense import Dense
from mithridate.learners.dense_bilevel import DenseBilevel
from mithridate.learners.dense_run import DenseRun
from mithridate.ops.descent import Descent
from mithridate.ops.scores import LOSSES, LossName, ScoreLoss, SmoothedHinge
from mithridate.ops.unroll import sweep_problems
from mithridate.ops.upper import Activation, Direct, Hidden, Upper
from mithridate.seeding import Seed

MOST_EPOCHS = 20
"""In how many stretches a training reports; a defense that drops rows acts between them."""


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Unrollable):
    """Train a linear classifier, or a perceptron with one hidden layer, by full-batch gradient descent."""

    name: ClassVar[str] = "gradient-descent"

    loss: LossName = "logistic"
    """``logistic`` (two classes), ``softmax``, ``squared`` (Adaline, ridge; targets -1 and 1) or ``smoothed-hinge``
    (linear SVM); the last two tell several classes apart one against the rest."""
    hidden: int = 0
    """Units of the hidden layer; 0: none, a linear classifier. Paper: 10."""
    activation: Activation = "tanh"
    """What hidden units do. Paper: tanh."""
    steps: int = 1500
    """Steps of gradient descent. Released code, victims: 2000 Adaline, 1500 logistic, 400 perceptron."""
    lr: float = 0.5
    """Step size. Released code, victims: 0.01 Adaline, 0.5 logistic, 0.1 perceptron."""
    momentum: float = 0.0
    """Momentum. Paper: none."""
    dampening: float = 0.0
    """What the gradient's share in the velocity is lowered by; equal to ``momentum``: a running mean of gradients."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    l2: float = 0.0
    """L2 penalty of weights, not of biases, as half of ``l2`` times their squares. Paper: none."""
    temperature: float = 0.1
    """Width of the smoothed hinge's bend; 0 would be the hinge itself."""
    initial: float = 0.1
    """Standard deviation of a perceptron's initial weights; linear classifiers begin at 0. Released code: 0.1."""
    initial_seed: int | None = None
    """Fixes the initial weights whatever the seed, so that attacker and victims share them, as in the released code."""
    standardise: bool = True
    """Subtract each column's mean and divide by its standard deviation (of the clean training rows), inside the model.
    Paper: no."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        self.descent()  # checks steps, lr, momentum, l2
        if self.hidden < 0:
            raise ConfigError(f"hidden must be at least 0 units, but it is {self.hidden}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be positive, but it is {self.temperature:g}")
        if self.hidden and not self.initial > 0:
            raise ConfigError(f"initial must be positive, since equal units stay equal, but it is {self.initial:g}")

    @property
    def title(self) -> str:
        """What tables call it."""
        if self.hidden:
            return f"mlp-{self.hidden}"
        squared = "ridge" if self.l2 else "adaline"
        names = {"logistic": "logistic-regression", "softmax": "softmax-regression", "smoothed-hinge": "linear-svm"}
        return names.get(self.loss, squared)

    @property
    def seeded(self) -> bool:
        """Only by a perceptron's initial weights, where these are not fixed."""
        return self.hidden > 0 and self.initial_seed is None

    def score_loss(self) -> ScoreLoss:
        """The loss of scores."""
        return SmoothedHinge(self.temperature) if self.loss == "smoothed-hinge" else LOSSES[self.loss]

    def upper(self) -> Upper:
        """What is above the first layer."""
        loss = self.score_loss()
        return Hidden(loss, self.activation) if self.hidden else Direct(loss)

    def descent(self) -> Descent:
        """The steps. Raises :class:`ConfigError` for ones that do not descend."""
        return Descent(
            steps=self.steps,
            lr=self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            l2=self.l2,
        )

    def build(self, space: Space, seed: Seed) -> Dense:
        """The network before training. Raises :class:`ConfigError` where the loss cannot do so many classes."""
        drawn = Seed(self.initial_seed) if self.initial_seed is not None else seed
        columns = self.score_loss().columns(space.num_classes)
        return Dense(
            replace(space, mean=(), std=()) if not self.standardise else space,
            upper=self.upper(),
            hidden=self.hidden,
            columns=columns,
            initial=self.initial,
            generator=drawn.generator(),
        )

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """Nothing."""
        return inputs

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train on ``data``; an item after each of up to :data:`MOST_EPOCHS` stretches of steps.

        Raises :class:`FormatError` where the state to resume is that of another training.
        """
        model = self.build(data.space, seed.child("weights")).to(data.device)
        epochs = min(self.steps, MOST_EPOCHS)
        borders = np.linspace(0, self.steps, epochs + 1).round().astype(int)
        run = DenseRun(data=data, model=model, descent=self.descent(), hooks=hooks, seed=seed)
        if resume is not None:
            run.restore(resume, epochs=epochs)
            if run.progress is not None and run.epoch == epochs:
                yield run.progress
        for epoch in range(run.epoch, epochs):
            run.drop()
            run.advance(int(borders[epoch + 1] - borders[epoch]))
            yield run.reached(epoch=epoch + 1, epochs=epochs)

    def bilevel(self, clean: Dataset, aims: Aims, *, seed: Seed) -> Bilevel:
        """The training as the attacker differentiates it."""
        model = self.build(clean.space, seed.child("weights"))
        return DenseBilevel(model=model, descent=self.descent(), clean=clean, aims=aims)

    def bilevel_problems(self, method: Method = "stored", last: int | None = None) -> list[str]:
        """A cut longer than the training, and methods that need a penalty or cannot go back along its steps."""
        return sweep_problems(self.descent(), method=method, last=last)
