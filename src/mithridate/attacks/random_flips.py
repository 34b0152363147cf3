"""Random label flips: the baseline without which a number of a poisoning attack with flipped labels means little.

As in Muñoz-González et al. 2017, https://arxiv.org/abs/1708.08689, where it stands beside their attack. With rows to
append, copies of random training rows with another label; with rows to replace, the rows themselves. Under one seed
these are the very rows that ``back-gradient`` begins with, so that the two can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from mithridate.attack import Attack
from mithridate.dataset import Dataset
from mithridate.facts import Fact
from mithridate.flipping import begun, poison_of, start_problems
from mithridate.goal import Aims, Degrade, GoalSpec, Misclassify
from mithridate.learner import Learner
from mithridate.poison import Poison, no_poison
from mithridate.seeding import Seed
from mithridate.space import Space
from mithridate.threat import ThreatModel
from mithridate.watch import Watch, silent


@dataclass(frozen=True, kw_only=True)
class RandomFlips(Attack):
    """Baseline: give random rows another label."""

    name: ClassVar[str] = "random-flips"
    assumes: ClassVar[tuple[Fact, ...]] = ()
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Degrade, Misclassify)
    rows: ClassVar[tuple[str, ...]] = ("append", "replace")
    flips_labels: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = False
    needs_dirty_labels: ClassVar[bool] = True
    resumable: ClassVar[bool] = False  # done at once

    start: Literal["train", "validation"] = "train"
    """Which rows get another label: random training rows, or copies of random ``validation`` rows (as the released
    code of back-gradient optimization does), whose own row is then not in the way."""

    def misfits(self, threat: ThreatModel, space: Space, surrogates: Sequence[Learner]) -> list[str]:
        """A start that does not go with the threat model."""
        return start_problems(self.start, threat, space)

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
        """Rows as they were, under another label."""
        if threat.count(data) == 0:
            return no_poison(data)
        rows = begun(data, threat, aims=aims, start=self.start, learner=None, seed=seed)
        return poison_of(rows.inputs, rows.labels, rows, data, trace={})
