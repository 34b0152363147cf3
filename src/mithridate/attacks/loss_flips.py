"""Label flips chosen by loss: rows whose flipped label a clean model finds unlikely and a poisoned one accepts.

Paper: Xiao, Xiao, Eckert, "Adversarial Label Flips Attack on Support Vector Machines" (ALFA), ECAI 2012,
https://doi.org/10.3233/978-1-61499-098-7-870. It alternates between training on the flipped set and choosing the flips
anew, by a linear programme over all pairs of row and label.

Differences from the paper (read in descriptions of it, since its full text was not at hand):

1. Any learner takes the place of the support vector machine, and its own loss (minus the log-likelihood of a label)
   that of the hinge.
2. Every flip costs the same, so the linear programme is solved by sorting: the rows with the greatest gain.
3. Where rows are appended, a flip is a copy of a row under another label; the row itself stays.
4. The sets of flips seen are compared by the loss on the attacker's validation rows, and the best one is returned;
   the first, chosen by the clean model alone, is the "far first" heuristic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.attack import Attack
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.facts import Fact, attacker
from mithridate.flipping import candidates, flipped, label_losses, poison_of, taken
from mithridate.goal import Aims, Degrade, GoalSpec, Misclassify
from mithridate.learner import Learner, predictions
from mithridate.model import Classifier
from mithridate.poison import Poison, no_poison
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True)
class LossFlips(Attack):
    """Baseline: give another label to the rows where that costs a clean model most and a poisoned one least."""

    name: ClassVar[str] = "loss-flips"
    assumes: ClassVar[tuple[Fact, ...]] = (attacker("victim training", "finds hard what its surrogate finds hard"),)
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Degrade, Misclassify)
    rows: ClassVar[tuple[str, ...]] = ("append", "replace")
    flips_labels: ClassVar[bool] = True
    needs_dirty_labels: ClassVar[bool] = True
    follows_gradients: ClassVar[bool] = False
    resumable: ClassVar[bool] = False  # all that is long are trainings, which its surrogate remembers

    surrogate: int = 0
    """Which of the experiment's surrogates it trains, from 0."""
    rounds: int = 5
    """How often the flips are chosen anew; it stops where they no longer change."""

    def __post_init__(self) -> None:
        """Refuse settings that choose nothing."""
        if self.rounds < 1:
            raise ConfigError(f"rounds must be at least 1, but it is {self.rounds}")
        if self.surrogate < 0:
            raise ConfigError(f"surrogate must be at least 0, but it is {self.surrogate}")

    def crew(self, surrogates: Sequence[Learner]) -> Sequence[Learner]:
        """The one it trains. Raises :class:`ConfigError` where there is none."""
        if self.surrogate >= len(surrogates):
            raise ConfigError(f"surrogate {self.surrogate} is asked for, but there are {len(surrogates)} (from 0)")
        return [surrogates[self.surrogate]]

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
        """The best of the sets of flips seen."""
        count, (learner,) = threat.count(data), surrogates
        if count == 0:
            return no_poison(data)
        pool = candidates(data, threat, aims, seed)
        labels = flipped(pool.labels, aims, data, seed)
        rise = _rise(learner.fit(data, seed=seed.child("clean")).model, pool, labels)
        gain, best, found = rise, -torch.inf, None
        curve: list[float] = []
        chosen: Tensor | None = None
        for number in range(self.rounds):
            picked = gain.argsort(descending=True, stable=True)[:count].sort().values
            if chosen is not None and torch.equal(picked, chosen):
                break
            chosen = picked
            rows = taken(pool.at(picked), labels[picked], threat)
            poison = poison_of(rows.inputs, rows.labels, rows, data, trace={})
            model = learner.fit(poison.apply(data), seed=seed.child("poisoned")).model
            curve.append(_harm(model, aims))
            watch(Step("choosing flips", number + 1, self.rounds, {"objective": curve[-1]}))
            if found is None or curve[-1] > best:
                best, found = curve[-1], poison
            gain = rise - _rise(model, pool, labels)
        assert found is not None
        return Poison(rows=found.rows, origins=found.origins, trace={"objective": tuple(curve)})


def _rise(model: Classifier, pool: Dataset, labels: Tensor) -> Tensor:
    """By how much the loss of each row ``(N,)`` rises with its flipped label."""
    losses = label_losses(model, pool)
    return (losses.gather(1, labels[:, None]) - losses.gather(1, pool.labels[:, None])).squeeze(1)


def _harm(model: Classifier, aims: Aims) -> float:
    """The attacker's objective on its validation rows: their loss, or minus that of what is wanted."""
    likely = predictions(model, aims.seen()).log_softmax(1)
    classes, sign = (aims.labels, -1.0) if aims.wanted is None else (aims.wanted, 1.0)
    return sign * float(likely.gather(1, classes[:, None]).mean())
