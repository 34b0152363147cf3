"""Back-gradient optimization: poison rows moved up the validation loss of a training that is differentiated through.

Paper: Muñoz-González, Biggio, Demontis, Paudice, Wongrassamee, Lupu, Roli, "Towards Poisoning of Deep Learning
Algorithms with Back-gradient Optimization", AISec 2017, https://arxiv.org/abs/1708.08689, algorithms 1 to 3.

Differences from the paper and its released code:

1. The gradient is exact (``method="stored"``): the states of the training are kept instead of recovered by climbing
   back, which is not the inverse of a step down. ``"approximate-reversal"`` is the paper's.
2. All rows move together (``schedule="joint"``): one sweep gives the gradient of all of them for the price of one.
   ``"greedy"`` is the released code's (one row after the other, each then fixed), ``"passes"`` the paper's for its
   network: all rows there, one moved at a time.
3. The best iterate is returned; the code tests one iterate and returns the next. Each is judged as the valid row it
   would become (integers rounded, one class of a group chosen), not as the point that it was computed at.
4. Steps are measured in units of each feature's range, and fall as ``1 / (1 + i / 20)``; the code's stay the same
   (``step_rule="constant"``), the paper's line search is ``"line-search"``.
5. A row whose gradient vanishes stays where it is; the code divides by its length.
6. Rows are drawn without replacement from the training rows; the code clones validation rows (``start="validation"``).
7. ``labels="repick"`` gives each row, at each step, the label that the gradient by its label speaks for. In the paper
   labels stay as they were flipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.attack import Attack
from mithridate.bilevel import Averaged, Bilevel, Method, Steering, Unrollable
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.flipping import Begun, Start, begun, poison_of, start_problems
from mithridate.goal import Aims, Degrade, GoalSpec, Misclassify
from mithridate.learner import Around, Learner
from mithridate.poison import Poison, no_poison
from mithridate.seeding import Seed
from mithridate.space import Space
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True)
class BackGradient(Attack):
    """Bilevel: make the victim wrong on anything, or on what is wanted, by rows moved along exact hypergradients."""

    name: ClassVar[str] = "back-gradient"
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Degrade, Misclassify)
    rows: ClassVar[tuple[str, ...]] = ("append", "replace")
    flips_labels: ClassVar[bool] = True

    surrogate: int = 0
    """Which of the experiment's surrogates it differentiates, from 0."""
    steps: int = 60
    """Outer steps of each row (of all together where they move together). Released code: up to 99, 299 and 200."""
    step_size: float = 1.0
    """Length of the first step of a row, in units of the features' ranges. Code: 1 linear, 0.2 perceptron."""
    step_rule: Literal["decay", "constant", "line-search"] = "decay"
    """How steps go on: shorter and shorter, the same, or as far as the loss improves (doubled and halved)."""
    schedule: Literal["joint", "greedy", "passes"] = "joint"
    """Whether rows move together, are added one by one, or are moved one by one while all are there."""
    passes: int = 2
    """How often ``passes`` goes over all rows. Paper: 2."""
    start: Start = "train"
    """What rows begin as: random training rows (``train``), random ``validation`` rows, or the training rows whose
    flipped label has the greatest (``loss``) or the least loss (``stealthy``) under a clean training."""
    labels: Literal["flip", "repick"] = "flip"
    """Whether labels stay as they were flipped at the start, or are chosen again at every step."""
    method: Method = "stored"
    """How gradients are computed: ``stored``, ``checkpointed``, ``implicit`` or the paper's
    ``approximate-reversal``."""
    last: int | None = None
    """Cut the way back to the last so many steps of the training (cheaper, biased); none: all."""
    networks: int = 1
    """How many trainings, from different seeds, are averaged. More than one only helps where training is random."""
    patience: int = 0
    """Stop once so many steps have brought nothing better; 0: never. Code: 1."""

    def __post_init__(self) -> None:
        """Refuse settings that do nothing."""
        for what in ("steps", "passes", "networks"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        for what in ("surrogate", "patience"):
            if getattr(self, what) < 0:
                raise ConfigError(f"{what} must be at least 0, but it is {getattr(self, what)}")
        if not self.step_size > 0:
            raise ConfigError(f"step_size must be positive, but it is {self.step_size:g}")
        if self.last is not None and self.last < 1:
            raise ConfigError(f"last must be at least 1 step (or none, for all), but it is {self.last}")

    def crew(self, surrogates: Sequence[Learner]) -> Sequence[Learner]:
        """The one it differentiates. Raises :class:`ConfigError` where there is none that can be."""
        if self.surrogate >= len(surrogates):
            raise ConfigError(f"surrogate {self.surrogate} is asked for, but there are {len(surrogates)} (from 0)")
        chosen = surrogates[self.surrogate]
        if not isinstance(chosen, Unrollable):
            raise ConfigError(
                f"back-gradient differentiates the training of its surrogate, which {_obstacle(chosen)} does not "
                "allow; use gradient-descent or sgd without a defense around it"
            )
        return [chosen]

    def misfits(self, threat: ThreatModel, space: Space, surrogates: Sequence[Learner]) -> list[str]:
        """A start that does not go with the threat model, and a surrogate that is not differentiated so."""
        found = start_problems(self.start, threat, space)
        try:
            (learner,) = self.crew(surrogates)
        except ConfigError as error:
            return [*found, str(error)]
        assert isinstance(learner, Unrollable)  # crew() saw to it
        return found + learner.bilevel_problems(self.method, self.last)

    def craft(
        self,
        data: Dataset,
        threat: ThreatModel,
        *,
        aims: Aims,
        surrogates: Sequence[Learner],
        seed: Seed,
        watch: Watch = silent,
    ) -> Poison:
        """Rows at a place where the validation loss after training on them is as bad as could be found."""
        if threat.count(data) == 0:
            return no_poison(data)
        (learner,) = surrogates
        assert isinstance(learner, Unrollable)  # crew() saw to it
        rows = begun(data, threat, aims=aims, start=self.start, learner=learner, seed=seed)
        clean = data.without(rows.replaced)
        trainings = [learner.bilevel(clean, aims, seed=seed.child("surrogates").child(k)) for k in range(self.networks)]
        climb = _Climb(self, threat, rows, data, Averaged(trainings), sign=1.0 if aims.wanted is None else -1.0)
        best = {"joint": _together, "greedy": _greedily, "passes": _by_turns}[self.schedule](
            climb, rows.inputs.double(), rows.labels, watch
        )
        return poison_of(climb.valid(best.inputs, rows.inputs).float(), best.labels, rows, data, trace=climb.trace)


def _obstacle(learner: Learner) -> str:
    """What keeps a learner from being differentiated: a defense, or its own kind."""
    inside = learner
    while isinstance(inside, Around):
        inside = inside.learner
    return "a defense around it" if isinstance(inside, Unrollable) else f"'{inside.name}'"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Point:
    """A poison: where it was computed, and what its valid rows do."""

    inputs: Tensor
    labels: Tensor
    score: float
    """The attacker's objective with valid rows; higher is better."""


class _Climb:
    """What one search knows: the problem, where rows may go, and what it has seen."""

    def __init__(
        self, attack: BackGradient, threat: ThreatModel, rows: Begun, data: Dataset, problem: Bilevel, sign: float
    ) -> None:
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
        return _score(self.sign * self.problem.value(self.valid(inputs, origins), labels))

    def moved(self, inputs: Tensor, slope: Tensor, origins: Tensor, length: float) -> Tensor:
        """Each row ``length`` up (or down) its own slope, inside what is allowed."""
        there = inputs + self.sign * length * _directions(slope * self.unit) * self.unit
        return self.threat.perturbation.project(there.float(), origins, self.data.space).double()


def _score(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _directions(slopes: Tensor) -> Tensor:
    """Slopes ``(q, *shape)`` of length 1 each; 0 where a row has none, or one beyond all numbers."""
    flat = slopes.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)  # first by it, so that no square is too large or too small
    usable = torch.isfinite(largest) & (largest > 1e-20)
    scaled = torch.where(usable, flat / torch.where(usable, largest, 1.0), 0.0)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1.0)
    return (scaled / length).reshape(slopes.shape)


def _together(climb: _Climb, inputs: Tensor, labels: Tensor, watch: Watch) -> _Point:
    """All rows at once (the default)."""
    everyone = torch.arange(len(inputs))
    return _ascent(climb, inputs, labels, climb.origins, everyone, stage="crafting", watch=watch)


def _greedily(climb: _Climb, inputs: Tensor, labels: Tensor, watch: Watch) -> _Point:
    """One row after the other: each is added, moved, and then stays (algorithm 1).

    Rows to be replaced are there from the start, as they were, until it is their turn.
    """
    there = len(climb.replaced)
    found = _Point(inputs=inputs[:there], labels=climb.replaced, score=-math.inf)
    for k in range(len(inputs)):
        grown = torch.cat([found.inputs, inputs[max(k, there) : k + 1]])
        called = torch.cat([found.labels[:k], labels[k : k + 1], found.labels[k + 1 :]])
        stage = f"crafting row {k + 1} of {len(inputs)}"
        found = _ascent(climb, grown, called, climb.origins[: len(grown)], torch.tensor([k]), stage=stage, watch=watch)
    return found


def _by_turns(climb: _Climb, inputs: Tensor, labels: Tensor, watch: Watch) -> _Point:
    """All rows are there from the start; each is moved while the others stay."""
    found = _Point(inputs=inputs, labels=labels, score=-math.inf)
    for turn in range(climb.attack.passes):
        for k in range(len(inputs)):
            stage = f"crafting row {k + 1} of {len(inputs)}, pass {turn + 1}"
            found = _ascent(
                climb, found.inputs, found.labels, climb.origins, torch.tensor([k]), stage=stage, watch=watch
            )
    return found


def _ascent(
    climb: _Climb,
    inputs: Tensor,
    labels: Tensor,
    origins: Tensor,
    moving: Tensor,
    *,
    stage: str,
    watch: Watch,
) -> _Point:
    """Steps of the rows at positions ``moving``; the best poison seen."""
    attack = climb.attack
    best = _Point(inputs=inputs, labels=labels, score=-math.inf)
    length, since = attack.step_size, 0
    for number in range(attack.steps):
        found = climb.steering(inputs, labels, origins)
        score = _score(climb.sign * found.value)
        best, since = (
            (_Point(inputs=inputs, labels=labels, score=score), 0) if score > best.score else (best, since + 1)
        )
        watch(Step(stage, number + 1, attack.steps, {"objective": found.value}))
        if (attack.patience and since >= attack.patience) or score == -math.inf:
            break
        slope = torch.zeros_like(found.inputs)
        slope[moving] = found.inputs[moving]
        labels = _repicked(climb, found, labels, moving)
        if attack.step_rule == "line-search":
            inputs, length = _searched(climb, inputs, labels, slope, origins, start=(score, length))
            if length == 0:
                break
            continue
        inputs = climb.moved(inputs, slope, origins, length)
        length = attack.step_size / (1 + (number + 1) / 20) if attack.step_rule == "decay" else attack.step_size
    last = climb.score(inputs, labels, origins)
    return _Point(inputs=inputs, labels=labels, score=last) if last > best.score else best


def _searched(
    climb: _Climb, inputs: Tensor, labels: Tensor, slope: Tensor, origins: Tensor, *, start: tuple[float, float]
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


def _repicked(climb: _Climb, found: Steering, labels: Tensor, moving: Tensor) -> Tensor:
    """The labels that the slope speaks for, of the rows that move; the same where it is flat."""
    if climb.attack.labels != "repick" or climb.threat.labels != "dirty":
        return labels
    slopes = climb.sign * found.labels
    better = slopes.amax(1) > slopes.gather(1, labels[:, None]).squeeze(1)  # never where one is not a number
    better &= torch.isin(torch.arange(len(labels)), moving).to(labels.device)
    return torch.where(better, slopes.argmax(1), labels)
