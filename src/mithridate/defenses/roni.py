"""RONI, Reject On Negative Impact: remove the rows that make a network trained on a few others worse.

Exploiting Machine Learning to Subvert Your Spam Filter, Nelson et al., LEET 2008,
https://www.usenix.org/conference/leet-08/exploiting-machine-learning-subvert-your-spam-filter: a network is trained on
a small base, with and without a row; both are asked a quiz; the row goes where it lowers the mean result of a few such
trials by more than usual.

Differences from the paper:

1. The paper draws bases and quizzes from mail that is known to be clean. Nobody vouches for these rows, so bases and
   quizzes are drawn from the training set itself, poison among them, afresh in each trial.
2. All rows of a trial share its base and quiz; the paper draws them for each row. A row that is in the base is left
   out of it for comparison, and one that is in the quiz is not asked, so that every row is measured in every trial.
3. A base holds two rows of each class, where there are as many, and is random beyond that. Of no class are all of
   them left out at once, since many learners need rows of every class; the only row of a class is never judged.
4. The paper counts the ham called spam, and sets its threshold by hand. Here the quiz counts all classes, and the
   threshold is the median impact less ``sigmas`` standard deviations, as in a known toolbox. That one calibrates on
   trusted rows, again for every row it judges. Here all rows calibrate, once; and the deviation is that of the impacts
   above the median, since poison that harms would widen the other half until it hides behind it.
5. ``batch`` rows can be tested together, in random groups drawn afresh in each trial: as many times cheaper, and a row
   shares its impact with its group.
6. Networks of ``measure="loss"`` are compared by their mean cross-entropy on the quiz, which tells small impacts apart
   that leave all answers as they are.

A network is trained for every row (or group) in every trial, by the victim's own learner: ``N * trials / batch``
trainings on ``base + batch`` rows, charged as seconds of the removal. A learner that counts epochs takes fewer steps on
so few rows than on all; one that counts steps judges by networks as finished as its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.defense import Sanitiser, Verdict
from mithridate.errors import ConfigError, DataError
from mithridate.facts import Fact, defender
from mithridate.learner import Learner, predictions
from mithridate.ops.losses import is_right, row_losses
from mithridate.ops.sparing import spared
from mithridate.seeding import Seed

Measure = Literal["accuracy", "loss"]
EACH = 2
"""Rows of each class that a base holds, so that one can be left out."""
WORST = 100.0
"""Loss in nats that counts as the highest, so that one training that diverged does not decide a mean."""
_ROUNDING = 1e-6
"""Impacts nearer to the threshold than this are not below it: float32 trainings tell them no better apart."""


@dataclass(frozen=True, kw_only=True)
class RONI(Sanitiser):
    """Remove the rows that, added to a small training set, lower what it achieves on a quiz."""

    name: ClassVar[str] = "roni"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "one alone makes a network trained on a few rows worse",
            where="Nelson et al. 2008",
        ),
        defender(
            "trusted rows",
            "none: bases and quizzes are drawn from the rows under suspicion (the paper has trusted ones)",
            where="difference 1",
        ),
    )

    base: int = 20
    """Rows that a network is trained on, beside those it is tried with. Paper: 20."""
    quiz: int = 50
    """Rows that a network is asked. Paper: 50."""
    trials: int = 5
    """Bases and quizzes that a row is tried with. Paper: 5."""
    sigmas: float = 3.0
    """Standard deviations below the median impact from which a row goes, above 0. A known toolbox: 3."""
    measure: Measure = "accuracy"
    """What a network achieves on the quiz: its ``accuracy``, or minus its mean ``loss``. Paper: accuracy (on ham)."""
    batch: int = 1
    """Rows that are tried together. Paper: 1."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if min(self.trials, self.batch) < 1:
            raise ConfigError(f"trials and batch must be at least 1, but they are {self.trials} and {self.batch}")
        if self.base < self.batch + EACH or self.quiz <= self.batch:
            raise ConfigError(
                f"a batch of {self.batch} needs a base of at least {self.batch + EACH} rows and a quiz of at least "
                f"{self.batch + 1}, since a row is left out of both, but they have {self.base} and {self.quiz}"
            )
        if not 0 < self.sigmas < float("inf"):
            raise ConfigError(f"sigmas must be a positive number, but it is {self.sigmas:g}")
        if self.measure not in ("accuracy", "loss"):
            raise ConfigError(f"measure must be 'accuracy' or 'loss', but it is '{self.measure}'")

    def problems(self, space: Space) -> list[str]:
        """Whether a base is too small for so many classes."""
        needed = EACH * space.num_classes
        if self.base >= needed:
            return []
        return [
            f"{self.name} needs {EACH} rows of each class in its base, {needed} for {space.num_classes} classes, but "
            f"base is {self.base}"
        ]

    def sift(self, learner: Learner, data: Dataset, *, seed: Seed) -> Verdict:
        """Scores are minus the mean impacts, so that the most harmful rows have the highest."""
        if len(data) < self.base + self.quiz:
            raise DataError(
                f"roni needs {self.base} rows for a base and {self.quiz} for a quiz, but there are {len(data)}; "
                "lower base and quiz"
            )
        impacts, reused = torch.zeros(len(data), dtype=torch.float64, device=data.device), 0.0
        for trial in range(self.trials):
            found, saved = self._impacts(learner, data, seed.child(self.name, trial))
            impacts, reused = impacts + found / self.trials, reused + saved
        flagged = spared(impacts < harmful_below(impacts, self.sigmas), -impacts, data)
        return Verdict(scores=-impacts, flagged=flagged, reused=reused)

    def _impacts(self, learner: Learner, data: Dataset, seed: Seed) -> tuple[Tensor, float]:
        """What each row changes in one trial ``(N,)``, positive for the better, and seconds found done."""
        base, quiz = drawn(data, base=self.base, quiz=self.quiz, seed=seed.child("rows"))
        inputs, labels = data.take(quiz)
        reused = 0.0

        def marks(rows: Tensor) -> Tensor:  # of each row of the quiz, by a network trained on these rows
            nonlocal reused
            found = learner.fit(data.at(rows.sort().values), seed=seed)
            reused += found.reused
            logits = predictions(found.model, inputs)
            right = is_right(logits, labels).double()
            return right if self.measure == "accuracy" else -row_losses(logits, labels).clamp(max=WORST)

        order = torch.randperm(len(data), generator=seed.child("groups").generator()).to(data.device)
        impacts = torch.zeros(len(data), dtype=torch.float64, device=data.device)
        plain = marks(base)
        for group in torch.split(order, self.batch):
            out = spared(torch.isin(base, group), torch.zeros_like(base), data.at(base))
            worse = marks(base[~out]) if bool(out.any()) else plain
            new = group[~torch.isin(group, base)]
            better = marks(torch.cat([base, new])) if len(new) else plain
            impacts[group] = (better - worse)[~torch.isin(quiz, group)].mean()
        return impacts, reused


def drawn(data: Dataset, *, base: int, quiz: int, seed: Seed) -> tuple[Tensor, Tensor]:
    """Positions of the rows of a base ``(base,)`` and of a quiz ``(quiz,)``, no row in both."""
    order = torch.randperm(len(data), generator=seed.generator()).to(data.device)
    labels = data.labels[order]
    first = torch.zeros_like(labels, dtype=torch.bool)
    for label in set(labels.tolist()):
        first[(labels == label).nonzero()[:EACH, 0]] = True
    order = torch.cat([order[first], order[~first]])
    return order[:base], order[base : base + quiz]


def harmful_below(impacts: Tensor, sigmas: float) -> Tensor:
    """The impact below which a row of ``impacts`` ``(N,)`` is rejected, a single number."""
    median = impacts.quantile(0.5)
    above = impacts[impacts >= median] - median
    return median - sigmas * above.square().mean().sqrt() - _ROUNDING
