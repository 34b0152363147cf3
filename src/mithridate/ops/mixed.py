"""Ways to compute a mixed partial of some rows: two passes, the first for the parameter gradient.

Exact up to rounding: :class:`Double`, :class:`ReverseOverForward`, and ``compiled`` (:mod:`mithridate.ops.compiling`).
:class:`GatedDifference` is one difference of two first-order gradients, equal to the exact ones to a cosine above
0.9999 in float32. :class:`Smoothed` is something else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.func import jvp

from mithridate.ops.gates import Kinks, Recorded, Replayed
from mithridate.ops.passes import Passes

Kept = tuple[list[Tensor], Tensor]
"""Gates, and the derivative of the loss in the inputs."""

GATED_STEP = 1e-4
"""Length of the parameter step of the gated difference. Measured: cosine above 0.99999 to double backward in
float32 (``tests/ops/test_gradients.py`` checks it)."""
SMOOTHED_STEP = 1e-2
"""Length of the parameter step of the smoothed one: over it many gates change, and the change of them counts."""
KEPT_BYTES = 2**28
"""Gates of several parts are kept between the passes up to so much; those of further parts are recorded again."""


class Part(Protocol):
    """Some rows between the two passes."""

    gradient: Sequence[Tensor]
    """``sum_i dL(x_i)/dtheta`` over the rows."""

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """``d/dx <direction, gradient>``, the shape of the rows."""


class Budget:
    """How many bytes of gates may still be kept."""

    def __init__(self, left: int | None = None) -> None:
        """``left``: all in all; :data:`KEPT_BYTES` where nothing is said."""
        self._left = KEPT_BYTES if left is None else left

    def allows(self, gates: Sequence[Tensor]) -> bool:
        """Whether these may be kept too; then they count."""
        wanted = sum(each.numel() * each.element_size() for each in gates)
        if wanted > self._left:
            return False
        self._left -= wanted
        return True


class Double:
    """Double backward: the reference. The graph of the first pass is kept only if the rows are alone."""

    def __init__(self, passes: Passes, x: Tensor, y: Tensor, *, alone: bool, budget: Budget) -> None:
        self._passes, self._x, self._y = passes, x, y
        self._graph = self._first_pass() if alone else None
        if self._graph is not None:
            self.gradient: Sequence[Tensor] = [g.detach() for g in self._graph[1]]
        else:
            self.gradient = passes.gradient(x, y)

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        leaf, gradient = self._graph or self._first_pass()
        product = torch.stack([torch.sum(g * d) for g, d in zip(gradient, direction, strict=True)]).sum()
        with self._passes.numbers(leaf.device):
            return torch.autograd.grad(product, leaf)[0]

    def _first_pass(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaf = self._passes.leaf(self._x)
        loss = self._passes.loss(leaf, self._y)
        with self._passes.numbers(leaf.device):
            return leaf, torch.autograd.grad(loss, list(self._passes.parameters.values()), create_graph=True)


class ReverseOverForward:
    """The loss carried along ``direction`` by forward mode, and that derivative taken back to the inputs: exact.

    No gradient of the parameters is in the second pass, and nothing is kept between the two.
    """

    def __init__(self, passes: Passes, x: Tensor, y: Tensor, *, alone: bool, budget: Budget) -> None:
        self._passes, self._x, self._y = passes, x, y
        self.gradient: Sequence[Tensor] = passes.gradient(x, y)

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        passes, leaf = self._passes, self._passes.leaf(self._x)

        def loss(parameters: dict[str, Tensor]) -> Tensor:
            with passes.folded(parameters):
                return passes.loss(leaf, self._y, parameters)

        before = {name: p.detach() for name, p in passes.parameters.items()}
        with warnings.catch_warnings():  # torch's own, about its own parts, at the first use
            warnings.simplefilter("ignore", DeprecationWarning)
            along = jvp(loss, (before,), (dict(zip(before, direction, strict=True)),))[1]
        with passes.numbers(leaf.device):
            return torch.autograd.grad(along, leaf)[0]


class Smoothed:
    """A plain difference over a parameter step of length 0.01, in which gates may change.

    NOT the published gradient: the exact derivative ignores that a step flips gates, this one sees it. In published
    terms it is the derivative of a smoothed network. Both passes are first-order.
    """

    def __init__(self, passes: Passes, x: Tensor, y: Tensor, *, alone: bool, budget: Budget) -> None:
        self._passes, self._y, self._leaf = passes, y, passes.leaf(x)
        with passes.folded():
            loss = passes.loss(self._leaf, y)
        with passes.numbers(x.device):
            *gradient, self._before = torch.autograd.grad(loss, [*passes.parameters.values(), self._leaf])
        self.gradient: Sequence[Tensor] = gradient

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The difference in ``direction``."""
        step, moved = _moved(self._passes, direction, SMOOTHED_STEP)
        with self._passes.folded(moved):
            loss = self._passes.loss(self._leaf, self._y, moved)
        with self._passes.numbers(self._leaf.device):
            after = torch.autograd.grad(loss, self._leaf)[0]
        return (after - self._before) / step


class GatedDifference:
    """One one-sided difference over a step of length 1e-4, with the gates of the first pass replayed in the second.

    Gates are kept between the passes as long as the budget lasts, small where there are several parts; those of
    further parts are recorded again.
    """

    def __init__(self, passes: Passes, x: Tensor, y: Tensor, *, alone: bool, budget: Budget) -> None:
        self._passes, self._y, self._leaf = passes, y, passes.leaf(x)
        gates, (*gradient, slope) = self._first_pass([*passes.parameters.values(), self._leaf], small=not alone)
        self.gradient: Sequence[Tensor] = gradient
        self._kept: Kept | None = (gates, slope) if alone or budget.allows(gates) else None

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        passes, (gates, before) = self._passes, self._kept or self._first_slope()
        self._kept = None
        step, moved = _moved(passes, direction, GATED_STEP)
        with Replayed(gates, passes.folds, passes.tensors(moved)):
            loss = passes.loss(self._leaf, self._y, moved)
        with passes.numbers(self._leaf.device):
            slope = torch.autograd.grad(loss, self._leaf)[0]
        return (slope - before) / step

    def _first_pass(self, wanted: Sequence[Tensor], *, small: bool) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The gates, and the derivatives of the loss in ``wanted``."""
        passes = self._passes
        with Recorded(passes.folds, passes.tensors(passes.parameters), small=small) as recorded:
            loss = passes.loss(self._leaf, self._y)
        with passes.numbers(self._leaf.device):
            return recorded.gates, torch.autograd.grad(loss, wanted)

    def _first_slope(self) -> Kept:
        gates, (slope,) = self._first_pass([self._leaf], small=False)
        return gates, slope


def uncovered(passes: Passes, x: Tensor, y: Tensor) -> list[str]:
    """The operations of a pass whose kinks no gate holds, by name: over many rows some step of a difference flips them.

    On a few rows that may never be seen.
    """
    tensors = passes.tensors(passes.parameters)
    with torch.no_grad():
        with Recorded(passes.folds, tensors) as recorded:
            passes.loss(passes.laid(x), y)
        with Kinks() as kinks, Replayed(recorded.gates, passes.folds, tensors):
            passes.loss(passes.laid(x), y)
    return sorted(kinks.found)


def _moved(passes: Passes, direction: Sequence[Tensor], length: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The step as a share of ``direction``, a scalar, and the parameters moved by it."""
    whole = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(direction))))
    step = length / whole.clamp_min(torch.finfo(torch.float32).tiny)
    before = [p.detach() for p in passes.parameters.values()]
    moved = torch._foreach_add(before, torch._foreach_mul(list(direction), step))
    return step, dict(zip(passes.parameters, moved, strict=True))
