"""Controls of a dropping defense: as many rows taken out at the same moments, chosen in another way.

Without them the number of a defense that drops rows means little: leaving out rows, or leaving out the hard ones, may
lower the success of an attack all by itself.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense
from mithridate.facts import Fact
from mithridate.learner import Around, Hook, Learner, Progress, Removal
from mithridate.methods import version
from mithridate.model import Classifier
from mithridate.ops.sparing import expendable
from mithridate.seeding import Seed

Plan = Mapping[int, tuple[int, ...]]
"""Epochs done, and how many rows of each class are taken out then."""


class Control(Defense):
    """A defense that exists to be compared with."""


class MatchedControl(Control):
    """A control that takes out as many rows as another defense does, in the same rounds."""

    drops: ClassVar[bool] = True
    like: Defense
    """The defense it is a control of."""
    per_class: bool
    """Take out as many rows of each class as the other one did, instead of as many rows in all."""

    @abstractmethod
    def suspicion(self, data: Dataset, model: Classifier | None, seed: Seed) -> Tensor:
        """How suspect each row is, ``(N,)`` float: the highest are taken out. Rows come sorted by id.

        ``model`` is the network as it stands; before the first epoch, the network trained without defense, where
        :attr:`judges` says that one is needed.
        """

    judges: ClassVar[bool]
    """Whether it looks at a network."""

    @property
    def title(self) -> str:
        """Its name and that of the defense it controls."""
        return f"{self.name} (like {self.like.title})"

    def facts(self) -> tuple[Fact, ...]:
        """How many rows go, and what the defense it controls was told that nobody can know."""
        return (*self.assumes, *(each for each in self.like.facts() if each.oracle))

    @final
    def protect(self, learner: Learner) -> Learner:
        """Train with the other defense to see how many rows it drops and when; then train with as many others gone."""
        return Matched(learner=learner, defense=self)


@dataclass(frozen=True, kw_only=True)
class Matched(Around):
    """Repeats the plan of another defense with rows chosen by a control."""

    name: ClassVar[str] = "matched"

    defense: MatchedControl
    """Who chooses, and like whom."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """The other defense's training (found, where the learner inside remembers it), then the control's."""
        if resume is None:
            started = time.perf_counter()
            hook = _Repeat(defense=self.defense, seed=seed.child(self.defense.name), **self._look(data, seed))
            looked = time.perf_counter() - started
        else:
            kept, looked = resume.under("plan"), 0.0
            plan = {int(epoch): tuple(counts) for epoch, counts in kept.facts.items()}
            hook = _Repeat(
                defense=self.defense, seed=seed.child(self.defense.name), plan=plan, first=kept.tensors["first"]
            )
        inner = resume.under("inner") if resume else None
        for progress in self.learner.train(data, seed=seed, hooks=(hook, *hooks), resume=inner):
            yield _with_plan(progress, hook, looked)

    def _look(self, data: Dataset, seed: Seed) -> dict[str, Any]:
        """What the other defense dropped, and which rows go before the first epoch."""
        found = self.defense.like.protect(self.learner).fit(data, seed=seed)
        own = [each for each in found.removals if each.by == self.defense.like.name]  # the rest repeats itself
        plan = planned(own, data)
        probe = self.learner.fit(data, seed=seed).model if 0 in plan and self.defense.judges else None
        first = torch.zeros(0, dtype=torch.int64, device=data.device)
        if 0 in plan:
            active = torch.ones(len(data), dtype=torch.bool, device=data.device)
            first = _chosen(self.defense, data, active, probe, seed.child(self.defense.name, 0), plan[0])
        return {"plan": plan, "first": first}


def planned(removals: Sequence[Removal], data: Dataset) -> Plan:
    """How many rows of each class were removed after how many epochs."""
    plan: dict[int, Tensor] = {}
    for removal in removals:
        labels = data.labels[torch.isin(data.ids, removal.ids.to(data.device))]
        counts = torch.bincount(labels, minlength=data.space.num_classes)
        plan[removal.epoch] = plan.get(removal.epoch, torch.zeros_like(counts)) + counts
    return {epoch: tuple(int(count) for count in counts) for epoch, counts in sorted(plan.items())}


class _Repeat(Hook):
    """Takes out as many rows as planned."""

    def __init__(self, *, defense: MatchedControl, seed: Seed, plan: Plan, first: Tensor) -> None:
        self.defense, self.seed, self.plan, self.first = defense, seed, plan, first
        own = {key: value for key, value in vars(defense).items() if key != "like"}
        kind: type = type(defense)
        code = version(kind)  # of whoever chooses, which this class does not
        self.settings = (defense.name, code, own, seed, {str(k): list(v) for k, v in plan.items()}, first)

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        epoch = progress.epoch if progress else 0
        if epoch not in self.plan:
            return None
        if progress is None:
            return Removal(by=self.defense.name, epoch=0, ids=self.first)
        seed = self.seed.child(epoch)
        ids = _chosen(self.defense, data, active, progress.model, seed, self.plan[epoch])
        return Removal(by=self.defense.name, epoch=epoch, ids=ids)


def _chosen(
    defense: MatchedControl,
    data: Dataset,
    active: Tensor,
    model: Classifier | None,
    seed: Seed,
    counts: Sequence[int],
) -> Tensor:
    """Ids of the rows that go, the most suspect first; lower ids first among equals.

    The least suspect row of each class stays, so that no class is emptied.
    """
    rows = data.at(active)
    rows = rows.at(rows.ids.argsort())  # so that the order of the rows cannot matter
    order = defense.suspicion(rows, model, seed).argsort(descending=True, stable=True)
    order = order[expendable(rows.labels[order])]
    if not defense.per_class:
        return rows.ids[order[: sum(counts)]]
    labels = rows.labels[order]
    rank = torch.zeros_like(labels)  # place of each row among those of its class
    for label in range(data.space.num_classes):
        mine = labels == label
        rank[mine] = torch.arange(int(mine.sum()), device=rank.device)
    return rows.ids[order[rank < torch.tensor(counts, device=rank.device)[labels]]]


def _with_plan(progress: Progress, hook: _Repeat, looked: float) -> Progress:
    """Progress whose state also holds the plan. A control is not charged for the seconds it ``looked`` at another."""
    progress, inner = replace(progress, reused=progress.reused - looked), progress.state
    if inner is None:
        return progress

    def state() -> Checkpoint:
        facts = {str(epoch): list(counts) for epoch, counts in hook.plan.items()}
        return Checkpoint().joined(plan=Checkpoint(tensors={"first": hook.first}, facts=facts), inner=inner())

    return replace(progress, state=state)
