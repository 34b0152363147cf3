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

    def __str__(self) -> str:
        """As people write it: ``'age' (integer, 17..90, not mutable)``."""
        of = (
            f" of '{self.group}': '{self.category}'"
            if self.kind == "one-hot"
            else f", {_said(self.low)}..{_said(self.high)}"
        )
        return f"'{self.name}' ({self.kind}{of}{'' if self.mutable else ', not mutable'})"


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
        if group in names:
            raise DataError(f"a column and a group of one-hot columns are both called '{group}'; rename one of them")
        groups.add(group)
        if len({each.category for each in members}) < len(members):
            raise DataError(f"two one-hot columns of '{group}' stand for one category; name each category once")
        if len({each.mutable for each in members}) > 1:
            raise DataError(f"some one-hot columns of '{group}' are mutable and some are not; say the same of all")


def span(columns: Sequence[Column]) -> tuple[float, float]:
    """The least and the greatest value that any of the columns may hold."""
    return min(each.low for each in columns), max(each.high for each in columns)


def difference(found: Sequence[Column], wanted: Sequence[Column]) -> tuple[str, str] | None:
    """The first thing in which ``found`` columns differ from those ``wanted``, both in words; None where none does."""
    if len(found) != len(wanted):
        return f"{len(found)} columns", str(len(wanted))
    pairs = zip(found, wanted, strict=True)
    return next(((f"the column {one}", f"{other}") for one, other in pairs if one != other), None)


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

    def within(self, changed: Tensor, clean: Tensor, *, reach: float) -> Tensor:
        """The nearest relaxed rows to ``changed`` whose every value is within ``reach`` ranges of ``clean`` ``(N, C)``.

        Relaxed rows may hold broken numbers, but lie in the range of each column; one-hot groups add up to 1; columns
        that are not mutable hold the clean values.
        """
        width = reach * self.unit().to(clean)
        low = torch.maximum(self.low.to(clean), clean - width)
        high = torch.minimum(self.high.to(clean), clean + width)
        values = torch.maximum(torch.minimum(changed, high), low)
        for group in self.groups:
            values[:, group] = _adding_up(changed[:, group], low[:, group], high[:, group])
        return torch.where(self.fixed.to(clean.device), clean, values)

    def towards(self, changed: Tensor, clean: Tensor) -> Tensor:
        """The last valid rows on the way from valid ``clean`` ones to ``changed`` ``(N, C)``, float32.

        No value ends further from its clean one than it was (but for float32 rounding), so whatever norm bounds the
        change still does: a one-hot group keeps its category until it has wholly become another.
        """
        start, end = clean.double(), self.clamped(changed.double())
        ends = torch.maximum(self.low.abs(), self.high.abs()).to(end)
        hair = (2e-7 * ends).clamp(1e-6, 0.25)  # 7.999999 is 8: float32 error, not distance
        steps = torch.where(end >= start, torch.floor(end + hair), torch.ceil(end - hair))
        values = torch.where(self.whole.to(end.device), steps, end)
        for group in self.groups:
            arrived = end[:, group].amax(1, keepdim=True) >= 1 - 1e-6
            values[:, group] = torch.where(arrived, end[:, group], start[:, group])
        return self.snapped(values)

    def anywhere(self, drawn: Tensor) -> Tensor:
        """Valid rows at ``drawn`` ``(N, C)``, parts of each range in [0, 1): where those are uniform, so are values.

        Each whole number of a column and each category of a group is then as likely.
        """
        low, high = self.low.to(drawn), self.high.to(drawn)
        spread = torch.floor(low + (high - low + 1) * drawn)
        values = torch.where(self.whole.to(drawn.device), spread, low + (high - low) * drawn)
        for group in self.groups:
            values[:, group] = drawn[:, group]
        return self.snapped(values)

    def touched(self, changed: Tensor, clean: Tensor) -> tuple[int, str] | None:
        """The first row that holds another value in a column that is not mutable, and the change; None for no such."""
        broken = ((changed != clean) & self.fixed.to(clean.device)).nonzero()
        if not len(broken):
            return None
        row, column = (int(each) for each in broken[0])
        before, after = (_said(float(each[row, column])) for each in (clean, changed))
        return row, f"column '{self.columns[column].name}' from {before} to {after}"

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
                    f"column '{column.name}' holds {_said(value)}, but must lie in [{_said(column.low)}, "
                    f"{_said(column.high)}]"
                )
            if column.kind != "real" and value != round(value):
                return f"column '{column.name}' holds {_said(value)}, but must hold a whole number"
        found = {self.columns[each.start].group: sum(row[each]) for each in self.groups}
        group, ones = next((name, ones) for name, ones in found.items() if ones != 1)
        return f"{int(ones)} of the columns of '{group}' hold 1, but exactly one of them must"

    def described(self, row: Sequence[float]) -> dict[str, float | int | str]:
        """The values of one valid row by name: numbers, and a one-hot group as its category."""
        found: dict[str, float | int | str] = {}
        for column, value in zip(self.columns, row, strict=True):
            if column.kind != "one-hot":
                found[column.name] = round(value) if column.kind != "real" else float(_said(value))
            elif value == 1:
                found[column.group] = column.category
        return found


def _adding_up(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The nearest rows to ``values`` ``(N, k)`` between ``low`` and ``high`` whose values add up to 1.

    Takes the same from every value of a row before cutting it off; how much is found by halving.
    """
    kept = torch.maximum(torch.minimum(values, high), low)
    exact, least, most = values.double(), low.double(), high.double()
    little, much = (exact - most).amin(1, keepdim=True), (exact - least).amax(1, keepdim=True)
    for _ in range(60):
        middle = (little + much) / 2
        above = torch.maximum(torch.minimum(exact - middle, most), least).sum(1, keepdim=True) > 1
        little, much = torch.where(above, middle, little), torch.where(above, much, middle)
    found = torch.maximum(torch.minimum(exact - much, most), least).to(values.dtype)
    return torch.where((kept.sum(1, keepdim=True) - 1).abs() < 1e-6, kept, found)


def _said(value: float) -> str:
    """A stored number as people write it: the fewest digits that mean the same float32, no decimals if it is whole."""
    return str(np.float32(value)).removesuffix(".0")
