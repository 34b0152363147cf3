"""A learner that remembers its trainings, and whose training can still be differentiated."""

from __future__ import annotations

from dataclasses import dataclass

from mithridate.bilevel import Bilevel, Method, Unrollable
from mithridate.dataset import Dataset
from mithridate.goal import Aims
from mithridate.learners.cached import Cached
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class UnrollableCached(Cached, Unrollable):
    """Train as :class:`Cached` does; differentiate the training of the learner inside, which is not remembered."""

    learner: Unrollable

    def bilevel(self, clean: Dataset, aims: Aims, *, seed: Seed) -> Bilevel:
        """That of the learner inside, from the caller's seed: nothing of it is kept or found."""
        return self.learner.bilevel(clean, aims, seed=seed)

    def bilevel_problems(self, method: Method = "stored", last: int | None = None) -> list[str]:
        """Those of the learner inside."""
        return self.learner.bilevel_problems(method, last)
