"""Training any torch module by gradient descent, step by step, as a function of the rows it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent

RowLosses = Callable[[Tensor, Tensor], Tensor]
"""Scores ``(n, c)`` and targets ``(n, c)`` to each row's loss ``(n,)``; as :meth:`ScoreLoss.value`."""
ModuleState = tuple[Tensor, ...]
"""Parameters that are trained, then their velocities where there is momentum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorRows:
    """Rows as a network sees them; brought to its device and precision where they are used."""

    inputs: Tensor
    """``(N, *shape)``."""
    targets: Tensor
    """``(N, c)``, real: soft labels."""
    weights: Tensor | None = None
    """``(N,)``: how much each row counts, or None for 1. The loss is the weighted sum over the number of rows."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.inputs)


class Seen(NamedTuple):
    """Rows that a loss is computed on: inputs ``(n, *shape)``, targets ``(n, c)`` and weights ``(n,)``."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor


class _Part(NamedTuple):
    """Which rows a step sees (None: all), and at which places (p,) of these stand which (p,) of the chosen ones."""

    rows: Tensor | None
    places: Tensor
    which: Tensor


class ModuleTraining:
    """A training whose steps are functions of the rows: of the chosen ones' inputs, and of all targets and weights."""

    def __init__(
        self,
        rows: TensorRows,
        *,
        model: nn.Module,
        losses: RowLosses,
        descent: Descent,
        chosen: Tensor | slice,
        labels: bool,
        l2_on_all: bool,
        rates: Sequence[float] | None,
        batches: Sequence[Tensor] | None,
    ) -> None:
        _check(model, len(rows), descent, rates, batches)
        self.model, self.losses, self.descent, self.labels = model, losses, descent, labels
        self.names = tuple(name for name, each in model.named_parameters() if each.requires_grad)
        self.starts = tuple(each.detach() for each in model.parameters() if each.requires_grad)
        self.decays = tuple(l2_on_all or each.ndim > 1 for each in self.starts)
        self.rates = tuple(rates) if rates is not None else (1.0,) * descent.steps
        self.inputs, self.targets, self.weights = self.brought(rows)
        place = self.inputs.device
        positions = torch.arange(len(rows), device=place)[chosen.to(place) if isinstance(chosen, Tensor) else chosen]
        self.chosen, self.order = torch.unique(positions, return_inverse=True)
        self.whole = batches is None
        self.parts = self._parts(batches)

    def brought(self, rows: TensorRows) -> Seen:
        """Rows on the network's device and in its precision."""
        like = self.starts[0]
        weights = torch.ones(len(rows)) if rows.weights is None else rows.weights
        return Seen(*(each.detach().to(like.device, like.dtype) for each in (rows.inputs, rows.targets, weights)))

    def leaves(self) -> ModuleState:
        """Inputs of the chosen rows, targets and weights of all, as leaves of a graph."""
        asked = (True, self.labels, self.labels)
        held = (self.inputs[self.chosen], self.targets, self.weights)
        return tuple(each.clone().requires_grad_(needed) for each, needed in zip(held, asked, strict=True))

    def begun(self) -> ModuleState:
        """Parameters, and with momentum their velocities, before the first step."""
        velocity = tuple(torch.zeros_like(each) for each in self.starts) if self.descent.momentum else ()
        return tuple(each.clone().requires_grad_() for each in self.starts) + velocity

    def seen(self, number: int, leaves: ModuleState) -> Seen:
        """The rows of a step, the leaves among them."""
        rows, places, which = self.parts[0 if self.whole else number]
        inputs, targets, weights = self.inputs, leaves[1], leaves[2]
        if rows is not None:
            inputs, targets, weights = inputs[rows], targets[rows], weights[rows]
        return Seen(inputs.index_copy(0, places, leaves[0][which]), targets, weights)

    def loss(self, state: ModuleState, seen: Seen) -> Tensor:
        """The weighted sum of the rows' losses over their number."""
        held = dict(zip(self.names, state[: len(self.names)], strict=True))
        found = self.losses(functional_call(self.model, held, (seen.inputs,)), seen.targets)
        if found.shape != seen.weights.shape:
            raise ConfigError(
                f"losses must give one number a row, shape ({len(seen.inputs)},), but gave {tuple(found.shape)}"
            )
        return (found * seen.weights).sum() / len(seen.weights)

    def stepped(self, number: int, state: ModuleState, seen: Seen, *, graph: bool) -> ModuleState:
        """The state after a step; with ``graph`` differentiable by the state before it and by the leaves."""
        count, how = len(self.names), self.descent
        parts, velocity = state[:count], state[count:]
        slopes = torch.autograd.grad(self.loss(parts, seen), parts, create_graph=graph, materialize_grads=True)
        moves = tuple(
            g + how.l2 * w if how.l2 and decays else g for g, w, decays in zip(slopes, parts, self.decays, strict=True)
        )
        if how.momentum:
            gradient, pairs = moves, zip(velocity, moves, strict=True)
            moves = velocity = tuple(how.momentum * v + (1 - how.dampening) * g for v, g in pairs)
            if how.nesterov:
                moves = tuple(g + how.momentum * v for g, v in zip(gradient, velocity, strict=True))
        share = how.lr * self.rates[number] * (1.0 if how.momentum else 1 - how.dampening)
        return tuple(w - share * v for w, v in zip(parts, moves, strict=True)) + velocity

    def graph_bytes(self) -> int:
        """What the graph of the largest step holds beyond the rows and the states before and after it."""
        sizes = [len(each.rows) for each in self.parts if each.rows is not None]
        number, state, leaves = sizes.index(max(sizes)) if sizes else 0, self.begun(), self.leaves()
        seen, held = self.seen(number, leaves), dict[int, int]()

        def noted(saved: Tensor) -> Tensor:
            held[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
            return saved

        with saved_tensors_hooks(noted, lambda saved: saved):
            after = self.stepped(number, state, seen, graph=True)
        shared = (*state, *leaves, *(seen if self.whole else ()))
        known = {each.untyped_storage().data_ptr() for each in (*shared, *after)}
        return sum(size for place, size in held.items() if place not in known)

    def _parts(self, batches: Sequence[Tensor] | None) -> list[_Part]:
        device = self.inputs.device
        if batches is None:
            return [_Part(None, self.chosen, torch.arange(len(self.chosen), device=device))]
        lookup = torch.full((len(self.inputs),), -1, device=device)
        lookup[self.chosen] = torch.arange(len(self.chosen), device=device)
        found = []
        for each in batches:
            rows = each.to(device)
            places = (lookup[rows] >= 0).nonzero()[:, 0]
            found.append(_Part(rows, places, lookup[rows][places]))
        return found


def _check(
    model: nn.Module, count: int, descent: Descent, rates: Sequence[float] | None, batches: Sequence[Tensor] | None
) -> None:
    if any(each.training for each in model.modules()):
        raise ConfigError(
            "the network is in training mode, where dropout and batch norm would make its training depend on more than "
            "its rows; call its eval() first"
        )
    if not any(each.requires_grad for each in model.parameters()):
        raise ConfigError("the network has no parameters that ask for gradients, so nothing would be trained")
    for name, given in (("rates", rates), ("batches", batches)):
        if given is not None and len(given) != descent.steps:
            raise ConfigError(f"{name} must have one entry a step, {descent.steps} in all, but has {len(given)}")
    for number, each in enumerate(batches or ()):
        if not len(each) or int(each.min()) < 0 or int(each.max()) >= count:
            raise ConfigError(f"batches[{number}] must name one row or more, by positions from 0 to {count - 1}")
