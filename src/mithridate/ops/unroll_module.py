"""Hypergradients of any network: how a validation loss after training changes with the rows that were trained on.

What :mod:`~mithridate.ops.unroll` does for dense networks by formulas, autograd does here for any torch module:
``unroll`` holds one graph through all steps, ``stored`` the states and differentiates one step at a time (double
backward), ``checkpointed`` every ``sqrt(T)``-th state and steps through the rest again. All three are exact. The first
is the fastest on small networks and takes the most memory; ``auto`` takes it where it fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mithridate.ops.descent import Descent
from mithridate.ops.module_training import ModuleState, ModuleTraining, RowLosses, Seen, TensorRows

ModuleMethod = Literal["auto", "unroll", "stored", "checkpointed"]

MEMORY = 1 << 30
"""Bytes that ``auto`` may let the graph through all steps, or all states, take."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleHypergradient:
    """A validation loss after training, and its derivatives, on the network's device and in its precision."""

    value: float
    """Mean loss of the validation rows after training."""
    inputs: Tensor
    """``(q, *shape)`` by the inputs of the chosen training rows."""
    targets: Tensor
    """``(N, c)`` by the targets of all training rows; 0 unless asked for."""
    weights: Tensor
    """``(N,)`` by the weights of all training rows; 0 unless asked for."""
    method: Literal["unroll", "stored", "checkpointed"]
    """How it was computed."""


def module_hypergradient(
    rows: TensorRows,
    validation: TensorRows,
    *,
    model: nn.Module,
    losses: RowLosses,
    descent: Descent,
    chosen: Tensor | slice,
    method: ModuleMethod = "auto",
    labels: bool = False,
    l2_on_all: bool = False,
    rates: Sequence[float] | None = None,
    batches: Sequence[Tensor] | None = None,
    memory: int = MEMORY,
) -> ModuleHypergradient:
    """Train a copy of ``model``, beginning at its parameters, on ``rows``, then go back.

    ``chosen`` are the positions ``(q,)`` of the rows whose inputs may move; ``labels`` asks for the derivatives by
    targets and weights too. Parameters that ask for no gradient stay as they are. ``descent.l2`` is for parameters of
    two dimensions or more (weights), with ``l2_on_all`` for all of them, as torch's SGD has it. ``rates`` are factors
    of ``descent.lr``, and ``batches`` the positions of the rows of each step (a mini-batch's loss is the weighted sum
    over its own number of rows); without them every step has the same rate and all rows. ``memory`` is for ``auto``.

    The network is seen as in evaluation, without dropout and with batch statistics frozen. Raises
    :class:`ConfigError` for one in training mode or without parameters to train, and for settings that do not fit.
    """
    training = ModuleTraining(
        rows,
        model=model,
        losses=losses,
        descent=descent,
        chosen=chosen,
        labels=labels,
        l2_on_all=l2_on_all,
        rates=rates,
        batches=batches,
    )
    seen = training.brought(validation)
    taken = _affordable(training, memory) if method == "auto" else method
    if taken == "unroll":
        value, found = _unrolled(training, seen)
    else:
        every = math.isqrt(descent.steps - 1) + 1 if taken == "checkpointed" else descent.steps
        value, found = _swept(training, seen, every)
    return ModuleHypergradient(
        value=value, inputs=found[0][training.order], targets=found[1], weights=found[2], method=taken
    )


def _affordable(training: ModuleTraining, memory: int) -> Literal["unroll", "stored", "checkpointed"]:
    """The fastest method whose graph or states fit, as far as one step tells."""
    steps, state = training.descent.steps, sum(each.nbytes for each in training.begun())
    if steps * state > memory:
        return "checkpointed"
    return "unroll" if steps * (state + training.graph_bytes()) <= memory else "stored"


def _unrolled(training: ModuleTraining, validation: Seen) -> tuple[float, ModuleState]:
    """One graph through all steps."""
    leaves, state = training.leaves(), training.begun()
    whole = training.seen(0, leaves) if training.whole else None
    for number in range(training.descent.steps):
        state = training.stepped(number, state, whole or training.seen(number, leaves), graph=True)
    value = training.loss(state, validation)
    return float(value.detach()), _derivatives((value,), leaves, None)


def _swept(training: ModuleTraining, validation: Seen, every: int) -> tuple[float, ModuleState]:
    """Back through the steps one at a time, from states kept at every ``every``-th step."""
    state, kept, leaves = training.begun(), list[ModuleState](), training.leaves()
    fixed = tuple(each.detach() for each in leaves)
    for number in range(training.descent.steps):
        if number % every == 0:
            stretch = []
            kept.append(state)
        stretch.append(state)
        state = _onward(training, number, state, fixed)
    value = training.loss(state, validation)
    adjoint = torch.autograd.grad(value, state, materialize_grads=True)
    total = tuple(torch.zeros_like(each) for each in fixed)
    for number, state in _backwards(training, kept, stretch, every, fixed):
        before = tuple(each.detach().requires_grad_() for each in state)
        after = training.stepped(number, before, training.seen(number, leaves), graph=True)
        found = _derivatives(after, (*before, *leaves), adjoint)
        adjoint = found[: len(before)]
        total = tuple(t + each for t, each in zip(total, found[len(before) :], strict=True))
    return float(value.detach()), total


def _onward(training: ModuleTraining, number: int, state: ModuleState, fixed: ModuleState) -> ModuleState:
    """A step without a graph."""
    after = training.stepped(number, state, training.seen(number, fixed), graph=False)
    return tuple(each.detach().requires_grad_() for each in after)


def _backwards(
    training: ModuleTraining, kept: list[ModuleState], stretch: list[ModuleState], every: int, fixed: ModuleState
) -> Iterator[tuple[int, ModuleState]]:
    """The states before each step, the last first; those not kept are stepped through again."""
    for part in range(len(kept) - 1, -1, -1):
        if part < len(kept) - 1:
            stretch = [kept[part]]
            for number in range(part * every, (part + 1) * every - 1):
                stretch.append(_onward(training, number, stretch[-1], fixed))
        for place in range(len(stretch) - 1, -1, -1):
            yield part * every + place, stretch[place]


def _derivatives(of: ModuleState, by: ModuleState, adjoint: ModuleState | None) -> ModuleState:
    """``adjoint`` times the derivatives of ``of``; 0 by what asks for none."""
    asked = [each for each in by if each.requires_grad]
    found = iter(torch.autograd.grad(of, asked, adjoint, materialize_grads=True))
    return tuple(next(found) if each.requires_grad else torch.zeros_like(each) for each in by)
