"""Derivatives that couple inputs and parameters: how a function of the parameter gradient changes with the inputs.

Let ``g(x) = constant + scale * sum_i dL(x_i)/dtheta`` and ``J`` any scalar function of ``g``. With ``w = dJ/dg``,
``dJ/dx = scale * d/dx <w, sum_i dL(x_i)/dtheta>``: one mixed partial in a constant direction. Two consequences are used
here. Rows can be handled in micro-batches (first pass: ``g``; then ``w``; second pass: the mixed partial of each
part), with the same value as all at once. And no graph of second order is needed: the mixed partial is the derivative
of ``dL/dx`` along ``w`` in parameter space, a difference of two first-order gradients (``gated``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mithridate.ops.gates import Recorded, Replayed

Backend = Literal["auto", "double", "gated"]
Criterion = Callable[[Tensor, Tensor], Tensor]
"""Logits ``(n, C)`` and labels ``(n,)`` to the *sum* of the losses, a scalar."""
Objective = Callable[[Sequence[Tensor]], Tensor]
"""The parameter gradient, one tensor a parameter, to a scalar."""

GATED_STEP = 1e-4
"""Length of the parameter step of the ``gated`` difference. Measured: cosine above 0.99999 to double backward in
float32 (``tests/ops/test_gradients.py`` checks it)."""
GATED_AGREEMENT = 0.999
"""Cosine to double backward below which ``gated`` is not trusted with a network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """An objective of the parameter gradient, and its derivative in the inputs."""

    value: Tensor
    """The objective, a scalar."""
    inputs: Tensor
    """Its derivative in the inputs, ``(n, *shape)``."""
    parameters: tuple[Tensor, ...]
    """The parameter gradient ``g`` that it was computed from."""


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters, detached copies of the names to values, each asking for gradients."""
    return {name: p.detach().requires_grad_(True) for name, p in model.named_parameters() if p.requires_grad}


def parameter_gradient(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, criterion: Criterion, micro_batch: int = 512
) -> tuple[Tensor, ...]:
    """Sum over rows of ``dL/dtheta``, one tensor for each trainable parameter, without a graph."""
    parameters = parameters_of(model)
    total = [torch.zeros_like(p) for p in parameters.values()]
    for x, y in zip(torch.split(inputs, micro_batch), torch.split(labels, micro_batch), strict=True):
        loss = criterion(functional_call(model, parameters, (x,)), y)
        torch._foreach_add_(total, list(torch.autograd.grad(loss, list(parameters.values()))))
    return tuple(total)


def matched(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    objective: Objective,
    criterion: Criterion,
    scale: float,
    constant: Sequence[Tensor] | None = None,
    micro_batch: int = 128,
    backend: Literal["double", "gated"] = "double",
) -> Matched:
    """The objective of ``g = constant + scale * sum_i dL_i/dtheta``, and its derivative in ``inputs`` ``(n, *shape)``.

    The value does not depend on ``micro_batch``. The model must act on each row alone (batch norm in evaluation mode).
    """
    parameters = parameters_of(model)
    part = _Double if backend == "double" else _Gated
    splits = list(zip(torch.split(inputs.detach(), micro_batch), torch.split(labels, micro_batch), strict=True))
    parts = [part(model, parameters, x, y, criterion=criterion, alone=len(splits) == 1) for x, y in splits]
    gradient = [sum((each.gradient[k] for each in parts), start=torch.zeros(())) for k in range(len(parameters))]
    gradient = [g.to(inputs) * scale for g in gradient]
    if constant is not None:
        gradient = [g + c for g, c in zip(gradient, constant, strict=True)]
    value, direction = _direction(objective, gradient)
    derivative = torch.cat([each.mixed(direction) for each in parts]) * scale
    return Matched(value=value, inputs=derivative, parameters=tuple(gradient))


def mixed_partial(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    direction: Sequence[Tensor],
    *,
    criterion: Criterion,
    backend: Literal["double", "gated"] = "double",
) -> Tensor:
    """``d/dx <direction, sum_i dL(x_i)/dtheta>``, shape of ``inputs``; ``direction`` has one tensor a parameter."""
    part = _Double if backend == "double" else _Gated
    return part(model, parameters_of(model), inputs.detach(), labels, criterion=criterion, alone=True).mixed(direction)


def trusted_backend(
    backend: Backend, model: nn.Module, inputs: Tensor, labels: Tensor, *, criterion: Criterion
) -> Literal["double", "gated"]:
    """The backend to use: ``auto`` is ``gated`` on a CPU where it agrees with double backward on these rows.

    On CUDA ``auto`` is ``double``, since the difference drowns in TF32 rounding.
    """
    if backend != "auto":
        return backend
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32:
        return "double"
    direction = parameter_gradient(model, inputs, labels, criterion=criterion)
    exact = mixed_partial(model, inputs, labels, direction, criterion=criterion)
    quick = mixed_partial(model, inputs, labels, direction, criterion=criterion, backend="gated")
    cosine = torch.nn.functional.cosine_similarity(exact.flatten(), quick.flatten(), dim=0)
    return "gated" if float(cosine) > GATED_AGREEMENT else "double"


def _direction(objective: Objective, gradient: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The objective and its derivative in the gradient."""
    leaves = [g.detach().requires_grad_(True) for g in gradient]
    value = objective(leaves)
    slopes = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(g) if s is None else s for g, s in zip(leaves, slopes, strict=True)]


class _Double:
    """Some rows by double backward: the exact reference. The graph of the first pass is kept only if they are alone."""

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
        *,
        criterion: Criterion,
        alone: bool,
    ) -> None:
        self._model, self._parameters, self._criterion = model, parameters, criterion
        self._x, self._y = x, y
        self._graph = self._first_pass() if alone else None
        if self._graph is not None:
            self.gradient = [g.detach() for g in self._graph[1]]
        else:
            self.gradient = list(parameter_gradient(model, x, y, criterion=criterion, micro_batch=len(x)))

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        leaf, gradient = self._graph or self._first_pass()
        product = sum((torch.sum(g * d) for g, d in zip(gradient, direction, strict=True)), start=torch.zeros(()))
        return torch.autograd.grad(product, leaf)[0]

    def _first_pass(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaf = self._x.detach().requires_grad_(True)
        loss = self._criterion(functional_call(self._model, self._parameters, (leaf,)), self._y)
        return leaf, torch.autograd.grad(loss, list(self._parameters.values()), create_graph=True)


class _Gated:
    """Some rows by one one-sided difference with the gates of the first pass replayed."""

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
        *,
        criterion: Criterion,
        alone: bool,
    ) -> None:
        self._model, self._parameters, self._criterion = model, parameters, criterion
        self._y = y
        self._leaf = x.detach().requires_grad_(True)
        self._kept: tuple[list[Tensor], Tensor] | None = None
        if alone:
            gates, (*self.gradient, slope) = self._first_pass([*parameters.values(), self._leaf])
            self._kept = (gates, slope)
        else:  # gates are as large as activations: kept for one part, recorded again for each of many
            self.gradient = list(parameter_gradient(model, x, y, criterion=criterion, micro_batch=len(x)))

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        gates, before = self._kept or self._first_slope()
        length = torch.sqrt(sum((torch.sum(d * d) for d in direction), start=torch.zeros(())))
        step = GATED_STEP / length.clamp_min(torch.finfo(torch.float32).tiny)
        moved = {name: p.detach() + step * d for (name, p), d in zip(self._parameters.items(), direction, strict=True)}
        with Replayed(gates):
            loss = self._criterion(functional_call(self._model, moved, (self._leaf,)), self._y)
        slope = torch.autograd.grad(loss, self._leaf)[0]
        return (slope - before) / step

    def _first_pass(self, wanted: Sequence[Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The gates, and the derivatives of the loss in ``wanted``."""
        with Recorded() as recorded:
            loss = self._criterion(functional_call(self._model, self._parameters, (self._leaf,)), self._y)
        return recorded.gates, torch.autograd.grad(loss, wanted)

    def _first_slope(self) -> tuple[list[Tensor], Tensor]:
        """The gates, and the derivative of the loss in the inputs."""
        gates, (slope,) = self._first_pass([self._leaf])
        return gates, slope
