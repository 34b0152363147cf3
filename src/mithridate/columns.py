"""The named columns of a table: what each may hold, and the valid row nearest to any row of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mithridate.errors import DataError

Kind = Literal["real", "integer", "binary", "one-hot"]

_WHOLE = 2**24
"""Up to here float32, in which rows are stored, holds every whole number."""
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of each row of a table: its name, and the values that a valid row may have there."""

    name: str
    """Unique among the columns of a table."""
    kind: Kind = "real"
    """``real``, ``integer``, ``binary`` (0 or 1), or ``one-hot`` (0 or 1, and exactly one of the group is 1)."""
    low: float = 0.0
    """Least value allowed, in raw units."""
    high: float = 1.0
    """Greatest value allowed, in raw units."""
    group: str = ""
    """One-hot: the original column. The columns of a group stand together."""
    category: str = ""
    """One-hot: the value of the original column that a 1 stands for."""
    mutable: bool = True
    """Whether an attacker may change it; the same for a whole group."""

    def __post_init__(self) -> None:
        """Refuse a column that no value could stand in."""
        object.__setattr__(self, "low", float(self.low))  # so that 0 and 0.0 have one plain form
        object.__setattr__(self, "high", float(self.high))
        if not self.name:
            raise DataError("a column has no name; name every column")
        if self.kind not in get_args(Kind):
            raise DataError(f"column '{self.name}' is '{self.kind}', but kinds are {', '.join(get_args(Kind))}")
        finite = max(abs(self.low), abs(self.high)) <= _LARGEST and not math.isnan(self.low + self.high)
        if not (finite and self.low <= self.high):
            raise DataError(
                f"column '{self.name}' needs a lower and a higher finite number, but has [{self.low:g}, {self.high:g}]"
            )
        whole = self.low.is_integer() and self.high.is_integer() and max(-self.low, self.high) <= _WHOLE
        if self.kind == "integer" and not whole:
            raise DataError(
                f"column '{self.name}' is integer, so its ends must be whole numbers up to {_WHOLE} (what float32 "
                f"holds), but they are [{self.low:.9g}, {self.high:.9g}]; make it real"
            )
        if self.kind in ("binary", "one-hot") and (self.low, self.high) != (0.0, 1.0):
            raise DataError(f"column '{self.name}' is {self.kind}, so it holds 0 or 1, not {self.low:g}..{self.high:g}")
        if (self.kind == "one-hot") != bool(self.group) or (self.kind == "one-hot") != bool(self.category):
            raise DataError(f"column '{self.name}' is {self.kind}; one-hot columns alone need a group and a category")


def check_columns(columns: Sequence[Column]) -> None:
    """Raise :class:`DataError` for columns that do not make a table together, naming the first at fault."""
    names: set[str] = set()
    for column in columns:
        if column.name in names:
            raise DataError(f"two columns are called '{column.name}'; names of columns must be different")
        names.add(column.name)
    groups: set[str] = set()
    for place in _groups(columns):
        members = columns[place]
        group = members[0].group
        if group in groups:
            raise DataError(f"the one-hot columns of '{group}' do not stand together; put them side by side")
        groups.add(group)
        if len({each.category for each in members}) < len(members):
            raise DataError(f"two one-hot columns of '{group}' stand for one category; name each category once")
        if len({each.mutable for each in members}) > 1:
            raise DataError(f"some one-hot columns of '{group}' are mutable and some are not; say the same of all")


def span(columns: Sequence[Column]) -> tuple[float, float]:
    """The least and the greatest value that any of the columns may hold."""
    return min(each.low for each in columns), max(each.high for each in columns)


def difference(found: Sequence[Column], wanted: Sequence[Column]) -> str:
    """The first thing in which ``found`` columns differ from those ``wanted``, in words; empty where nothing does."""
    if len(found) != len(wanted):
        return f"{len(found)} columns, not {len(wanted)}"
    return next((f"{one}, not {other}" for one, other in zip(found, wanted, strict=True) if one != other), "")


def _groups(columns: Sequence[Column]) -> Iterator[slice]:
    """Where runs of one-hot columns of one group are."""
    start = 0
    for group, members in groupby(columns, key=lambda each: each.group):
        end = start + len(list(members))
        if group:
            yield slice(start, end)
        start = end


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The columns of a table as tensors with one entry a column, and what can be said of rows ``(N, C)`` by them."""

    columns: tuple[Column, ...]
    low: Tensor
    """``(C,)`` float32, least values as they are stored."""
    high: Tensor
    """``(C,)`` float32, greatest values as they are stored."""
    whole: Tensor
    """``(C,)`` bool: integer, binary and one-hot columns."""
    fixed: Tensor
    """``(C,)`` bool: columns that are not mutable."""
    groups: tuple[slice, ...]
    """Where each one-hot group is."""

    @staticmethod
    def of(columns: tuple[Column, ...]) -> Layout:
        """The layout of these columns."""
        return Layout(
            columns=columns,
            low=torch.tensor([each.low for each in columns]),
            high=torch.tensor([each.high for each in columns]),
            whole=torch.tensor([each.kind != "real" for each in columns]),
            fixed=torch.tensor([not each.mutable for each in columns]),
            groups=tuple(_groups(columns)),
        )

    def unit(self) -> Tensor:
        """Range of each column ``(C,)``; 1 where a column can hold one value only."""
        width = self.high - self.low
        return torch.where(width > 0, width, torch.ones_like(width))

    def clamped(self, inputs: Tensor) -> Tensor:
        """Each value moved into the range of its column; type and device of ``inputs`` kept."""
        return torch.maximum(torch.minimum(inputs, self.high.to(inputs)), self.low.to(inputs))

    def snapped(self, inputs: Tensor) -> Tensor:
        """The nearest valid rows, float32.

        Whole numbers where there must be (halves go to the even one), the largest of each one-hot group (of equal ones
        the first), the range of each column.
        """
        values = self.clamped(torch.where(self.whole.to(inputs.device), inputs.round(), inputs))
        for group in self.groups:
            chosen = inputs[..., group].argmax(-1, keepdim=True)
            values[..., group] = torch.zeros_like(values[..., group]).scatter(-1, chosen, 1.0)
        return values.to(torch.float32) + 0.0  # never -0.0, so that equal rows have equal bytes

    def fault(self, inputs: Tensor) -> tuple[int, str] | None:
        """The first of ``(N, C)`` float32 rows that is not valid, and what is wrong with it; None where all are."""
        inputs = inputs.cpu()
        outside = (inputs < self.low) | (inputs > self.high)
        broken = (outside | (self.whole & (inputs != inputs.round()))).any(1)
        for group in self.groups:
            broken |= inputs[:, group].sum(1) != 1
        if not bool(broken.any()):
            return None
        row = int(broken.nonzero()[0])
        return row, self._fault_of(inputs[row].tolist())

    def _fault_of(self, row: Sequence[float]) -> str:
        for column, value, least, most in zip(self.columns, row, self.low.tolist(), self.high.tolist(), strict=True):
            if not least <= value <= most:
                return (
                    f"column '{column.name}' holds {said(value)}, but must lie in [{said(column.low)}, "
                    f"{said(column.high)}]"
                )
            if column.kind != "real" and value != round(value):
                return f"column '{column.name}' holds {said(value)}, but must hold a whole number"
        found = {self.columns[each.start].group: sum(row[each]) for each in self.groups}
        group, ones = next((name, ones) for name, ones in found.items() if ones != 1)
        return f"{int(ones)} of the columns of '{group}' hold 1, but exactly one of them must"

    def described(self, row: Sequence[float]) -> dict[str, float | int | str]:
        """The values of one valid row by name: numbers, and a one-hot group as its category."""
        found: dict[str, float | int | str] = {}
        for column, value in zip(self.columns, row, strict=True):
            if column.kind != "one-hot":
                found[column.name] = round(value) if column.kind != "real" else float(said(value))
            elif value == 1:
                found[column.group] = column.category
        return found


def said(value: float) -> str:
    """A stored number as people write it: the fewest digits that mean the same float32, no decimals if it is whole."""
    return str(np.float32(value)).removesuffix(".0")
