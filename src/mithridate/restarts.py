"""Descents that begin several times: what changes in one, and the best of those done, as they are noted."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Contest:
    """Restarts of which the worse half is given up again and again (successive halving), until one is left."""

    left: tuple[int, ...]
    """The restarts still in it."""
    halved: int = 0
    """How often half was given up."""
    scores: tuple[float, ...] = ()
    """Of the first of those left, since the last halving; lower is better."""
    states: Mapping[int, Checkpoint] = field(default_factory=dict)
    """Where each of those left stands, unless it has not begun."""

    @property
    def turn(self) -> int:
        """The restart to be continued next."""
        return self.left[len(self.scores)]

    def beside(self, state: Checkpoint, score: float) -> Contest:
        """After the restart whose turn it was came so far; when all have, the better half is kept, rounded up."""
        states = {**self.states, self.turn: state}
        scores = (*self.scores, math.inf if math.isnan(score) else score)
        if len(scores) < len(self.left):
            return replace(self, scores=scores, states=states)
        order = sorted(range(len(scores)), key=lambda place: scores[place])  # of equal ones the first
        kept = tuple(sorted(self.left[place] for place in order[: (len(order) + 1) // 2]))
        return Contest(left=kept, halved=self.halved + 1, states={k: states[k] for k in kept})

    def state(self, **parts: Checkpoint) -> Checkpoint:
        """What to note, beside other parts."""
        facts = {"left": list(self.left), "halved": self.halved, "scores": list(self.scores)}
        whole = Checkpoint(facts=facts).joined(**{str(k): each for k, each in self.states.items()})
        return Checkpoint().joined(contest=whole, **parts)

    @staticmethod
    def of(state: Checkpoint, restarts: int) -> Contest:
        """What was noted; of an empty state the beginning, with so many restarts."""
        if not state.facts:
            return Contest(left=tuple(range(restarts)))
        found = {k: state.under(str(k)) for k in state.facts["left"]}
        return Contest(
            left=tuple(state.facts["left"]),
            halved=state.facts["halved"],
            scores=tuple(state.facts["scores"]),
            states={k: each for k, each in found.items() if each.tensors},
        )


def halvings(steps: int, restarts: int) -> list[int]:
    """Steps after which the worse half is given up, and the last step: 31, 62, 125 and 250 for 8 restarts."""
    times = (restarts - 1).bit_length()
    return [max(1, steps >> (times - k)) for k in range(times)] + [steps]


@dataclass(kw_only=True, eq=False)
class Descent:
    """What changes from step to step of a restart."""

    change: torch.nn.Parameter
    """``(n, *shape)`` in normalised pixels."""
    optimiser: torch.optim.Optimizer
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
        step = int(state.facts["retrained"])
        self.retrained = (step, state.tensors["retrained"]) if step else None
