"""What an attacker is allowed: how many rows, how far, which ones; and whether a poison kept to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mithridate.columns import difference
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.goal import Aims, GoalSpec, Misclassify
from mithridate.perturbation import L2 as L2  # those who speak of threats find all of it here
from mithridate.perturbation import Linf as Linf
from mithridate.perturbation import Perturbation as Perturbation
from mithridate.perturbation import Unbounded as Unbounded
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.seeding import Seed
from mithridate.settings import LATER

Origin = Literal["single-class", "third-party", "random-subset", "self-betrayal", "either-class"]


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """What is wanted and what is allowed. It picks the rows an attacker may write, and checks what came back."""

    goal: GoalSpec = field(default_factory=Misclassify)
    """What the attacker wants."""
    budget: float = 0.01
    """Fraction of the training rows that may be poison, in [0, 1]. Witches' Brew on CIFAR-10: 0.01."""
    perturbation: Perturbation = field(default_factory=Linf)
    """How a row may be changed."""
    labels: Literal["clean", "dirty"] = "clean"
    """Whether labels must stay what they are."""
    rows: Literal["replace", "append"] = "replace"
    """Whether poison takes the place of training rows or is added to them."""
    origin: Origin = "single-class"
    """Where poison rows are drawn from: ``single-class`` (the intended class; the paper's default), ``third-party``
    (one random class that is neither), ``random-subset`` (all classes), ``self-betrayal`` (the target's true class),
    ``either-class`` (the target's true class or the intended one)."""
    base_ids: tuple[int, ...] = ()
    """Training ids of the rows to poison, to fix them instead of drawing; at most the budget."""
    knows: Literal["training-rows", "own-rows"] = field(default="training-rows", metadata=LATER)
    """What the attacker crafts on: the victim's training rows, or as many other rows, from which it appends poison."""

    def __post_init__(self) -> None:
        """Refuse a budget that is no fraction, and replacing rows that the attacker does not know."""
        if not 0 <= self.budget <= 1:
            raise ConfigError(
                f"budget must be a fraction of the training rows in [0, 1], but it is {self.budget:g}"
                + (
                    f" (did you mean {self.budget / 100:g}, that is {self.budget:g} %?)"
                    if 1 < self.budget <= 100
                    else ""
                )
            )
        if self.knows == "own-rows" and self.rows == "replace":
            raise ConfigError(
                "knows: own-rows needs rows: append, since the training rows to be replaced are not known, but rows is "
                "replace"
            )

    def count(self, data: Dataset) -> int:
        """How many rows the budget pays for: the fraction of the rows, rounded up (less a hair for float error)."""
        return math.ceil(self.budget * len(data) - 1e-9)

    def candidates(self, data: Dataset, aims: Aims, seed: Seed) -> Tensor:
        """Ids ``(n,)`` of the rows that may be poisoned, in the order of the data."""
        if self.base_ids:
            return data.rows(torch.tensor(sorted(set(self.base_ids)))).ids
        return data.ids[self._from(data, aims, seed)]

    def pick(self, data: Dataset, aims: Aims, seed: Seed) -> Tensor:
        """Ids of the rows to poison: a uniform draw of :meth:`count` candidates without replacement, sorted.

        Raises :class:`ThreatModelError` where there are fewer candidates than the budget asks for: the published
        code shrinks the poison silently, which makes two experiments with one budget differ.
        """
        ids, count = self.candidates(data, aims, seed), self.count(data)
        if self.base_ids:
            if len(ids) > count:
                raise ThreatModelError(
                    f"{len(ids)} base ids are fixed, but a budget of {self.budget:g} pays for {count}"
                )
            return ids
        if len(ids) < count:
            raise ThreatModelError(
                f"a budget of {self.budget:g} asks for {count} rows, but only {len(ids)} rows may be poisoned "
                f"(origin '{self.origin}'); use a budget of at most {len(ids) / max(len(data), 1):.4g}"
            )
        order = torch.randperm(len(ids), generator=seed.child("rows").generator()).to(ids.device)
        return ids[order[:count]].sort().values

    def _from(self, data: Dataset, aims: Aims, seed: Seed) -> Tensor:
        """Mask ``(N,)`` of the rows in the class that poison is drawn from."""
        if self.origin == "random-subset" or (aims.wanted is None and self.origin == "single-class"):
            return torch.ones_like(data.labels, dtype=torch.bool)
        if self.origin == "self-betrayal":
            return torch.isin(data.labels, aims.labels.to(data.labels.device))
        wanted = aims.labels[:0] if aims.wanted is None else aims.wanted
        if self.origin == "either-class":
            return torch.isin(data.labels, torch.cat([aims.labels, wanted]).to(data.labels.device))
        if self.origin == "single-class":
            return torch.isin(data.labels, wanted.to(data.labels.device))
        taken = {*aims.labels.tolist(), *wanted.tolist()}
        free = [label for label in range(data.space.num_classes) if label not in taken]
        if not free:
            raise ThreatModelError("origin 'third-party' needs a class that is neither target nor intended")
        drawn = free[int(torch.randint(len(free), (1,), generator=seed.child("third party").generator()))]
        return data.labels == drawn

    def check(self, data: Dataset, poison: Poison) -> None:
        """Raise :class:`ThreatModelError` where the poison does more than this threat model allows."""
        rows = poison.rows
        self._check_space(data.space, rows.space)
        if len(rows) > self.count(data):
            raise ThreatModelError(
                f"the poison has {len(rows)} rows, but a budget of {self.budget:g} pays for {self.count(data)}"
            )
        if len(set(rows.ids.tolist())) != len(rows):
            raise ThreatModelError("the poison names a row twice")
        if not len(rows):
            return
        self._check_range(rows)
        clean = self._clean(data, poison)
        if clean is not None:
            self._check_change(clean.to(rows.device), rows)

    def inside(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Which changed inputs ``(N, *shape)`` are allowed in place of ``clean``, up to float32 rounding, ``(N,)``."""
        rounding = 1e-6 * max(1.0, float((clean / space.unit(clean)).abs().max()))  # of (clean + radius) - clean
        return self.perturbation.excess(changed, clean, space) <= rounding

    def _clean(self, data: Dataset, poison: Poison) -> Dataset | None:
        """The training rows that the poison began as, in its order; None where that may stay open."""
        ids, origins = poison.rows.ids.to(data.device), poison.origins
        known = torch.isin(ids, data.ids)
        if self.rows == "append":
            if bool(known.any()):
                raise ThreatModelError("the poison replaces training rows, but may only append new ones")
            return self._origins(data, poison)
        if not bool(known.all()):
            raise ThreatModelError("the poison appends new rows, but may only replace training rows")
        if origins is not None and not torch.equal(origins.to(ids.device), ids):
            raise ThreatModelError("the poison names origins other than the rows that it replaces; leave them out")
        return poison.clean(data)

    def _origins(self, data: Dataset, poison: Poison) -> Dataset | None:
        """The training rows that appended ones began as; None where nothing depends on it and none are named."""
        if self.knows == "own-rows" and int(poison.rows.ids.min()) < FIRST_APPENDED:
            raise ThreatModelError(
                f"the poison has the id {int(poison.rows.ids.min())}, but an attacker who does not know the training "
                f"rows numbers its own from {FIRST_APPENDED} on, since others may be theirs"
            )
        layout = data.space.layout
        fixed = layout is not None and bool(layout.fixed.any())
        if poison.origins is None and (self.labels == "clean" or self.perturbation.bounded or fixed):
            what = "clean labels" if self.labels == "clean" else "immutable columns" if fixed else "the allowed change"
            free = "" if fixed else ", or allow anything (labels: dirty, perturbation: unbounded)"
            raise ThreatModelError(
                f"the poison appends rows without saying which training rows they began as, so {what} cannot be "
                f"checked; name their origins{free}"
            )
        if poison.origins is not None:
            strange = ~torch.isin(poison.origins.to(data.device), data.ids)
            if bool(strange.any()):
                raise ThreatModelError(
                    f"the poison names row {int(poison.origins[strange.to(poison.origins.device)][0])} as an origin, "
                    "but that is no training row"
                )
        return poison.clean(data)

    def _check_space(self, data: Space, rows: Space) -> None:
        for what in ("shape", "num_classes", "bounds", "levels"):  # the data's own say, not the attacker's
            if getattr(rows, what) != getattr(data, what):
                raise ThreatModelError(
                    f"the poison has {what} {getattr(rows, what)}, but the training set has {getattr(data, what)}"
                )
        unlike = difference(rows.columns, data.columns)
        if unlike is not None:
            raise ThreatModelError(f"the poison has {unlike[0]}, but the training set has {unlike[1]}")

    def _check_range(self, rows: Dataset) -> None:
        inputs, (low, high), layout = rows.all_inputs(), rows.space.bounds, rows.space.layout
        if not bool(torch.isfinite(inputs).all()):
            raise ThreatModelError("the poison holds NaN or infinite values")
        fault = None if layout is None else layout.fault(inputs)
        if fault is not None:
            raise ThreatModelError(f"the poison with id {int(rows.ids[fault[0]])} is no valid row: {fault[1]}")
        if layout is None and (float(inputs.min()) < low or float(inputs.max()) > high):
            raise ThreatModelError(f"the poison leaves the valid range [{low:g}, {high:g}]")
        if int(rows.labels.min()) < 0 or int(rows.labels.max()) >= rows.space.num_classes:
            raise ThreatModelError(f"the poison has labels outside 0..{rows.space.num_classes - 1}")

    def _check_change(self, clean: Dataset, rows: Dataset) -> None:
        if self.labels == "clean" and not bool((clean.labels == rows.labels).all()):
            raise ThreatModelError("the poison changes labels, but the threat model says clean labels")
        changed, before, space = rows.all_inputs(), clean.all_inputs(), rows.space
        touched = None if space.layout is None else space.layout.touched(changed, before)
        if touched is not None:
            raise ThreatModelError(
                f"the poison of row {int(clean.ids[touched[0]])} changes {touched[1]}, which is not mutable"
            )
        if not bool(self.inside(changed, before, space).all()):
            excess = self.perturbation.excess(changed, before, space)
            worst = int(excess.argmax())
            raise ThreatModelError(
                f"the poison of row {int(clean.ids[worst])} exceeds the allowed change by {float(excess[worst]):.3g} "
                f"({self.perturbation})"
            )
