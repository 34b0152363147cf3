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
from mithridate.bilevel import Averaged, Method, Unrollable
from mithridate.checkpoint import Checkpoint
from mithridate.climb import Climb, Point, Walk
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.facts import Fact, attacker
from mithridate.flipping import Start, begun, poison_of, start_problems
from mithridate.goal import Aims, Degrade, GoalSpec, Misclassify
from mithridate.learner import Around, Learner
from mithridate.notes import Notes, no_notes
from mithridate.poison import Poison, no_poison
from mithridate.seeding import Seed
from mithridate.space import Space
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True)
class BackGradient(Attack):
    """Bilevel: make the victim wrong on anything, or on what is wanted, by rows moved along exact hypergradients."""

    name: ClassVar[str] = "back-gradient"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker(
            "victim training",
            "ends where the training of its surrogate does, which it differentiates",
            where="Munoz-Gonzalez et al. 2017",
        ),
    )
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Degrade, Misclassify)
    rows: ClassVar[tuple[str, ...]] = ("append", "replace")
    flips_labels: ClassVar[bool] = True
    resumable: ClassVar[bool] = True

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
        notes: Notes = no_notes,
    ) -> Poison:
        """Rows at a place where the validation loss after training on them is as bad as could be found."""
        if threat.count(data) == 0:
            return no_poison(data)
        (learner,) = surrogates
        assert isinstance(learner, Unrollable)  # crew() saw to it
        rows = begun(data, threat, aims=aims, start=self.start, learner=learner, seed=seed)
        clean = data.without(rows.replaced)
        trainings = [learner.bilevel(clean, aims, seed=seed.child("surrogates").child(k)) for k in range(self.networks)]
        climb = Climb(self, threat, rows, data, Averaged(trainings), sign=1.0 if aims.wanted is None else -1.0)
        best = self._best(climb, rows.inputs.double(), rows.labels, watch=watch, notes=notes)
        return poison_of(climb.valid(best.inputs, rows.inputs).float(), best.labels, rows, data, trace=climb.trace)

    def _best(self, climb: Climb, inputs: Tensor, labels: Tensor, *, watch: Watch, notes: Notes) -> Point:
        """The best poison found turn by turn, beginning with these rows; where rows are added, with those replaced."""
        found = Point(inputs=inputs, labels=labels, score=-math.inf)
        if self.schedule == "greedy":
            found = Point(inputs=inputs[: len(climb.replaced)], labels=climb.replaced, score=-math.inf)
        noted = notes.read(device=inputs.device) or Checkpoint()
        turns, first = self._turns(len(inputs)), noted.facts.get("turn", 0)
        if noted.facts:
            found = Point.of(noted.under("before"))
            climb.restore(noted.under("climb"))
        for number, (row, stage) in list(enumerate(turns))[first:]:
            walk = self._entered(climb, found, inputs, labels, row)
            if noted.facts:
                walk.restore(noted.under("walk"))
                noted = Checkpoint()
            found = _walked(climb, walk, before=found, turn=number, stage=stage, watch=watch, notes=notes)
        return found

    def _turns(self, count: int) -> list[tuple[int | None, str]]:
        """Which row of ``count`` moves in turn (None: all of them), and what that is called."""
        if self.schedule == "joint":
            return [(None, "crafting")]
        each = [(k, f"crafting row {k + 1} of {count}") for k in range(count)]
        if self.schedule == "greedy":
            return [*each]
        return [(k, f"{stage}, pass {turn + 1}") for turn in range(self.passes) for k, stage in each]

    def _entered(self, climb: Climb, found: Point, inputs: Tensor, labels: Tensor, row: int | None) -> Walk:
        """A turn before its first step.

        Algorithm 1 (``greedy``) adds its row to those found before; rows to be replaced are there from the start, as
        they were, until it is their turn.
        """
        if row is None:
            return Walk.begun(climb, found.inputs, found.labels, torch.arange(len(found.inputs)))
        moving = torch.tensor([row])
        if self.schedule == "passes":
            return Walk.begun(climb, found.inputs, found.labels, moving)
        grown = torch.cat([found.inputs, inputs[max(row, len(climb.replaced)) : row + 1]])
        called = torch.cat([found.labels[:row], labels[row : row + 1], found.labels[row + 1 :]])
        return Walk.begun(climb, grown, called, moving)


def _obstacle(learner: Learner) -> str:
    """What keeps a learner from being differentiated: a defense, or its own kind."""
    inside = learner
    while isinstance(inside, Around):
        inside = inside.learner
    return "a defense around it" if isinstance(inside, Unrollable) else f"'{inside.name}'"


def _walked(climb: Climb, walk: Walk, *, before: Point, turn: int, stage: str, watch: Watch, notes: Notes) -> Point:
    """The best poison of a turn; ``before`` is that of the turns before."""

    def state() -> Checkpoint:
        parts = {"climb": climb.state(), "before": before.state(), "walk": walk.state()}
        return Checkpoint(facts={"turn": turn}).joined(**parts)

    steps = climb.attack.steps
    while walk.done < steps and not walk.ended:
        value = walk.step(climb)
        notes.take(state)
        watch(Step(stage, walk.done, steps, {"objective": value}))
    return walk.end(climb)
