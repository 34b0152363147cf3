"""Control: exactly the poisoned rows taken out before training; no defender can do it, and none can do better.

The ceiling of every filter, asked for by users of other toolboxes as "perfect filter"
(https://github.com/twosixlabs/armory/issues/1444).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from mithridate.checkpoint import Checkpoint
from mithridate.control import Control
from mithridate.dataset import Dataset, Space
from mithridate.defense import Truth
from mithridate.facts import TRUE_ROWS, Fact
from mithridate.learner import Around, Hook, Learner, Progress, Removal
from mithridate.model import Classifier
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True)
class OracleFilter(Control):
    """Remove exactly the poisoned rows, which the referee names."""

    name: ClassVar[str] = "oracle-filter"
    assumes: ClassVar[tuple[Fact, ...]] = (TRUE_ROWS,)
    drops: ClassVar[bool] = True

    poison_ids: tuple[int, ...] = ()
    """The rows removed; filled in by the referee."""

    def protect(self, learner: Learner) -> Learner:
        """Train as ``learner`` does, without the poison."""
        return Without(learner=learner, ids=self.poison_ids)

    def told(self, truth: Truth) -> OracleFilter:
        """Learn which rows are poisoned."""
        return OracleFilter(poison_ids=tuple(sorted(truth.poison_ids.tolist())))


@dataclass(frozen=True, kw_only=True)
class Without(Around):
    """Trains without some rows."""

    name: ClassVar[str] = "without"

    ids: tuple[int, ...]
    """The rows left out."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train on the rest."""
        ids = torch.tensor(self.ids, dtype=torch.int64, device=data.device)
        gone = ids[torch.isin(ids, data.ids)]
        removal = (Removal(by="oracle-filter", epoch=0, ids=gone),) if len(gone) else ()
        for progress in self.learner.train(data.without(gone), seed=seed, hooks=hooks, resume=resume):
            yield replace(progress, removals=(*removal, *progress.removals))
