"""Where a descent stands, part by part, as checkpoints: its optimiser, torch's own random states, its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint


def optimiser_state(optimiser: torch.optim.Optimizer) -> Checkpoint:
    """Learning rates and moments of an optimiser, the tensors themselves: they change with its next step."""
    tensors = {
        f"{k}/{name}": value
        for k, each in enumerate(_parameters(optimiser))
        for name, value in optimiser.state[each].items()
        if isinstance(value, Tensor)
    }
    return Checkpoint(tensors=tensors, facts={"rates": [group["lr"] for group in optimiser.param_groups]})


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Checkpoint) -> None:
    """Go on with the rates and moments of an equal optimiser, whose parameters are as they were."""
    for group, rate in zip(optimiser.param_groups, state.facts["rates"], strict=True):
        group["lr"] = rate
    for k, each in enumerate(_parameters(optimiser)):
        for name, value in state.under(str(k)).tensors.items():
            alike = value.shape == each.shape  # else a count of steps, which optimisers keep on the CPU
            optimiser.state[each][name] = value.clone() if alike else value.cpu()


def random_state(device: torch.device) -> Checkpoint:
    """The states of torch's own generators that draws on ``device`` come from (dropout knows no others)."""
    on_device = {"device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return Checkpoint(tensors={"cpu": torch.get_rng_state(), **on_device})


def restore_random_state(state: Checkpoint, device: torch.device) -> None:
    """Go on with those states."""
    torch.set_rng_state(state.tensors["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.tensors["device"].cpu(), device)


def curves_state(curves: Mapping[str, Sequence[Tensor]]) -> Checkpoint:
    """Curves as they have grown, values of one shape at each step: ``(steps, *shape)``; none before the first step."""
    return Checkpoint(tensors={name: torch.stack(list(values)) for name, values in curves.items() if values})


def curve_of(state: Checkpoint, name: str) -> list[Tensor]:
    """The values of a curve at each step."""
    return list(state.tensors[name].unbind()) if name in state.tensors else []


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [each for group in optimiser.param_groups for each in group["params"]]
