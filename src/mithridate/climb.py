"""A climb: rows of poison moved, step by step, up (or down) the validation loss of a training, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mithridate.bilevel import Bilevel, Steering
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset
from mithridate.flipping import Begun
from mithridate.threat import ThreatModel

if TYPE_CHECKING:
    from mithridate.attacks.back_gradient import BackGradient


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A poison: where it was computed, and what its valid rows do."""

    inputs: Tensor
    """``(q, *shape)`` float64, natural units."""
    labels: Tensor
    """``(q,)``."""
    score: float
    """The attacker's objective with valid rows; higher is better."""

    def state(self) -> Checkpoint:
        """As a checkpoint."""
        return Checkpoint(tensors={"inputs": self.inputs, "labels": self.labels}, facts={"score": self.score})

    @staticmethod
    def of(state: Checkpoint) -> Point:
        """The poison in such a checkpoint."""
        return Point(**state.tensors, score=state.facts["score"])


class Climb:
    """What one search knows: the problem, where rows may go, and what it has seen."""

    def __init__(
        self, attack: BackGradient, threat: ThreatModel, rows: Begun, data: Dataset, problem: Bilevel, sign: float
    ) -> None:
        """Nothing is seen yet. ``sign`` is 1 where the loss is to rise, -1 where it is to fall."""
        self.attack, self.threat, self.data, self.problem, self.sign = attack, threat, data, problem, sign
        self.origins = rows.inputs
        self.replaced = data.rows(rows.replaced).labels  # (q,) true classes, or (0,) where rows are appended
        self.unit = data.space.unit(rows.inputs).double()
        self.objective: list[float] = []
        self.drift: list[float] = []

    @property
    def trace(self) -> dict[str, tuple[float, ...]]:
        """The objective at each step; with approximate reversal, how far the recovered start was off."""
        return {"objective": tuple(self.objective), **({"drift": tuple(self.drift)} if self.drift else {})}

    def valid(self, inputs: Tensor, origins: Tensor) -> Tensor:
        """The rows that ``inputs`` would be released as, float64: of a table, the nearest valid ones allowed."""
        space = self.data.space
        allowed = self.threat.perturbation.project(inputs.float(), origins, space)
        if space.layout is None:
            return allowed.double()
        near = space.quantise(allowed)
        kept = self.threat.inside(near, origins, space)[:, None]  # rounding may lead out of a radius
        return torch.where(kept, near, space.layout.towards(allowed, origins)).double()

    def steering(self, inputs: Tensor, labels: Tensor, origins: Tensor) -> Steering:
        """The objective at the valid rows, and its slope there. A step's first sight of a place."""
        attack = self.attack
        repick = attack.labels == "repick" and self.threat.labels == "dirty"
        found = self.problem.steering(
            self.valid(inputs, origins), labels, method=attack.method, last=attack.last, by_labels=repick
        )
        for curve, value in ((self.objective, found.value), (self.drift, found.facts.get("drift", math.nan))):
            if math.isfinite(value):
                curve.append(value)
        return found

    def score(self, inputs: Tensor, labels: Tensor, origins: Tensor) -> float:
        """The attacker's objective at the valid rows; minus infinity where training diverges into nothing."""
        return finite(self.sign * self.problem.value(self.valid(inputs, origins), labels))

    def moved(self, inputs: Tensor, slope: Tensor, origins: Tensor, length: float) -> Tensor:
        """Each row ``length`` up (or down) its own slope, inside what is allowed."""
        there = inputs + self.sign * length * directions(slope * self.unit) * self.unit
        return self.threat.perturbation.project(there.float(), origins, self.data.space).double()

    def state(self) -> Checkpoint:
        """What it has seen."""
        return Checkpoint(facts={"objective": list(self.objective), "drift": list(self.drift)})

    def restore(self, state: Checkpoint) -> None:
        """Go on with what it had seen."""
        self.objective, self.drift = list(state.facts["objective"]), list(state.facts["drift"])


@dataclass(kw_only=True, eq=False)
class Walk:
    """Steps of the rows at some positions, while the others stay, and where they stand."""

    inputs: Tensor
    """``(q, *shape)`` float64: where the next step begins."""
    labels: Tensor
    """``(q,)``."""
    origins: Tensor
    """``(q, *shape)`` float32: the rows that these were."""
    moving: Tensor
    """Positions of the rows that move."""
    best: Point
    length: float
    """Of the next step, in units of the features' ranges."""
    since: int = 0
    """Steps since the best."""
    done: int = 0
    """Steps done."""
    ended: bool = False
    """Whether further steps are of no use."""

    @staticmethod
    def begun(climb: Climb, inputs: Tensor, labels: Tensor, moving: Tensor) -> Walk:
        """Before the first step."""
        return Walk(
            inputs=inputs,
            labels=labels,
            origins=climb.origins[: len(inputs)],
            moving=moving,
            best=Point(inputs=inputs, labels=labels, score=-math.inf),
            length=climb.attack.step_size,
        )

    def step(self, climb: Climb) -> float:
        """Look at the loss where the rows are, and move them, unless nothing is to be gained; the loss."""
        attack, found = climb.attack, climb.steering(self.inputs, self.labels, self.origins)
        score = finite(climb.sign * found.value)
        self.done, self.since = self.done + 1, self.since + 1
        if score > self.best.score:
            self.best, self.since = Point(inputs=self.inputs, labels=self.labels, score=score), 0
        if (attack.patience and self.since >= attack.patience) or score == -math.inf:
            self.ended = True
            return found.value
        slope = torch.zeros_like(found.inputs)
        slope[self.moving] = found.inputs[self.moving]
        self.labels = repicked(climb, found, self.labels, self.moving)
        if attack.step_rule == "line-search":
            start = (score, self.length)
            self.inputs, self.length = searched(climb, self.inputs, self.labels, slope, self.origins, start=start)
            self.ended = self.length == 0
            return found.value
        self.inputs = climb.moved(self.inputs, slope, self.origins, self.length)
        self.length = attack.step_size / (1 + self.done / 20) if attack.step_rule == "decay" else attack.step_size
        return found.value

    def end(self, climb: Climb) -> Point:
        """The best poison seen, the place after the last step among them."""
        last = climb.score(self.inputs, self.labels, self.origins)
        return Point(inputs=self.inputs, labels=self.labels, score=last) if last > self.best.score else self.best

    def state(self) -> Checkpoint:
        """After a step."""
        facts = {name: getattr(self, name) for name in ("length", "since", "done", "ended")}
        own = Checkpoint(tensors={"inputs": self.inputs, "labels": self.labels}, facts=facts)
        return own.joined(best=self.best.state())

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state of an equal walk."""
        self.inputs, self.labels = state.tensors["inputs"], state.tensors["labels"]
        self.best = Point.of(state.under("best"))
        for name in ("length", "since", "done", "ended"):
            setattr(self, name, state.facts[name])


def finite(value: float) -> float:
    """The value; minus infinity for one that is no finite number."""
    return value if math.isfinite(value) else -math.inf


def directions(slopes: Tensor) -> Tensor:
    """Slopes ``(q, *shape)`` of length 1 each; 0 where a row has none, or one beyond all numbers."""
    flat = slopes.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)  # first by it, so that no square is too large or too small
    usable = torch.isfinite(largest) & (largest > 1e-20)
    scaled = torch.where(usable, flat / torch.where(usable, largest, 1.0), 0.0)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1.0)
    return (scaled / length).reshape(slopes.shape)


def searched(
    climb: Climb, inputs: Tensor, labels: Tensor, slope: Tensor, origins: Tensor, *, start: tuple[float, float]
) -> tuple[Tensor, float]:
    """The best of the places tried along a slope, and the length of the step there; length 0 where none is better.

    From the last length on: doubled while that helps, or else halved until it does, down to a thousandth.
    """
    score, trial = start
    best, found, halving = inputs, 0.0, False
    while 1e-3 * climb.attack.step_size <= trial <= 64 * climb.attack.step_size:
        there = climb.moved(inputs, slope, origins, trial)
        reached = climb.score(there, labels, origins)
        if reached > score:
            best, score, found = there, reached, trial
            if halving:
                break
            trial *= 2
        elif found:
            break
        else:
            trial, halving = trial / 2, True
    return best, found


def repicked(climb: Climb, found: Steering, labels: Tensor, moving: Tensor) -> Tensor:
    """The labels that the slope speaks for, of the rows that move; the same where it is flat."""
    if climb.attack.labels != "repick" or climb.threat.labels != "dirty":
        return labels
    slopes = climb.sign * found.labels
    better = slopes.amax(1) > slopes.gather(1, labels[:, None]).squeeze(1)  # never where one is not a number
    better &= torch.isin(torch.arange(len(labels)), moving).to(labels.device)
    return torch.where(better, slopes.argmax(1), labels)
