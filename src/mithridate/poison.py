"""A poison is rows with ids, and the trace of how it was made; a trigger is what marks an input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import DataError

FIRST_APPENDED = 1 << 40
"""Ids of appended rows begin here, beyond those of any training set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Poison:
    """Rows that an attacker writes over a training set: known ids are replaced, new ids are appended.

    Attacks number the rows that they append from :data:`FIRST_APPENDED` on.
    """

    rows: Dataset
    """The poisoned rows, as the victim would receive them."""
    trace: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Named curves recorded while crafting (``loss``: the attack's objective at each step), for the report."""
    origins: Tensor | None = None
    """Of appended rows, ``(n,)`` int64 ids of the clean training rows that they began as, which may repeat."""
    base: Dataset | None = None
    """The clean rows that appended ones began as, under the poison's ids, where those are no training rows."""

    def __post_init__(self) -> None:
        """Refuse origins that are not one id for each row."""
        origins = self.origins
        if origins is not None and (origins.dtype != torch.int64 or origins.shape != self.rows.ids.shape):
            raise DataError(
                f"a poison of {len(self.rows)} rows needs as many int64 origins, but they are {origins.dtype} of shape "
                f"{tuple(origins.shape)}"
            )

    def quantised(self) -> Poison:
        """The same poison in the stored form of its space: 8-bit images on their 256 levels, tables as valid rows."""
        stored = self.rows.space.encode(self.rows.all_inputs())
        return replace(self, rows=replace(self.rows, inputs=stored))

    def towards(self, clean: Dataset) -> Poison:
        """The same poison, each value rounded to the last level on the way from ``clean`` (row by row).

        Where clean values are levels themselves, none ends further from its clean one than it was (but for 5e-7 of
        the largest value), so whatever norm bounds the change still does. Rows of a table become valid ones.
        """
        space = self.rows.space
        if space.layout is not None:
            inputs = space.layout.towards(self.rows.all_inputs(), clean.all_inputs())
            return replace(self, rows=replace(self.rows, inputs=inputs))
        if space.levels is None:
            return self
        low, high = space.bounds
        step = (high - low) / (space.levels - 1)
        start, end = ((inputs.double() - low) / step for inputs in (clean.all_inputs(), self.rows.all_inputs()))
        hair = 5e-7 * max(1.0, abs(low), abs(high)) / step  # 7.9999 levels are 8: float32 error, not distance
        levels = torch.where(end >= start, torch.floor(end + hair), torch.ceil(end - hair))
        return replace(self, rows=replace(self.rows, inputs=space.encode(low + step * levels)))

    def clean(self, data: Dataset) -> Dataset | None:
        """The rows of the clean training set that these began as, in their order; None where that is not known.

        Appended rows began as their origins, of which one may come several times, or as :attr:`base`; others are told
        by their ids.
        """
        if self.base is not None:
            return self.base.to(data.device)
        ids = (self.rows.ids if self.origins is None else self.origins).to(data.device)
        return data.rows(ids) if bool(torch.isin(ids, data.ids).all()) else None

    def apply(self, data: Dataset) -> Dataset:
        """The training set with this poison in it."""
        return data.updated(self.rows)


def no_poison(data: Dataset, trace: Mapping[str, tuple[float, ...]] | None = None) -> Poison:
    """A poison without rows, in the space of ``data``."""
    return Poison(rows=data.at(torch.zeros(0, dtype=torch.int64, device=data.device)), trace=trace or {})


class Trigger(ABC):
    """A mark put on inputs. Kinds are frozen dataclasses in ``triggers/``."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, inputs: Tensor) -> Tensor:
        """Inputs ``(N, *shape)`` in natural units with the mark on them, same shape and range."""
