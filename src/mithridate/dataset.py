"""The data every other noun speaks of: rows with ids, immutable, in a space of known shape, range and classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mithridate.columns import Column as Column  # those who speak of data find all of it here
from mithridate.errors import DataError
from mithridate.settings import fingerprint
from mithridate.space import Space as Space
from mithridate.space import channel_statistics as channel_statistics


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Rows with ids. Never changed in place; every method returns a new one that shares what it can.

    A poison is rows of this kind: an id that the training set holds is replaced by :meth:`updated`, a new id is
    appended. Detection is membership of ids.
    """

    inputs: Tensor
    """``(N, *space.shape)``: uint8 codes or floats in natural units; may be memory-mapped."""
    labels: Tensor
    """``(N,)`` int64 in ``0 .. num_classes - 1``."""
    ids: Tensor
    """``(N,)`` int64, unique."""
    space: Space

    def __post_init__(self) -> None:
        """Check shapes and types (not values: :meth:`checked` reads every row)."""
        count = len(self.inputs)
        if tuple(self.inputs.shape[1:]) != self.space.shape:
            raise DataError(
                f"inputs have shape {tuple(self.inputs.shape)}, but the space asks for (N, "
                f"{', '.join(map(str, self.space.shape))})"
            )
        if self.labels.shape != (count,) or self.ids.shape != (count,):
            raise DataError(
                f"{count} inputs need {count} labels and {count} ids, but there are {tuple(self.labels.shape)} labels "
                f"and {tuple(self.ids.shape)} ids"
            )
        if self.labels.dtype != torch.int64 or self.ids.dtype != torch.int64:
            raise DataError(f"labels and ids must be int64, but are {self.labels.dtype} and {self.ids.dtype}")
        if self.inputs.dtype == torch.uint8 and self.space.levels is None:
            raise DataError("8-bit inputs need a space with levels (256 for images), but it has none")
        if self.inputs.dtype != torch.uint8 and not self.inputs.is_floating_point():
            raise DataError(f"inputs must be uint8 or floats, but are {self.inputs.dtype}")

    @staticmethod
    def of(inputs: Tensor, labels: Tensor, *, space: Space, first_id: int = 0) -> Dataset:
        """Rows numbered from ``first_id``, with every value checked."""
        ids = torch.arange(first_id, first_id + len(inputs))
        return Dataset(inputs=inputs, labels=labels.to(torch.int64), ids=ids, space=space).checked()

    def checked(self) -> Dataset:
        """This data set, once every value has been seen to lie where it must.

        Raises :class:`DataError` for NaN or infinite inputs, values outside the bounds or codes outside the levels,
        rows of a table that break the promise of a column, labels outside the classes and repeated ids, naming the
        first row at fault.
        """
        if len(self) == 0:
            raise DataError("the data set has no rows")
        if self.inputs.is_floating_point():
            self._check_values()
        else:
            self._check_codes()
        outside = (self.labels < 0) | (self.labels >= self.space.num_classes)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            allowed = self.space.num_classes - 1
            raise DataError(f"row {row} has label {int(self.labels[row])}, but labels must lie in 0..{allowed}")
        if len(torch.unique(self.ids)) != len(self.ids):
            raise DataError("two rows have the same id; ids must be unique")
        return self

    def _check_values(self) -> None:
        flat = self.inputs.flatten(1)
        broken = ~torch.isfinite(flat).all(1)
        if bool(broken.any()):
            raise DataError(f"row {int(broken.nonzero()[0])} holds NaN or infinite values; inputs must be finite")
        if self.space.layout is not None:
            fault = self.space.layout.fault(self.space.decode(self.inputs))
            if fault is not None:
                raise DataError(f"row {fault[0]}: {fault[1]}")
            return
        low, high = self.space.bounds
        outside = ((flat < low) | (flat > high)).any(1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            found = (float(flat[row].min()), float(flat[row].max()))
            raise DataError(
                f"row {row} holds values from {found[0]:g} to {found[1]:g}, but inputs must lie in [{low:g}, {high:g}]"
                + (" (divide 8-bit images by 255, or pass them as uint8)" if found[1] > 1 and high == 1 else "")
            )

    def _check_codes(self) -> None:
        assert self.space.levels is not None  # __post_init__ saw to it
        outside = (self.inputs.flatten(1) > self.space.levels - 1).any(1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            found, highest = int(self.inputs[row].max()), self.space.levels - 1
            raise DataError(f"row {row} holds the code {found}, but codes must lie in 0..{highest}")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return self.inputs.device

    def to(self, device: torch.device | str) -> Dataset:
        """The same rows on ``device``."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device), ids=self.ids.to(device))

    def take(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Inputs ``(n, *shape)`` as float32 in natural units, and labels ``(n,)``, at positions ``index``."""
        return self.space.decode(self.inputs[index]), self.labels[index]

    def all_inputs(self) -> Tensor:
        """Every input as float32 in natural units, ``(N, *shape)``."""
        return self.space.decode(self.inputs)

    def at(self, index: Tensor | slice) -> Dataset:
        """The rows at positions ``index`` ``(n,)``, ids kept."""
        return replace(self, inputs=self.inputs[index], labels=self.labels[index], ids=self.ids[index])

    def positions(self, ids: Tensor) -> Tensor:
        """Where ``ids`` ``(n,)`` are, ``(n,)`` int64. Raises :class:`DataError` naming an id that is not here."""
        wanted = ids.to(self.ids.device)
        if len(self) == 0 and len(wanted):
            raise DataError(f"id {int(wanted[0])} is not in the data set, which has no rows")
        ordered, order = torch.sort(self.ids)
        place = torch.searchsorted(ordered, wanted).clamp(max=max(len(self) - 1, 0))
        missing = ordered[place] != wanted
        if bool(missing.any()):
            raise DataError(f"id {int(wanted[missing][0])} is not in the data set of {len(self)} rows")
        return order[place]

    def rows(self, ids: Tensor) -> Dataset:
        """The rows with ``ids``, in that order. Raises :class:`DataError` for an id that is not here."""
        return self.at(self.positions(ids))

    def without(self, ids: Tensor) -> Dataset:
        """All rows but those with ``ids``; ids that are not here are ignored."""
        return self.at(~torch.isin(self.ids, ids.to(self.ids.device)))

    def updated(self, rows: Dataset) -> Dataset:
        """This data set with ``rows`` written over it: known ids are replaced in place, new ids are appended.

        Inputs are converted to how this data set stores them. Raises :class:`DataError` where the rows live in a space
        of another shape or number of classes, or name an id twice.
        """
        if rows.space.shape != self.space.shape or rows.space.num_classes != self.space.num_classes:
            raise DataError(
                f"rows of shape {rows.space.shape} in {rows.space.num_classes} classes cannot be written over data of "
                f"shape {self.space.shape} in {self.space.num_classes} classes"
            )
        if len(torch.unique(rows.ids)) != len(rows):
            raise DataError("two of the rows to be written have the same id; ids must be unique")
        rows = rows.to(self.device)
        alike = (rows.inputs.dtype, *_scale(rows.space)) == (self.inputs.dtype, *_scale(self.space))
        fresh = rows.inputs if alike else self._as_stored(rows.all_inputs())
        known = torch.isin(rows.ids, self.ids)
        place = self.positions(rows.ids[known])
        inputs, labels = self.inputs.clone(), self.labels.clone()
        inputs[place], labels[place] = fresh[known], rows.labels[known]
        return replace(
            self,
            inputs=torch.cat([inputs, fresh[~known]]),
            labels=torch.cat([labels, rows.labels[~known]]),
            ids=torch.cat([self.ids, rows.ids[~known]]),
        )

    def _as_stored(self, inputs: Tensor) -> Tensor:
        return self.space.encode(inputs) if self.inputs.dtype == torch.uint8 else inputs.to(self.inputs.dtype)

    def digest(self) -> str:
        """SHA-256 (hex) of the rows as stored: inputs, labels, ids, shape and classes. The order of rows counts."""
        return rows_digest(self.inputs.cpu().numpy().tobytes(), self.labels, self.ids, space=self.space)


def _scale(space: Space) -> tuple[object, ...]:
    """What decides which value a stored code stands for."""
    return space.bounds, space.levels


def rows_digest(stored: bytes, labels: Tensor, ids: Tensor, *, space: Space) -> str:
    """SHA-256 (hex) over stored input bytes, labels, ids, shape, class count and, of a table, its columns."""
    hasher = hashlib.sha256(f"{space.shape}|{space.num_classes}|{space.bounds}|{space.levels}".encode())
    if space.columns:
        hasher.update(fingerprint(list(space.columns)).encode())
    hasher.update(stored)
    hasher.update(labels.cpu().numpy().tobytes())
    hasher.update(ids.cpu().numpy().tobytes())
    return hasher.hexdigest()
