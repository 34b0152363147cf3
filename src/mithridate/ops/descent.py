"""Gradient descent on all rows, with momentum and an L2 penalty, as arithmetic on lists of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mithridate.errors import ConfigError

Number = NDArray[np.float64] | float


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a training steps: ``v <- m v + (1 - d) g``, then ``w <- w - a v`` (Nesterov: ``w - a (g + m v)``).

    ``g`` is the gradient of the mean loss and of ``l2 / 2`` times the squared weights; ``v`` begins at 0. With
    ``dampening`` 0 these are the steps of ``torch.optim.SGD``; with ``dampening = momentum`` the averaged form.
    """

    steps: int
    """How many steps, at least 1."""
    lr: float
    """Step size ``a``."""
    momentum: float = 0.0
    """``m`` in [0, 1)."""
    dampening: float = 0.0
    """``d``: what the gradient's share in the velocity is lowered by."""
    nesterov: bool = False
    """Nesterov's form."""
    l2: float = 0.0
    """L2 penalty of weights, not of biases."""

    def __post_init__(self) -> None:
        """Refuse settings that do not descend."""
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, but it is {self.steps}")
        if not self.lr > 0:
            raise ConfigError(f"lr must be positive, but it is {self.lr:g}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), but it is {self.momentum:g}")
        if not 0 <= self.dampening < 1:
            raise ConfigError(f"dampening must lie in [0, 1), but it is {self.dampening:g}")
        if not self.l2 >= 0:
            raise ConfigError(f"l2 must be at least 0, but it is {self.l2:g}")


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """Where a training stands: its parameters, and their velocities where there is momentum."""

    parts: tuple[Number, ...]
    velocity: tuple[Number, ...] = ()


def begun(parts: tuple[Number, ...], descent: Descent) -> State:
    """The state before the first step."""
    return State(parts, tuple(0.0 * each for each in parts) if descent.momentum else ())


def stepped(state: State, gradient: tuple[Number, ...], descent: Descent) -> State:
    """The state after a step."""
    if not descent.momentum:
        share = descent.lr * (1 - descent.dampening)
        return State(tuple([w - share * g for w, g in zip(state.parts, gradient, strict=True)]))
    velocity = tuple(
        plus(descent.momentum * v, g, 1 - descent.dampening) for v, g in zip(state.velocity, gradient, strict=True)
    )
    ahead = tuple(plus(g, v, descent.momentum) for g, v in zip(gradient, velocity, strict=True))
    moves = ahead if descent.nesterov else velocity
    return State(tuple(plus(w, v, -descent.lr) for w, v in zip(state.parts, moves, strict=True)), velocity)


def pulled(adjoint: State, descent: Descent) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    """What a step hands back: the adjoint of its gradient, and that of the velocity before it (empty: none)."""
    if not descent.momentum:
        share = descent.lr * (1 - descent.dampening)
        return tuple([-share * each for each in adjoint.parts]), ()
    a, m = descent.lr, descent.momentum
    through = m if descent.nesterov else 1.0
    velocity = tuple(plus(dv, dw, -a * through) for dv, dw in zip(adjoint.velocity, adjoint.parts, strict=True))
    gradient = tuple((1 - descent.dampening) * each for each in velocity)
    if descent.nesterov:
        gradient = tuple(plus(g, dw, -a) for g, dw in zip(gradient, adjoint.parts, strict=True))
    return gradient, tuple(m * each for each in velocity)


def plus(one: Number, other: Number, factor: float = 1.0) -> Number:
    """``one + factor * other``."""
    return one + factor * other
