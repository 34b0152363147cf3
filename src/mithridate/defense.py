"""A defense is a function from learner to learner; stacking defenses is a fold, no defense is the identity."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError
from mithridate.facts import NO_DEFENDER_FACTS, Fact
from mithridate.learner import Around, Hook, Learner, Progress, Removal
from mithridate.model import Classifier
from mithridate.ops.standard import standardised
from mithridate.seeding import Seed
from mithridate.sifting import Relabelling, Sifting

Where = Literal["inputs", "features"]
"""Where rows are compared: in the space of their scaled inputs, or of the features of a probe."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What only the referee knows, told to the defenses that play the oracle."""

    poison_ids: Tensor
    """``(n,)`` int64: the poisoned rows of the training set."""


class Defense(ABC):
    """A published way of training more safely. Kinds are frozen dataclasses in ``defenses/``, one method a file."""

    name: ClassVar[str]
    drops: ClassVar[bool] = False
    """Whether it removes rows, so that its number needs the controls which remove as many."""
    assumes: ClassVar[tuple[Fact, ...]] = NO_DEFENDER_FACTS
    """What it knows and takes for granted, whatever its settings; empty: nothing."""
    outermost: ClassVar[bool] = False
    """Whether nothing may be worn around it, because what it proves would no longer hold."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Settings under a name of their own, for ``{name: epic, preset: paper}``."""

    @abstractmethod
    def protect(self, learner: Learner) -> Learner:
        """A learner that trains as ``learner`` does, protected."""

    def facts(self) -> tuple[Fact, ...]:
        """What it knows and takes for granted with its settings."""
        return self.assumes

    @property
    def oracle(self) -> bool:
        """Whether it uses what no defender can know; results are then stamped so."""
        return False

    def problems(self, space: Space) -> list[str]:
        """Why it cannot protect a training on data of this space; empty where it can."""
        return []

    @property
    def title(self) -> str:
        """What tables call it: its name, stamped where it plays the oracle."""
        return self.name + (" (oracle)" if self.oracle else "")

    def told(self, truth: Truth) -> Defense:
        """This defense once the referee has spoken. Every defense but an oracle stops its ears."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What a filter thinks of every row."""

    scores: Tensor
    """``(N,)`` float, higher is more suspect. Comparable within a class at least; NaN for a row not looked at."""
    flagged: Tensor
    """``(N,)`` bool: the rows it would remove."""
    labels: Tensor | None = None
    """``(N,)`` int64: the labels to train with, where it corrects some; None: as they are given."""
    reused: float = 0.0
    """Seconds of the work behind it that were found done, instead of being done again."""


class Filter(Defense):
    """A defense that trains a probe, judges all rows by its features, and trains again without those it flags."""

    drops: ClassVar[bool] = True

    @abstractmethod
    def judge(self, features: Tensor, data: Dataset, *, seed: Seed) -> Verdict:
        """A verdict on every row of ``data``.

        ``features`` ``(N, D)`` float32 are the probe's penultimate features of the unaugmented rows, in the same order.
        The order of the rows does not matter, nor does it which ids they have.
        """

    @final
    def protect(self, learner: Learner) -> Learner:
        """Train a probe as ``learner`` does, and then again from scratch without the flagged rows."""
        return Filtered(learner=learner, defense=self)


class Sanitiser(Defense):
    """A defense that goes through the training set first, by whatever means, and trains on what it leaves.

    It may train the learner itself, on any rows and as often as it likes; where the features of one probe are all it
    looks at, a :class:`Filter` is simpler, and a scan can ask it.
    """

    drops: ClassVar[bool] = True

    @abstractmethod
    def sift(self, learner: Learner, data: Dataset, *, seed: Seed) -> Verdict:
        """A verdict on every row of ``data``, whose rows come sorted by id; which ids they have does not matter.

        ``seed`` is that of the training: with it, ``learner`` trains the network of no defense on the rows of
        ``data``. Draws of its own come from children of ``seed.child(self.name)``.
        """

    @final
    def protect(self, learner: Learner) -> Learner:
        """Sift the training set, and train as ``learner`` does without the flagged rows, with the labels corrected."""
        return Sanitised(learner=learner, defense=self)


class HookDefense(Defense):
    """A defense that acts inside the training loop."""

    @abstractmethod
    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook for one training of ``learner``; ``seed`` decides its own draws."""

    @final
    def protect(self, learner: Learner) -> Learner:
        """Train as ``learner`` does, with the hook."""
        return Hooked(learner=learner, defense=self)


def protect(learner: Learner, defenses: Sequence[Defense]) -> Learner:
    """The learner inside a stack of defenses, the first one innermost.

    Raises :class:`ConfigError` where something is worn around a defense that must be the outermost.
    """
    for defense in defenses[:-1]:
        if defense.outermost:
            raise ConfigError(
                f"{defense.name} must be the last of a stack: a defense around it would void what it proves"
            )
    for defense in defenses:
        learner = defense.protect(learner)
    return learner


def stack_name(defenses: Sequence[Defense]) -> str:
    """The name of a stack of defenses, for tables: ``none``, or names joined by ``+``; oracles are stamped."""
    return " + ".join(each.title for each in defenses) or "none"


@dataclass(frozen=True, kw_only=True)
class Hooked(Around):
    """Trains with the hook of a defense."""

    name: ClassVar[str] = "hooked"

    defense: HookDefense
    """Whose hook it is."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside. Raises :class:`ConfigError` where that cannot train with the hook."""
        wrong = self.learner.hook_problems([self.defense.hook(self.learner, seed.child(self.defense.name))])
        if wrong:
            raise ConfigError("; ".join(wrong))
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Train with a fresh hook, before the hooks given."""
        hook = self.defense.hook(self.learner, seed.child(self.defense.name))
        yield from self.learner.train(data, seed=seed, hooks=(hook, *hooks), resume=resume)


@dataclass(frozen=True, kw_only=True)
class Filtered(Around):
    """Trains a probe, removes what a filter flags, and trains again from scratch.

    Probe and final network are trained from the same seed. So the probe is the network that would have been trained
    without defense; several filters share it where the learner inside remembers its trainings.
    """

    name: ClassVar[str] = "filtered"

    defense: Filter
    """Who judges."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Probe, judgement, training; progress is that of the last."""
        sifting = Sifting.resumed(resume) if resume else self._sifting(data, seed)
        yield from sifting.train(self.learner, data, seed=seed, hooks=hooks, resume=resume)

    def _sifting(self, data: Dataset, seed: Seed) -> Sifting:
        probe = self.learner.fit(data, seed=seed)
        started = time.perf_counter()
        data = data.at(data.ids.argsort())  # so that the order of the rows cannot matter
        verdict = self.defense.judge(features_of(probe.model, data), data, seed=seed.child(self.defense.name))
        verdict = replace(verdict, reused=probe.reused)
        return sifted(verdict, data, self.defense, seconds=time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class Sanitised(Around):
    """Sifts the training set, and trains on what is left."""

    name: ClassVar[str] = "sanitised"

    defense: Sanitiser
    """Who sifts."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Sift, then train; hooks act on, and progress is that of, the last training."""
        sifting = Sifting.resumed(resume) if resume else self._sifting(data, seed)
        yield from sifting.train(self.learner, data, seed=seed, hooks=hooks, resume=resume)

    def _sifting(self, data: Dataset, seed: Seed) -> Sifting:
        started = time.perf_counter()
        data = data.at(data.ids.argsort())  # so that the order of the rows cannot matter
        verdict = self.defense.sift(self.learner, data, seed=seed)
        return sifted(verdict, data, self.defense, seconds=time.perf_counter() - started + verdict.reused)


def sifted(verdict: Verdict, data: Dataset, defense: Defense, *, seconds: float) -> Sifting:
    """What a verdict on the rows of ``data`` comes to. Raises :class:`DataError` where it is none."""
    _check(verdict, data, defense.name)
    removal = Removal(by=defense.name, epoch=0, ids=ranked(verdict, data), seconds=seconds)
    relabelling = None
    if verdict.labels is not None:
        changed = verdict.labels != data.labels
        relabelling = Relabelling(ids=data.ids[changed], labels=verdict.labels[changed])
    return Sifting(removal=removal if defense.drops else None, relabelling=relabelling, reused=verdict.reused)


def _check(verdict: Verdict, data: Dataset, who: str) -> None:
    """Raise :class:`DataError` for a verdict that is not one score and one yes or no for each row."""
    count, scores, flagged = len(data), tuple(verdict.scores.shape), tuple(verdict.flagged.shape)
    if not scores == flagged == (count,) or verdict.flagged.dtype != torch.bool:
        raise DataError(
            f"the verdict of {who} must hold scores and flagged (bool) of shape ({count},), but they have the shapes "
            f"{scores} and {flagged} ({str(verdict.flagged.dtype).removeprefix('torch.')})"
        )
    labels = verdict.labels
    if labels is None:
        return
    if tuple(labels.shape) != (count,) or labels.dtype != torch.int64 or not _within(labels, data.space.num_classes):
        raise DataError(
            f"the labels of the verdict of {who} must be {count} whole numbers (int64) in 0.."
            f"{data.space.num_classes - 1}, but they are not (shape {tuple(labels.shape)})"
        )


def _within(labels: Tensor, classes: int) -> bool:
    return bool(((labels >= 0) & (labels < classes)).all())


def ranked(verdict: Verdict, data: Dataset) -> Tensor:
    """Ids ``(n,)`` of the flagged rows, the most suspect first, lower ids first among equals."""
    ids, scores = data.ids[verdict.flagged], verdict.scores[verdict.flagged]
    ids, order = ids.sort()
    return ids[scores[order].nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)]


def features_of(model: Classifier, data: Dataset, *, batch_size: int = 512) -> Tensor:
    """Penultimate features ``(N, D)`` float32 of the unaugmented rows, in evaluation mode; the mode is restored."""
    training = model.training
    model.eval()
    with torch.no_grad():
        rows = torch.split(torch.arange(len(data), device=data.device), batch_size)
        parts = [model.features(data.take(index)[0]).flatten(1).float() for index in rows]
    model.train(training)
    return torch.cat(parts)


def points_of(learner: Learner, data: Dataset, *, where: Where, seed: Seed) -> tuple[Tensor, float]:
    """Where the rows lie, ``(N, D)`` float32, and the seconds of work for it that were found done.

    ``inputs``: the flattened inputs, scaled by the space's mean and deviation; nothing is trained. ``features``: those
    of a probe, the network that ``learner`` trains on ``data``.
    """
    if where == "inputs":
        return standardised(data), 0.0
    probe = learner.fit(data, seed=seed)
    return features_of(probe.model, data), probe.reused


def check_where(where: str) -> None:
    """Raise :class:`ConfigError` where rows cannot be looked at."""
    if where not in ("inputs", "features"):
        raise ConfigError(f"space must be 'inputs' or 'features', but it is '{where}'")
