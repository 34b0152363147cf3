"""What Convex and Bullseye Polytope share: Adam on the poison pixels against a distance to the target."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.errors import ConfigError
from mithridate.feature_attack import FeatureAttack, Placing, report
from mithridate.notes import Notes
from mithridate.ops.optimisers import Adam, Momentum
from mithridate.ops.standing import (
    curve_of,
    curves_state,
    optimiser_state,
    random_state,
    restore_optimiser,
    restore_random_state,
)
from mithridate.watch import Watch


@dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """How far the poison is from where it should be, in one network."""

    loss: Tensor
    """``(T,)``: what is descended on."""
    distance: Tensor
    """``(T,)``: from the target to the point of the poisons that is to meet it, over the target's length."""


@dataclass(frozen=True, kw_only=True)
class PolytopeAttack(FeatureAttack):
    """An attack that makes a combination of its poisons' features meet the target."""

    steps: int
    step_size: float = 0.04
    """Step size in normalised pixels. Papers: 0.04."""
    optimiser: Literal["adam", "signed-adam", "sgd"] = "adam"
    """How steps are made. Papers: Adam; the code also has steps of full size along the signs of Adam's, and SGD."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot craft."""
        super().__post_init__()
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, but it is {self.steps}")
        if not self.step_size > 0:
            raise ConfigError(f"step_size must be positive, but it is {self.step_size:g}")

    @abstractmethod
    def objective(self, place: Placing, network: int, points: list[Tensor]) -> Objective:
        """How far the poison is off in one network, whose layers show ``points``, each ``(T, k, *map)``."""

    @final
    def descend(self, place: Placing, watch: Watch, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """A step, then back into the allowed set, as often as ``steps`` says."""
        unit, count = place.unit(), len(place.recorders)
        run = _Descent.begun(self, place)
        noted = notes.read(device=place.clean.device)
        if noted:
            run.restore(noted)
        change = run.change
        for step in range(len(run.losses), self.steps):
            run.optimiser.zero_grad(set_to_none=True)
            found = []
            for network in range(count):
                each = self.objective(place, network, place.points(network, place.clean + change * unit))
                (each.loss.sum() / count).backward()  # type: ignore[no-untyped-call]
                found.append(each)
            before = change.detach().clone()
            run.optimiser.step()
            if self.optimiser == "signed-adam":
                change.data = before + self.step_size * (change.data - before).sign()
            change.data = (place.allowed(place.clean + change.data * unit) - place.clean) / unit
            run.losses.append(torch.stack([each.loss.detach() for each in found]).mean(0))
            run.distances.append(torch.stack([each.distance for each in found]))  # (networks, T)
            notes.take(run.state)
            report(watch, step + 1, self.steps, run.losses[-1])
        curves = {"loss": torch.stack(run.losses)} | named_distances(torch.stack(run.distances))
        return place.allowed(place.clean + change.data * unit), curves


@dataclass(kw_only=True, eq=False)
class _Descent:
    """What changes from step to step."""

    change: torch.nn.Parameter
    """``(T, k, *shape)`` in normalised pixels."""
    optimiser: torch.optim.Optimizer
    losses: list[Tensor] = field(default_factory=list)
    distances: list[Tensor] = field(default_factory=list)

    @staticmethod
    def begun(attack: PolytopeAttack, place: Placing) -> _Descent:
        """Before the first step."""
        change, rate = torch.nn.Parameter(torch.zeros_like(place.clean)), attack.step_size
        kind = Momentum if attack.optimiser == "sgd" else Adam
        return _Descent(change=change, optimiser=kind([{"params": [change]}], lr=rate))

    def state(self) -> Checkpoint:
        """After a step."""
        return Checkpoint(tensors={"change": self.change}).joined(
            optimiser=optimiser_state(self.optimiser),
            curves=curves_state({"losses": self.losses, "distances": self.distances}),
            random=random_state(self.change.device),
        )

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state."""
        self.change.data = state.tensors["change"]
        restore_optimiser(self.optimiser, state.under("optimiser"))
        self.losses, self.distances = (curve_of(state.under("curves"), name) for name in ("losses", "distances"))
        restore_random_state(state.under("random"), self.change.device)


def named_distances(distances: Tensor) -> dict[str, Tensor]:
    """Distances ``(steps, networks, T)`` as a curve ``(steps, T)`` for each network."""
    return {f"distance to the target, network {k + 1}": each for k, each in enumerate(distances.unbind(1))}
