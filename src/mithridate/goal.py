"""What an attacker wants: aims drawn in two copies, one the attacker may know and one it is judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError, nearest
from mithridate.poison import Trigger
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Aims:
    """Inputs, and what the attacker wants a victim to call them."""

    inputs: Tensor
    """``(T, *shape)`` float32 in natural units, without trigger."""
    labels: Tensor
    """``(T,)`` true classes."""
    wanted: Tensor | None
    """``(T,)`` classes wanted, or None where any wrong answer will do."""
    trigger: Trigger | None = None
    """The mark put on the inputs when the victim sees them, if any."""
    ids: Tensor | None = None
    """``(T,)`` ids of the inputs in the set they were drawn from."""

    def __len__(self) -> int:
        """The number of inputs."""
        return len(self.labels)

    def seen(self) -> Tensor:
        """The inputs as the victim sees them, ``(T, *shape)``."""
        return self.trigger.apply(self.inputs) if self.trigger else self.inputs

    def hits(self, predicted: Tensor) -> Tensor:
        """Which predictions ``(T,)`` are what the attacker wanted, ``(T,)`` bool."""
        if self.wanted is None:
            return predicted != self.labels.to(predicted.device)
        return predicted == self.wanted.to(predicted.device)

    def to(self, device: torch.device | str) -> Aims:
        """The same aims on ``device``."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            labels=self.labels.to(device),
            wanted=None if self.wanted is None else self.wanted.to(device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """One draw of a goal. Attacks are handed ``known`` alone; only the referee sees ``judged``."""

    known: Aims
    judged: Aims


class GoalSpec(ABC):
    """What is wanted, before the dice are thrown. Kinds are frozen dataclasses in this module."""

    name: ClassVar[str]
    holds_out: ClassVar[bool] = False
    """Whether the attacker crafts on rows held out for it alone (validation rows), which no victim trains on."""

    def validation_rows(self, count: int) -> int:
        """How many of ``count`` training rows of a source are held out for the attacker; 0 where none are."""
        return 0

    @abstractmethod
    def draw(self, train: Dataset, test: Dataset, seed: Seed, *, validation: Dataset | None = None) -> Goal:
        """One goal over this data; ``validation`` are the rows held out for the attacker, where it holds out any.

        Raises :class:`DataError` or :class:`ConfigError` where it cannot be met.
        """


@dataclass(frozen=True, kw_only=True)
class Misclassify(GoalSpec):
    """Have certain unmodified test inputs called a class of the attacker's choice (a targeted attack).

    Target and intended class are drawn uniformly unless named, then the targets uniformly from the test rows of the
    target class, as in Witches' Brew. Known and judged are the same inputs, since the attacker knows its target, unless
    ``views`` are named.
    """

    name: ClassVar[str] = "misclassify"

    target: int | str = "random"
    """Class of the targets: a number, a class name, ``random`` (one class for all), or ``any`` (from all classes)."""
    intended: int | str = "random"
    """Class wanted: a number, a class name, ``random`` (one for all targets), or ``each`` (drawn for each target)."""
    targets: int = 1
    """How many targets at once. Paper: 1."""
    ids: tuple[int, ...] = ()
    """Test ids of the targets, to fix them instead of drawing; they decide the target class."""
    views: tuple[int, ...] = ()
    """Test ids of further views of the targets, on which victims are judged instead; the attacker sees only ``ids``.
    Bullseye Polytope's multi-target setting: one object from several angles."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.targets < 1:
            raise ConfigError(f"targets must be at least 1, but it is {self.targets}")
        if self.views:
            self._check_views(self.views)

    def _check_views(self, views: tuple[int, ...]) -> None:
        if not self.ids:
            raise ConfigError("views are further views of fixed targets; name the targets in ids")
        if self.intended == "each":
            raise ConfigError("views need one class wanted of all targets, but intended is 'each'")
        if len(set(views)) < len(views) or set(views) & set(self.ids):
            raise ConfigError("views name a test row twice, or one of the targets in ids; name each row once")

    def draw(self, train: Dataset, test: Dataset, seed: Seed, *, validation: Dataset | None = None) -> Goal:
        """Draw target class, intended class and targets, in that order, each from its own named stream."""
        space, classes = test.space, test.space.num_classes
        true = self._target_class(test, seed)
        wanted = self._intended_class(space, true, seed)
        chosen = self._targets(test, true, avoid=wanted, seed=seed)
        labels = chosen.labels.clone()
        if wanted is None:
            offsets = torch.randint(1, classes, (len(chosen),), generator=seed.child("intended").generator())
            wants = (labels + offsets.to(labels.device)) % classes
        else:
            wants = torch.full_like(labels, wanted)
        if bool((wants == labels).any()):
            raise ConfigError(
                f"a target is already of the intended class '{space.name(int(wants[wants == labels][0]))}'; "
                "choose another intended class"
            )
        aims = Aims(inputs=chosen.all_inputs(), labels=labels, wanted=wants, ids=chosen.ids)
        return Goal(known=aims, judged=self._views_of(aims, test) if self.views else aims)

    def _views_of(self, known: Aims, test: Dataset) -> Aims:
        """The rows that show the targets from elsewhere, of which the same class is wanted."""
        rows = test.rows(torch.tensor(self.views))
        strange = ~torch.isin(rows.labels, known.labels)
        if bool(strange.any()):
            raise ConfigError(
                f"view {int(rows.ids[strange][0])} is of class '{test.space.name(int(rows.labels[strange][0]))}', "
                "which none of the targets is; a view shows the same object"
            )
        assert known.wanted is not None
        wanted = known.wanted[:1].expand(len(rows)).clone()
        return Aims(inputs=rows.all_inputs(), labels=rows.labels.clone(), wanted=wanted, ids=rows.ids)

    def _target_class(self, test: Dataset, seed: Seed) -> int | None:
        if self.ids:
            return int(test.rows(torch.tensor(self.ids[:1])).labels[0])
        if self.target == "any":
            return None
        if self.target == "random":
            banned = class_number(self.intended, test.space) if self.intended not in ("random", "each") else None
            return _draw_class(test.space, banned, seed.child("target class"))
        return class_number(self.target, test.space)

    def _intended_class(self, space: Space, true: int | None, seed: Seed) -> int | None:
        if self.intended == "each" or (self.intended == "random" and true is None):
            return None
        if self.intended == "random":
            return _draw_class(space, true, seed.child("intended"))
        return class_number(self.intended, space)

    def _targets(self, test: Dataset, true: int | None, *, avoid: int | None, seed: Seed) -> Dataset:
        if self.ids:
            return test.rows(torch.tensor(self.ids))
        allowed = (test.labels == true) if true is not None else (test.labels != (-1 if avoid is None else avoid))
        pool = allowed.nonzero().flatten()
        if len(pool) < self.targets:
            what = f"class '{test.space.name(true)}'" if true is not None else "the test set"
            asked = "1 target was" if self.targets == 1 else f"{self.targets} targets were"
            raise DataError(f"{asked} asked for, but {what} has only {len(pool)} test rows")
        order = torch.randperm(len(pool), generator=seed.child("targets").generator())
        return test.at(pool[order[: self.targets]])


@dataclass(frozen=True, kw_only=True)
class Backdoor(GoalSpec):
    """Have any input that carries a trigger called the intended class.

    The attacker knows training rows of other classes; it is judged on test rows, which it never sees.
    """

    name: ClassVar[str] = "backdoor"

    trigger: Trigger
    """The mark."""
    intended: int | str = "random"
    """Class wanted: a number, a class name or ``random``."""
    source: int | str = "any"
    """Class of the inputs that will carry the trigger, or ``any``."""
    known: int = 128
    """How many training rows the attacker crafts with."""

    def __post_init__(self) -> None:
        """Refuse an attacker who knows no rows."""
        if self.known < 1:
            raise ConfigError(f"known must be at least 1 row, but it is {self.known}")

    def draw(self, train: Dataset, test: Dataset, seed: Seed, *, validation: Dataset | None = None) -> Goal:
        """Draw the intended class, and the attacker's rows from the training set."""
        space = test.space
        source = None if self.source == "any" else class_number(self.source, space)
        if self.intended == "random":
            wanted = _draw_class(space, source, seed.child("intended"))
        else:
            wanted = class_number(self.intended, space)
        _check_differ(source, wanted, space)
        judged = self._aims(test, wanted, source)
        pool = self._aims(train, wanted, source)
        order = torch.randperm(len(pool), generator=seed.child("known").generator())[: self.known]
        assert pool.wanted is not None
        assert pool.ids is not None
        known = replace(
            pool, inputs=pool.inputs[order], labels=pool.labels[order], wanted=pool.wanted[order], ids=pool.ids[order]
        )
        return Goal(known=known, judged=judged)

    def _aims(self, data: Dataset, wanted: int, source: int | None) -> Aims:
        mask = data.labels != wanted if source is None else data.labels == source
        rows = data.at(mask.nonzero().flatten())
        if not len(rows):
            raise DataError("no rows are left for the backdoor to be tried on; choose another source class")
        return Aims(
            inputs=rows.all_inputs(),
            labels=rows.labels,
            wanted=torch.full_like(rows.labels, wanted),
            trigger=self.trigger,
            ids=rows.ids,
        )


@dataclass(frozen=True, kw_only=True)
class Degrade(GoalSpec):
    """Make the victim wrong: on anything (error-generic), or by a given confusion of classes (error-specific).

    The attacker crafts on validation rows, which trials hold out of the training rows: no victim trains on them. It is
    judged on the test rows, which it never sees.
    """

    name: ClassVar[str] = "degrade"
    holds_out: ClassVar[bool] = True

    kind: Literal["generic", "specific"] = "generic"
    """Whether any error counts, or only ``source`` called ``intended``."""
    source: int | str = 0
    """Error-specific: class that is to be mistaken."""
    intended: int | str = 1
    """Error-specific: class that it is to be mistaken for."""
    known: float = 0.2
    """Validation rows: a share of all training rows of the source, in (0, 1], or a whole number above 1: so many."""

    def __post_init__(self) -> None:
        """Refuse a validation set of no rows, of more than all, or of a broken number."""
        if not (0 < self.known <= 1 or (self.known > 1 and float(self.known).is_integer())):
            raise ConfigError(
                "known must be a share of the training rows in (0, 1], or a whole number of rows above 1, but it is "
                f"{self.known:g}" + (f" (did you mean {self.known:g} %?)" if 1 < self.known < 100 else "")
            )

    def validation_rows(self, count: int) -> int:
        """The number asked for, or the share of ``count``, rounded and at least one."""
        return int(self.known) if self.known > 1 else max(1, round(self.known * count))

    def draw(self, train: Dataset, test: Dataset, seed: Seed, *, validation: Dataset | None = None) -> Goal:
        """Known are the validation rows, judged the test rows.

        Without ``validation`` the attacker's rows are drawn from the training set, and stay in it.
        """
        if validation is None:
            count = min(self.validation_rows(len(train)), len(train))
            validation = train.at(torch.randperm(len(train), generator=seed.child("known").generator())[:count])
        return Goal(known=self._aims(validation), judged=self._aims(test))

    def _aims(self, rows: Dataset) -> Aims:
        if self.kind == "generic":
            return Aims(inputs=rows.all_inputs(), labels=rows.labels, wanted=None, ids=rows.ids)
        source, wanted = class_number(self.source, rows.space), class_number(self.intended, rows.space)
        _check_differ(source, wanted, rows.space)
        rows = rows.at((rows.labels == source).nonzero().flatten())
        if not len(rows):
            raise DataError(f"class '{rows.space.name(source)}' has no rows here, so it cannot be mistaken")
        wants = torch.full_like(rows.labels, wanted)
        return Aims(inputs=rows.all_inputs(), labels=rows.labels, wanted=wants, ids=rows.ids)


def class_number(which: int | str, space: Space) -> int:
    """The number of a class given by number or by name. Raises :class:`ConfigError` with the nearest right name."""
    if isinstance(which, str) and which in space.classes:
        return space.classes.index(which)
    number = int(which) if isinstance(which, int) or which.isdecimal() else None
    if number is None:
        known = space.classes or tuple(str(label) for label in range(space.num_classes))
        raise ConfigError(f"there is no class '{which}': {nearest(str(which), known)}")
    if not 0 <= number < space.num_classes:
        raise ConfigError(f"class {number} is outside 0..{space.num_classes - 1}")
    return number


def _check_differ(source: int | None, wanted: int, space: Space) -> None:
    if source == wanted:
        raise ConfigError(f"source and intended are both class '{space.name(wanted)}'; choose two classes")


def _draw_class(space: Space, banned: int | None, seed: Seed) -> int:
    """A class drawn uniformly from all but ``banned``."""
    allowed = [label for label in range(space.num_classes) if label != banned]
    return allowed[int(torch.randint(len(allowed), (1,), generator=seed.generator()))]
