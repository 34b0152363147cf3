"""Derivatives that couple inputs and parameters: how a function of the parameter gradient changes with the inputs.

Let ``g(x) = constant + scale * sum_i dL(x_i)/dtheta`` and ``J`` any scalar function of ``g``. With ``w = dJ/dg``,
``dJ/dx = scale * d/dx <w, sum_i dL(x_i)/dtheta>``: one mixed partial in a constant direction. Two consequences are used
here. Rows can be handled in micro-batches (first pass: ``g``; then ``w``; second pass: the mixed partial of each
part), with the same value as all at once. And no graph of second order is needed: the mixed partial is the derivative
of ``dL/dx`` along ``w`` in parameter space, by forward mode or as a difference of two first-order gradients. The ways
to compute it are in :mod:`mithridate.ops.mixed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from mithridate.ops.compiling import Compiled
from mithridate.ops.mixed import Budget, Double, GatedDifference, Part, ReverseOverForward, Smoothed, uncovered
from mithridate.ops.passes import Criterion, Passes, Precision, parameters_of

__all__ = ["Backend", "Criterion", "Derivatives", "Matched", "Objective", "Precision", "matched", "mixed_partial"]
__all__ += ["parameter_gradient", "parameters_of"]

Chosen = Literal["double", "reverse-over-forward", "gated-difference", "smoothed", "compiled"]
Backend = Literal["auto", "double", "reverse-over-forward", "gated-difference", "smoothed", "compiled", "gated"]
"""Ways to compute a mixed partial; ``gated`` is the older name of ``gated-difference``."""
Objective = Callable[[Sequence[Tensor]], Tensor]
"""The parameter gradient, one tensor a parameter, to a scalar."""

AGREEMENT = 0.999
"""Cosine to plain double backward below which a faster way is not trusted with a network."""
ROUNDED_AGREEMENT = 0.97
"""The same where products are rounded to fewer bits than float32 has."""
PROBED = 8
"""Rows on which that is found out."""
PART = 64
"""Rows differentiated at once on a CPU at most: more are no faster, and their activations leave the caches."""
_PARTS: Mapping[Chosen, Callable[..., Part]] = MappingProxyType(
    {
        "double": Double,
        "reverse-over-forward": ReverseOverForward,
        "gated-difference": GatedDifference,
        "smoothed": Smoothed,
        "compiled": Compiled,
    }
)
EXACT: frozenset[Backend] = frozenset({"double", "reverse-over-forward", "compiled"})
"""Backends without differences: these alone work in few bits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """An objective of the parameter gradient, and its derivative in the inputs."""

    value: Tensor
    """The objective, a scalar."""
    inputs: Tensor
    """Its derivative in the inputs, ``(n, *shape)``."""
    parameters: tuple[Tensor, ...]
    """The parameter gradient ``g`` that it was computed from."""


class Derivatives:
    """The derivatives of one network with fixed weights, by one backend, which is tried on a few rows first.

    The model must act on each row alone (batch norm in evaluation mode).
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        *,
        criterion: Criterion,
        backend: Backend = "auto",
        precision: Precision = "float32",
        micro_batch: int = 128,
    ) -> None:
        """``inputs`` ``(n, *shape)``, ``labels`` ``(n,)``: rows like those to come, of which a few are tried.

        ``auto`` is ``gated-difference`` on a CPU in float32 where gates hold every kink of the network and the loss and
        it agrees with double backward on them, else exact:
        ``reverse-over-forward`` where the network can be carried forward, else ``double``. ``compiled`` is asked for
        by name: compiling takes tens of seconds a network.
        """
        self.note = ""
        """Why the backend is not the one asked for; empty where it is."""
        self._model, self._criterion, self._precision = model, criterion, precision
        few = inputs[:PROBED].detach(), labels[:PROBED]
        self.backend: Chosen
        self.backend, self._passes = self._chosen(backend, *few)
        small = inputs.device.type == "cpu" and self.backend != "double"
        self._micro_batch = min(micro_batch, PART) if small else micro_batch

    def gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Sum over rows of ``dL/dtheta``, one tensor for each trainable parameter, without a graph."""
        found: list[Tensor] | None = None
        for x, y in self._split(inputs, labels):
            part = self._passes.gradient(x, y)
            found = _added(found, part)
        return tuple(found or [])

    def mixed(self, inputs: Tensor, labels: Tensor, direction: Sequence[Tensor]) -> Tensor:
        """``d/dx <direction, sum_i dL(x_i)/dtheta>``, shape of ``inputs``; ``direction`` has one tensor a parameter."""
        return torch.cat([part.mixed(direction) for part in self._parts(inputs, labels)])

    def matched(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        objective: Objective,
        scale: float,
        constant: Sequence[Tensor] | None = None,
    ) -> Matched:
        """The objective of ``g = constant + scale * sum_i dL_i/dtheta``, and its derivative in ``inputs``.

        The value does not depend on the micro-batch but for rounding.
        """
        parts, total = self._parts(inputs, labels), None
        for part in parts:
            total = _added(total, part.gradient)
            part.gradient = ()
        gradient = list(torch._foreach_mul(total or [], scale))
        if constant is not None:
            torch._foreach_add_(gradient, list(constant))
        value, direction = _direction(objective, gradient)
        slopes = [part.mixed(direction) for part in parts]
        return Matched(value=value, inputs=torch.cat(slopes) * scale, parameters=tuple(gradient))

    def _parts(self, inputs: Tensor, labels: Tensor) -> list[Part]:
        splits, budget = self._split(inputs, labels), Budget()
        kind = _PARTS[self.backend]
        return [kind(self._passes, x, y, alone=len(splits) == 1, budget=budget) for x, y in splits]

    def _split(self, inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = self._micro_batch
        return list(zip(torch.split(inputs.detach(), size), torch.split(labels, size), strict=True))

    def _chosen(self, asked: Backend, x: Tensor, y: Tensor) -> tuple[Chosen, Passes]:
        """The backend to use, and the passes that it makes."""
        if asked == "gated":
            asked = "gated-difference"
        wanted: tuple[Chosen, ...] = (asked,) if asked != "auto" else self._candidates(x)
        reasons: list[str] = []
        for each in (*wanted, *(("reverse-over-forward",) if asked == "compiled" else ())):
            passes, reason = self._tried(each, x, y, obeyed=each == asked)
            if passes is not None:
                self.note = "; ".join(reasons)
                return each, passes
            reasons.append(f"{each} cannot be used with this network ({reason})")
        self.note = "; ".join(reasons)
        return "double", self._plain()

    def _candidates(self, x: Tensor) -> tuple[Chosen, ...]:
        """What ``auto`` may become, in order; double backward comes after all."""
        if x.device.type == "cuda":
            return ("reverse-over-forward",)
        return ("gated-difference", "reverse-over-forward") if self._differences(x) else ("double",)

    def _differences(self, x: Tensor) -> bool:
        """Whether there are bits enough for a difference over a small step."""
        return self._precision == "float32" and x.dtype == torch.float32

    def _tried(self, backend: Chosen, x: Tensor, y: Tensor, *, obeyed: bool) -> tuple[Passes | None, str]:
        """Passes in the fastest layout in which a backend is right on a few rows; None and the reason if in none.

        A difference that was asked for by name is taken even where it is far from double backward.
        """
        if backend == "double":
            return self._plain(), ""
        plain = Passes(self._model, criterion=self._criterion)
        exact = Double(plain, x, y, alone=True, budget=Budget())
        direction, reason = list(exact.gradient), ""
        slope = exact.mixed(direction)
        least = AGREEMENT if self._precision == "float32" else ROUNDED_AGREEMENT
        for last, folded in _layouts(x):
            passes = Passes(self._model, criterion=self._criterion, precision=self._precision, channels_last=last)
            try:
                if folded:
                    passes.fold(passes.laid(x), y)
                part = _PARTS[backend](passes, x, y, alone=True, budget=Budget())
                agreement = _cosine(part.gradient, direction), _cosine([part.mixed(direction)], [slope])
            except (RuntimeError, StopIteration) as error:
                reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])
                continue
            kinks = uncovered(passes, x, y) if backend == "gated-difference" and not obeyed else []
            if kinks:
                return None, f"no gate holds the kinks of {', '.join(kinks)}"
            if agreement[0] > least and (agreement[1] > least or (obeyed and backend not in EXACT)):
                return passes, ""
            reason = f"cosine {min(agreement):.4f} to double backward"
        return None, reason

    def _plain(self) -> Passes:
        return Passes(self._model, criterion=self._criterion, precision=self._precision)


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
    backend: Backend = "double",
    precision: Precision = "float32",
) -> Matched:
    """The objective of ``g = constant + scale * sum_i dL_i/dtheta``, and its derivative in ``inputs`` ``(n, *shape)``.

    The value does not depend on ``micro_batch``. The model must act on each row alone (batch norm in evaluation mode).
    For many calls with one network, make its :class:`Derivatives` once.
    """
    found = Derivatives(
        model,
        inputs,
        labels,
        criterion=criterion,
        backend=backend,
        precision=precision,
        micro_batch=micro_batch,
    )
    return found.matched(inputs, labels, objective=objective, scale=scale, constant=constant)


def mixed_partial(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    direction: Sequence[Tensor],
    *,
    criterion: Criterion,
    backend: Backend = "double",
    precision: Precision = "float32",
) -> Tensor:
    """``d/dx <direction, sum_i dL(x_i)/dtheta>``, shape of ``inputs``; ``direction`` has one tensor a parameter."""
    found = Derivatives(model, inputs, labels, criterion=criterion, backend=backend, precision=precision)
    return found.mixed(inputs, labels, direction)


def parameter_gradient(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, criterion: Criterion, micro_batch: int = 512
) -> tuple[Tensor, ...]:
    """Sum over rows of ``dL/dtheta``, one tensor for each trainable parameter, without a graph."""
    passes = Passes(model, criterion=criterion)
    total = [torch.zeros_like(p) for p in passes.parameters.values()]
    for x, y in zip(torch.split(inputs, micro_batch), torch.split(labels, micro_batch), strict=True):
        torch._foreach_add_(total, list(passes.gradient(x, y)))
    return tuple(total)


def _layouts(x: Tensor) -> list[tuple[bool, bool]]:
    """Channels last and folded norms, then less: a network may view its activations as they lie in memory."""
    return ([(True, True)] if x.ndim == 4 else []) + [(False, True), (False, False)]


def _cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Of all tensors as one vector; 1 where both are zero."""
    one, other = (torch.cat([each.flatten().double() for each in side]) for side in (a, b))
    if not (one.any() or other.any()):
        return 1.0
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def _added(total: list[Tensor] | None, part: Sequence[Tensor]) -> list[Tensor]:
    """A running sum; it starts as a copy of the first part."""
    if total is None:
        return [each.clone() for each in part]
    torch._foreach_add_(total, list(part))
    return total


def _direction(objective: Objective, gradient: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The objective and its derivative in the gradient."""
    leaves = [g.detach().requires_grad_(True) for g in gradient]
    value = objective(leaves)
    slopes = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(g) if s is None else s for g, s in zip(leaves, slopes, strict=True)]
