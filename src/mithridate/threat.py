"""What an attacker is allowed: how many rows, how far, which ones; and whether a poison kept to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.goal import Aims, GoalSpec, Misclassify
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.settings import LATER

Origin = Literal["single-class", "third-party", "random-subset", "self-betrayal", "either-class"]


class Perturbation(ABC):
    """The set of changed inputs that an attacker may use in place of a clean one."""

    name: ClassVar[str]

    @abstractmethod
    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """The nearest allowed inputs to ``changed`` ``(N, *shape)``, natural units, inside the space's bounds."""

    @abstractmethod
    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Random allowed inputs that use the whole radius: the control every crafted poison must beat."""

    @abstractmethod
    def excess(self, changed: Tensor, clean: Tensor) -> Tensor:
        """By how much each row ``(N,)`` exceeds what is allowed, natural units; 0 where it does not."""


@dataclass(frozen=True, kw_only=True)
class Linf(Perturbation):
    """Every value may move by at most ``radius``."""

    name: ClassVar[str] = "linf"

    radius: float = 8 / 255
    """Largest change of one value, natural units (pixels in [0, 1]). Papers: 8/255, 16/255, 32/255."""
    slack: float = 0.0
    """What the check forgives beyond the radius, natural units. No attack searches there, but rounding may end there.
    The poisoning benchmark: 1/255, since its image files are cut off to 8 bits instead of rounded."""

    def __post_init__(self) -> None:
        """Refuse a radius that was meant in 255ths, and a slack that is one or takes something away."""
        _check_radius(self.radius, "radius")
        if not 0 <= self.slack <= 1:
            raise ConfigError(
                f"slack must lie in [0, 1], since pixels lie in [0, 1], but it is {self.slack:g}"
                + (f" (did you mean {self.slack:g}/255?)" if self.slack > 1 else "")
            )

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Clamp to the box around ``clean``, then to the bounds."""
        low, high = space.bounds
        return torch.minimum(torch.maximum(changed, clean - self.radius), clean + self.radius).clamp(low, high)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Each value moved by plus or minus the radius, at random."""
        sign = torch.randint(0, 2, clean.shape, generator=generator, device=generator.device).to(clean) * 2 - 1
        return self.project(clean + self.radius * sign, clean, space)

    def excess(self, changed: Tensor, clean: Tensor) -> Tensor:
        """Largest absolute change less the radius and the slack."""
        return ((changed - clean).abs().flatten(1).amax(1) - (self.radius + self.slack)).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class L2(Perturbation):
    """Every row may move by at most ``radius`` in Euclidean distance."""

    name: ClassVar[str] = "l2"

    radius: float = 1.0
    """Largest Euclidean change of a row, natural units."""

    def __post_init__(self) -> None:
        """Refuse a radius that allows nothing."""
        if not self.radius > 0:
            raise ConfigError(f"radius must be positive, but it is {self.radius:g}")

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Shrink the change to the ball, then clamp to the bounds (which shrinks it further, never less)."""
        change = changed - clean
        norm = torch.linalg.vector_norm(change.flatten(1), dim=1).clamp_min(1e-12)
        scale = (self.radius / norm).clamp(max=1.0).reshape(-1, *[1] * (clean.ndim - 1))
        shrunk: Tensor = clean + change * scale
        return shrunk.clamp(*space.bounds)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """A uniformly random direction of full length."""
        direction = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
        return self.project(clean + direction * 1e6, clean, space)

    def excess(self, changed: Tensor, clean: Tensor) -> Tensor:
        """Euclidean change less the radius."""
        length: Tensor = torch.linalg.vector_norm((changed - clean).flatten(1), dim=1)
        return (length - self.radius).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class Unbounded(Perturbation):
    """A row may become anything inside the space's bounds."""

    name: ClassVar[str] = "unbounded"

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Clamp to the bounds."""
        return changed.clamp(*space.bounds)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Uniform between the bounds."""
        low, high = space.bounds
        drawn = torch.rand(clean.shape, generator=generator, device=generator.device).to(clean)
        noisy: Tensor = low + (high - low) * drawn
        return noisy

    def excess(self, changed: Tensor, clean: Tensor) -> Tensor:
        """Nothing is too much."""
        return torch.zeros(len(changed), device=changed.device)


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
        """Refuse a budget that is no fraction."""
        if not 0 <= self.budget <= 1:
            raise ConfigError(
                f"budget must be a fraction of the training rows in [0, 1], but it is {self.budget:g}"
                + (
                    f" (did you mean {self.budget / 100:g}, that is {self.budget:g} %?)"
                    if 1 < self.budget <= 100
                    else ""
                )
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
        known = torch.isin(rows.ids, data.ids.to(rows.ids.device))
        if self.rows == "append":
            if bool(known.any()):
                raise ThreatModelError("the poison replaces training rows, but may only append new ones")
            return
        if not bool(known.all()):
            raise ThreatModelError("the poison appends new rows, but may only replace training rows")
        self._check_change(data.rows(rows.ids).to(rows.device), rows)

    def inside(self, changed: Tensor, clean: Tensor) -> Tensor:
        """Which changed inputs ``(N, *shape)`` are allowed in place of ``clean``, up to float32 rounding, ``(N,)``."""
        rounding = 1e-6 * max(1.0, float(clean.abs().max()))  # of (clean + radius) - clean
        return self.perturbation.excess(changed, clean) <= rounding

    def _check_space(self, data: Space, rows: Space) -> None:
        for what in ("shape", "num_classes", "bounds", "levels"):  # the data's own say, not the attacker's
            if getattr(rows, what) != getattr(data, what):
                raise ThreatModelError(
                    f"the poison has {what} {getattr(rows, what)}, but the training set has {getattr(data, what)}"
                )

    def _check_range(self, rows: Dataset) -> None:
        inputs, (low, high) = rows.all_inputs(), rows.space.bounds
        if not bool(torch.isfinite(inputs).all()):
            raise ThreatModelError("the poison holds NaN or infinite values")
        if float(inputs.min()) < low or float(inputs.max()) > high:
            raise ThreatModelError(f"the poison leaves the valid range [{low:g}, {high:g}]")
        if int(rows.labels.min()) < 0 or int(rows.labels.max()) >= rows.space.num_classes:
            raise ThreatModelError(f"the poison has labels outside 0..{rows.space.num_classes - 1}")

    def _check_change(self, clean: Dataset, rows: Dataset) -> None:
        if self.labels == "clean" and not bool((clean.labels == rows.labels).all()):
            raise ThreatModelError("the poison changes labels, but the threat model says clean labels")
        if not bool(self.inside(rows.all_inputs(), clean.all_inputs()).all()):
            excess = self.perturbation.excess(rows.all_inputs(), clean.all_inputs())
            worst = int(excess.argmax())
            raise ThreatModelError(
                f"the poison of row {int(rows.ids[worst])} exceeds the allowed change by {float(excess[worst]):.3g} "
                f"({self.perturbation})"
            )


def _check_radius(radius: float, what: str) -> None:
    if not 0 < radius <= 1:
        raise ConfigError(
            f"{what} must lie in (0, 1], since pixels lie in [0, 1], but it is {radius:g}"
            + (f" (did you mean {radius:g}/255?)" if radius > 1 else "")
        )
