"""Descents that begin several times: what changes in one, and the best of those done, as they are noted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint, generator_state
from mithridate.dataset import Dataset
from mithridate.ops.standing import curve_of, curves_state, optimiser_state, restore_optimiser
from mithridate.poison import Poison


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The best poison of the restarts done."""

    restarts: int = 0
    poison: Poison | None = None
    score: float = math.inf

    def beside(self, poison: Poison, score: float) -> Best:
        """The better one of this and the poison of one restart more."""
        if score < self.score or self.poison is None:
            return Best(restarts=self.restarts + 1, poison=poison, score=math.inf if math.isnan(score) else score)
        return Best(restarts=self.restarts + 1, poison=self.poison, score=self.score)

    def state(self, **parts: Checkpoint) -> Checkpoint:
        """What to note, beside other parts."""
        facts: dict[str, object] = {"restarts": self.restarts, "score": self.score}
        if self.poison is None:
            return Checkpoint().joined(best=Checkpoint(facts=facts), **parts)
        facts["trace"] = {name: list(values) for name, values in self.poison.trace.items()}
        tensors = {"inputs": self.poison.rows.inputs}
        return Checkpoint().joined(best=Checkpoint(tensors=tensors, facts=facts), **parts)

    @staticmethod
    def of(state: Checkpoint, rows: Dataset) -> Best:
        """What was noted of poison on ``rows``; nothing, of an empty state."""
        facts, poison = state.facts, None
        if "trace" in facts:
            trace = {name: tuple(values) for name, values in facts["trace"].items()}
            poison = Poison(rows=replace(rows, inputs=state.tensors["inputs"]), trace=trace)
        return Best(restarts=facts["restarts"], poison=poison, score=facts["score"]) if facts else Best()


@dataclass(kw_only=True, eq=False)
class Descent:
    """What changes from step to step of a restart."""

    change: torch.nn.Parameter
    """``(n, *shape)`` in normalised pixels."""
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.MultiStepLR
    draws: torch.Generator
    loss: list[Tensor] = field(default_factory=list)
    alignment: list[Tensor] = field(default_factory=list)
    retrained: tuple[int, Tensor] | None = None
    """The step before which the surrogates were last trained again, and the change they were trained on."""

    def state(self) -> Checkpoint:
        """After a step."""
        step, at = self.retrained or (0, self.change[:0])
        tensors = {"change": self.change, "draws": generator_state(self.draws), "retrained": at}
        return Checkpoint(tensors=tensors, facts={"retrained": step}).joined(
            optimiser=optimiser_state(self.optimiser),
            curves=curves_state({"loss": self.loss, "alignment": self.alignment}),
        )

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state."""
        self.change.data = state.tensors["change"]
        self.draws.set_state(state.tensors["draws"].cpu())
        restore_optimiser(self.optimiser, state.under("optimiser"))
        self.loss, self.alignment = (curve_of(state.under("curves"), name) for name in ("loss", "alignment"))
        done = len(self.loss)
        self.schedule.load_state_dict({"last_epoch": done, "_step_count": done + 1})  # the rate is the optimiser's
        step = int(state.facts["retrained"])
        self.retrained = (step, state.tensors["retrained"]) if step else None
