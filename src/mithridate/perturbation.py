"""How a row may be changed: the sets of inputs that an attacker may use in place of a clean one.

In images a change is measured in natural units. In tables with named columns it is measured in parts of each column's
range; there project returns *relaxed* rows, in which whole numbers may be broken and a one-hot group only adds up to 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.errors import ConfigError
from mithridate.space import Space


class Perturbation(ABC):
    """The set of changed inputs that an attacker may use in place of a clean one."""

    name: ClassVar[str]
    bounded: ClassVar[bool] = True
    """Whether it depends on the clean input what is allowed."""

    @abstractmethod
    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """The nearest allowed inputs to ``changed`` ``(N, *shape)``, natural units, inside the space's bounds.

        Columns that are not mutable take the values of ``clean``.
        """

    @abstractmethod
    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Random allowed inputs that use the whole radius: the control every crafted poison must beat.

        Of a table they are valid rows, for which changes are shortened to whole numbers.
        """

    @abstractmethod
    def excess(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """By how much each row ``(N,)`` exceeds what is allowed, in :meth:`Space.unit`; 0 where it does not."""


@dataclass(frozen=True, kw_only=True)
class Linf(Perturbation):
    """Every value may move by at most ``radius``."""

    name: ClassVar[str] = "linf"

    radius: float = 8 / 255
    """Largest change of one value: natural units (pixels in [0, 1]), or parts of each column's range, where less than 1
    keeps every category. Papers: 8/255, 16/255, 32/255."""
    slack: float = 0.0
    """What the check forgives beyond the radius, in its unit. No attack searches there, but rounding may end there.
    The poisoning benchmark: 1/255, since its image files are cut off to 8 bits instead of rounded."""

    def __post_init__(self) -> None:
        """Refuse a radius that was meant in 255ths, and a slack that is one or takes something away."""
        _check_radius(self.radius, "radius")
        if not 0 <= self.slack <= 1:
            raise ConfigError(
                f"slack must lie in [0, 1], the whole range of a pixel or column, but it is {self.slack:g}"
                + (f" (did you mean {self.slack:g}/255?)" if self.slack > 1 else "")
            )

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Clamp to the box around ``clean``, then to the bounds."""
        return _within(changed, clean, space, reach=self.radius)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Each value moved by plus or minus the radius, at random."""
        sign = torch.randint(0, 2, clean.shape, generator=generator, device=generator.device).to(clean) * 2 - 1
        return _storable(self.project(clean + self.radius * sign * space.unit(clean), clean, space), clean, space)

    def excess(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Largest absolute change less the radius and the slack."""
        change = ((changed - clean) / space.unit(clean)).abs().flatten(1).amax(1)
        return (change - (self.radius + self.slack)).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class L2(Perturbation):
    """Every row may move by at most ``radius`` in Euclidean distance."""

    name: ClassVar[str] = "l2"

    radius: float = 1.0
    """Largest Euclidean change of a row: natural units, or parts of each column's range, where another category is a
    change of 1.414."""

    def __post_init__(self) -> None:
        """Refuse a radius that allows nothing."""
        if not self.radius > 0:
            raise ConfigError(f"radius must be positive, but it is {self.radius:g}")

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Shrink the change to the ball, then clamp to the bounds (which shrinks it further, never less)."""
        unit = space.unit(clean)
        change = (_mutable(changed, clean, space) - clean) / unit
        norm = torch.linalg.vector_norm(change.flatten(1), dim=1).clamp_min(1e-12)
        scale = (self.radius / norm).clamp(max=1.0).reshape(-1, *[1] * (clean.ndim - 1))
        return _within(clean + change * scale * unit, clean, space)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """A uniformly random direction of full length."""
        direction = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
        return _storable(self.project(clean + direction * 1e6 * space.unit(clean), clean, space), clean, space)

    def excess(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Euclidean change less the radius."""
        length: Tensor = torch.linalg.vector_norm(((changed - clean) / space.unit(clean)).flatten(1), dim=1)
        return (length - self.radius).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class Unbounded(Perturbation):
    """A row may become anything inside the space's bounds, but for columns that are not mutable."""

    name: ClassVar[str] = "unbounded"
    bounded: ClassVar[bool] = False

    def project(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Clamp to the bounds, or to the range of each column."""
        return _within(changed, clean, space)

    def noise(self, clean: Tensor, space: Space, generator: torch.Generator) -> Tensor:
        """Uniform between the bounds, or in the range of each column; each category of a group is as likely."""
        drawn = torch.rand(clean.shape, generator=generator, device=generator.device).to(clean)
        if space.layout is not None:
            return _mutable(space.layout.anywhere(drawn), clean, space)
        low, high = space.bounds
        noisy: Tensor = low + (high - low) * drawn
        return noisy

    def excess(self, changed: Tensor, clean: Tensor, space: Space) -> Tensor:
        """Nothing is too much."""
        return torch.zeros(len(changed), device=changed.device)


def _check_radius(radius: float, what: str) -> None:
    if not 0 < radius <= 1:
        raise ConfigError(
            f"{what} must lie in (0, 1], the whole range of a pixel or column, but it is {radius:g}"
            + (f" (did you mean {radius:g}/255?)" if radius > 1 else "")
        )


def _within(changed: Tensor, clean: Tensor, space: Space, *, reach: float = math.inf) -> Tensor:
    """The nearest to ``changed`` in the space whose every value is within ``reach`` units of ``clean``."""
    if space.layout is not None:
        return space.layout.within(changed, clean, reach=reach)
    near = changed if reach == math.inf else torch.minimum(torch.maximum(changed, clean - reach), clean + reach)
    return near.clamp(*space.bounds)


def _mutable(changed: Tensor, clean: Tensor, space: Space) -> Tensor:
    """``changed``, with the values of ``clean`` in columns that are not mutable."""
    if space.layout is None:
        return changed
    return torch.where(space.layout.fixed.to(changed.device), clean, changed)


def _storable(changed: Tensor, clean: Tensor, space: Space) -> Tensor:
    """Of a table the last valid rows on the way from ``clean`` to ``changed``; else ``changed`` itself."""
    return changed if space.layout is None else space.layout.towards(changed, clean)
