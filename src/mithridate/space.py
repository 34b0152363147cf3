"""The space that examples live in: their shape, range and classes, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mithridate.columns import Column, Layout, check_columns, span
from mithridate.errors import DataError
from mithridate.settings import LATER


@dataclass(frozen=True, kw_only=True)
class Space:
    """What one example looks like and what it may be called.

    Everything outside storage is in natural units: images are floats in ``bounds``, tables raw features. ``mean`` and
    ``std`` (one number a channel, of tables a column, or none) are what models normalise with, inside themselves.
    """

    shape: tuple[int, ...]
    """Shape of one input: ``(channels, height, width)`` for images, ``(features,)`` for tables."""
    num_classes: int
    """How many classes there are; labels are ``0 .. num_classes - 1``."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest value an input may take, in natural units."""
    levels: int | None = None
    """How many equally spaced values a stored input can take (256 for 8-bit images), or None for real numbers."""
    classes: tuple[str, ...] = ()
    """Names of the classes, for people; may be empty."""
    mean: tuple[float, ...] = ()
    """Mean of each channel over clean training data, natural units; empty means 0."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel over clean training data, natural units; empty means 1."""
    columns: tuple[Column, ...] = field(default=(), metadata=LATER)
    """Of a table, what each of its numbers may be; empty for images, and where no more than the bounds is known."""

    @staticmethod
    def table(
        columns: tuple[Column, ...],
        *,
        num_classes: int,
        classes: tuple[str, ...] = (),
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
    ) -> Space:
        """The space of a table with these columns. Raises :class:`DataError` for columns that make none."""
        if not columns:
            raise DataError("a table needs at least one column besides its target, but it has none")
        return Space(
            shape=(len(columns),),
            num_classes=num_classes,
            bounds=span(columns),
            classes=classes,
            mean=mean,
            std=std,
            columns=columns,
        )

    def __post_init__(self) -> None:
        """Refuse a space that no data could live in."""
        if self.num_classes < 2:
            raise DataError(f"a classification task needs at least 2 classes, but this data has {self.num_classes}")
        if not self.shape or min(self.shape) < 1:
            raise DataError(f"the shape of an input must be positive numbers, but it is {self.shape}")
        if not self.bounds[0] < self.bounds[1]:
            raise DataError(f"bounds must be a lower and a higher number, but they are {self.bounds}")
        if self.levels is not None and not 2 <= self.levels <= 256:
            raise DataError(f"levels must lie in 2..256 (or be none), but it is {self.levels}")
        if self.classes and len(self.classes) != self.num_classes:
            raise DataError(f"{len(self.classes)} class names were given for {self.num_classes} classes")
        for what, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) != self.shape[0]:
                raise DataError(f"{what} must have a number for each of {self.shape[0]} channels, but it is {values}")
        if self.std and not min(self.std) > 0:
            raise DataError(f"std must be positive numbers, but it is {self.std}")
        if self.columns:
            self._check_table()

    def _check_table(self) -> None:
        check_columns(self.columns)
        if self.shape != (len(self.columns),) or self.levels is not None:
            raise DataError(
                f"rows of {len(self.columns)} columns have the shape ({len(self.columns)},) and no levels, but have "
                f"shape {self.shape} and levels {self.levels}"
            )
        if self.bounds != span(self.columns):
            raise DataError(f"bounds must span the columns, {span(self.columns)}, but they are {self.bounds}")

    @cached_property
    def layout(self) -> Layout | None:
        """The columns as tensors; None where there are none."""
        return Layout.of(self.columns) if self.columns else None

    def name(self, label: int) -> str:
        """The name of a class, or its number where it has none."""
        return self.classes[label] if self.classes else str(label)

    def decode(self, stored: Tensor) -> Tensor:
        """Stored inputs (uint8 codes, or floats as they are) as float32 in natural units, same shape."""
        if stored.dtype != torch.uint8:
            return stored.to(torch.float32)
        low, high = self.bounds
        scaled = stored.to(torch.float32) / (self._steps())
        return scaled if (low, high) == (0.0, 1.0) else low + scaled * (high - low)

    def encode(self, inputs: Tensor) -> Tensor:
        """Floats in natural units as they are stored: uint8 codes where there are levels, else float32.

        Of a table with columns, the nearest valid rows (see :meth:`~mithridate.columns.Layout.snapped`).
        """
        if self.layout is not None:
            return self.layout.snapped(inputs)
        if self.levels is None:
            return inputs.to(torch.float32)
        low, high = self.bounds
        codes = ((inputs.to(torch.float64) - low) / (high - low) * self._steps()).round()
        return codes.clamp(0, self._steps()).to(torch.uint8)

    def quantise(self, inputs: Tensor) -> Tensor:
        """Floats in natural units, moved to the nearest value that can be stored."""
        return self.decode(self.encode(inputs))

    def clamp(self, inputs: Tensor) -> Tensor:
        """``inputs`` ``(N, *shape)`` in natural units, each value moved into the range of its column, or the bounds."""
        return inputs.clamp(*self.bounds) if self.layout is None else self.layout.clamped(inputs)

    def unit(self, like: Tensor) -> Tensor:
        """What changes are measured in: the range of each column ``(C,)``, or 1 where there are no columns.

        Type and device are those of ``like``.
        """
        return (
            torch.ones((), dtype=like.dtype, device=like.device) if self.layout is None else self.layout.unit().to(like)
        )

    def describe(self, row: Tensor) -> dict[str, float | int | str]:
        """The values of one valid row ``(C,)`` of a table by column: whole numbers as such, a one-hot group's category.

        Raises :class:`DataError` where there are no columns.
        """
        if self.layout is None:
            raise DataError("only rows of a table with named columns can be described value by value")
        return self.layout.described(row.tolist())

    def _steps(self) -> int:
        return (self.levels or 256) - 1


def channel_statistics(inputs: Tensor, space: Space) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel (or column) of ``(N, *shape)`` stored inputs, in natural units.

    The standard deviation is at least 1e-3, so that a constant channel does not blow up; of a constant column of a
    table it is the range. Rows are read a few at a time: all of CIFAR-10 as float64 would take 1.2 GB.
    """
    axes = [0, *range(2, inputs.ndim)]
    chunks = [inputs[start : start + 256] for start in range(0, len(inputs), 256)]
    count = inputs.numel() / inputs.shape[1]
    mean = sum(space.decode(chunk).to(torch.float64).sum(axes) for chunk in chunks) / count
    centre = torch.as_tensor(mean).reshape(-1, *[1] * (inputs.ndim - 2))
    square = sum((space.decode(chunk).to(torch.float64) - centre).square().sum(axes) for chunk in chunks) / count
    std, mean = torch.as_tensor(square).sqrt(), torch.as_tensor(mean)
    if space.layout is not None:
        std = torch.where(std > 1e-9 * mean.abs(), std, space.unit(std))
        return tuple(float(f"{v:.6g}") for v in mean.tolist()), tuple(float(f"{v:.6g}") for v in std.tolist())
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.clamp_min(1e-3).tolist())
