"""Training a dense first layer and what is above it by gradient descent on all rows, in NumPy.

Two forms of the first layer give the same numbers: ``plain`` holds its weights ``(d, H)``, ``gram`` its outputs on
the training rows, moved by the rows' inner products ``(N, N)``; which costs N N H a step instead of 2 N d H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch

from mithridate.ops.descent import Descent, Number, State, begun, plus, stepped
from mithridate.ops.scores import Array
from mithridate.ops.upper import Parameters, Slope, Upper

Form = Literal["auto", "plain", "gram"]
Held = Literal["plain", "gram", "summed"]
"""What a state holds of the first layer; ``summed`` leaves out the sum of all steps (without momentum and penalty)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows as the first layer sees them."""

    inputs: Array
    """``(N, d)`` float64."""
    targets: Array
    """``(N, c)`` float64."""
    weights: Array | None = None
    """``(N,)``: how much each row counts, or None for 1. The loss is the weighted sum over N (not over the weights)."""
    products: Array | None = None
    """``(N, N)`` inner products of the inputs, where they are known; else the Gram form computes them."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.inputs)

    def shares(self) -> Array:
        """What each row's loss is multiplied by, ``(N, 1)``."""
        weights = np.ones(len(self)) if self.weights is None else self.weights
        return (weights / len(self))[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Beginning:
    """Where a training begins."""

    first: Array
    """``(d, H)`` first layer."""
    upper: Parameters
    """What :class:`Upper` holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A finished training."""

    first: Array
    """``(d, H)``."""
    upper: Parameters


def train(rows: Rows, upper: Upper, descent: Descent, start: Beginning, *, form: Form = "auto") -> Trained:
    """The parameters after all steps."""
    problem = Problem(rows, upper, descent, start, cheaper(form, rows))
    state = problem.begun()
    for _ in range(descent.steps):
        state = problem.step(state)
    return problem.trained(state)


def cheaper(form: Form, rows: Rows) -> Literal["plain", "gram"]:
    """The cheaper form, where none is asked for: a step costs N N H or 2 N d H."""
    if form != "auto":
        return form
    return "gram" if len(rows) < 2 * rows.inputs.shape[1] else "plain"


class First(ABC):
    """The first layer in one of its forms: some leading parts of the state."""

    count: int
    """How many parts."""

    @abstractmethod
    def start(self, weights: Array) -> tuple[Number, ...]:
        """The parts at the start; also those of the adjoint of weights ``(d, H)``."""

    @abstractmethod
    def outputs(self, parts: tuple[Number, ...]) -> Array:
        """Outputs on the training rows, ``(N, H)``."""

    @abstractmethod
    def pushed(self, change: Array) -> tuple[Number, ...]:
        """The parts of the weights ``X^T change``, of a change ``(N, H)`` of the outputs."""


class Plain(First):
    """The weights themselves."""

    count = 1

    def __init__(self, inputs: Array) -> None:
        self.inputs, self.transposed = inputs, inputs.T

    def start(self, weights: Array) -> tuple[Number, ...]:
        """The weights."""
        return (weights,)

    def outputs(self, parts: tuple[Number, ...]) -> Array:
        """``X W``."""
        return self.inputs @ parts[0]

    def pushed(self, change: Array) -> tuple[Number, ...]:
        """``X^T change``."""
        return (self.transposed @ change,)


class Gram(First):
    """Outputs on the training rows, coefficients ``C`` and factor ``r`` of weights ``r W0 + X^T C``."""

    count = 3

    def __init__(self, rows: Rows) -> None:
        self.inputs = rows.inputs
        self.products = rows.inputs @ rows.inputs.T if rows.products is None else rows.products

    def start(self, weights: Array) -> tuple[Number, ...]:
        """Outputs, no coefficients yet, factor 1."""
        outputs = self.inputs @ weights
        return (outputs, np.zeros_like(outputs), 1.0)

    def outputs(self, parts: tuple[Number, ...]) -> Array:
        """Held as they are."""
        assert isinstance(parts[0], np.ndarray)
        return parts[0]

    def pushed(self, change: Array) -> tuple[Number, ...]:
        """Through the inner products."""
        return (self.products @ change, change, 0.0)


class Summed(First):
    """Outputs on the training rows alone, of weights ``W0 + X^T C`` whose ``C`` is the sum of all changes so far."""

    count = 1

    def __init__(self, gram: Gram) -> None:
        self.inputs, self.products = gram.inputs, gram.products

    def start(self, weights: Array) -> tuple[Number, ...]:
        """Outputs."""
        return (self.inputs @ weights,)

    def outputs(self, parts: tuple[Number, ...]) -> Array:
        """Held as they are."""
        assert isinstance(parts[0], np.ndarray)
        return parts[0]

    def pushed(self, change: Array) -> tuple[Number, ...]:
        """Through the inner products."""
        return (self.products @ change,)


class Problem:
    """One training, ready to be stepped through."""

    def __init__(self, rows: Rows, upper: Upper, descent: Descent, start: Beginning, held: Held) -> None:
        self.rows, self.upper, self.descent, self.start = rows, upper, descent, start
        self.shares = rows.shares()
        self.first: First = Plain(rows.inputs) if held == "plain" else Gram(rows)
        self.first = Summed(self.first) if held == "summed" and isinstance(self.first, Gram) else self.first
        self.decays = (*[True] * self.first.count, *upper.decays)

    def begun(self) -> State:
        """The state before the first step."""
        return begun((*self.first.start(self.start.first), *self.start.upper), self.descent)

    def slope(self, parts: tuple[Number, ...]) -> Slope:
        """First derivatives of the loss at these parameters."""
        outputs = self.first.outputs(parts[: self.first.count])
        return self.upper.slope(outputs, self.upper_of(parts), self.rows.targets, self.shares)

    def step(self, state: State, slope: Slope | None = None) -> State:
        """The state after a step."""
        return stepped(state, self.gradient(state.parts, slope or self.slope(state.parts)), self.descent)

    def gradient(self, parts: tuple[Number, ...], slope: Slope) -> tuple[Number, ...]:
        """The gradient that a step follows, penalty and all."""
        return self.decayed((*self.first.pushed(slope.first), *slope.upper), parts)

    def decayed(self, gradient: tuple[Number, ...], parts: tuple[Number, ...]) -> tuple[Number, ...]:
        """A gradient (or Hessian product) with the penalty's part."""
        if not self.descent.l2:
            return gradient
        triples = zip(gradient, parts, self.decays, strict=True)
        return tuple(plus(g, w, self.descent.l2) if decays else g for g, w, decays in triples)

    def trained(self, state: State, slopes: Sequence[Slope] = ()) -> Trained:
        """The parameters at a state. What ``summed`` leaves out is told by the ``slopes`` of all steps before it."""
        if isinstance(self.first, Summed):
            changes = np.add.reduce([slope.first for slope in slopes])
            share = self.descent.lr * (1 - self.descent.dampening)
            first = self.start.first - share * (self.rows.inputs.T @ changes)
            return Trained(first=first, upper=self.upper_of(state.parts))
        return Trained(first=self.weights(state.parts, self.start.first), upper=self.upper_of(state.parts))

    def weights(self, parts: tuple[Number, ...], anchor: Array) -> Array:
        """The first layer's weights ``(d, H)``."""
        if isinstance(self.first, Plain):
            assert isinstance(parts[0], np.ndarray)
            return parts[0]
        assert isinstance(parts[1], np.ndarray)
        return parts[2] * anchor + self.rows.inputs.T @ parts[1]

    def upper_of(self, parts: tuple[Number, ...]) -> Parameters:
        """The parameters above the first layer."""
        return cast(Parameters, parts[self.first.count :])

    def outer(self, found: Trained, validation: Rows) -> tuple[float, Array, Parameters]:
        """The validation loss after a training, and its derivatives by first layer and upper parameters."""
        shares = validation.shares()
        outputs = validation.inputs @ found.first
        slope = self.upper.slope(outputs, found.upper, validation.targets, shares)
        losses = self.upper.loss.value(torch.from_numpy(slope.kept[0]), torch.from_numpy(validation.targets)).numpy()
        return float(losses @ shares[:, 0]), validation.inputs.T @ slope.first, slope.upper
