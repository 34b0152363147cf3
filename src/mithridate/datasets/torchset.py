"""Any map-style torch data set, from Python."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mithridate.datasets.images import picture_array
from mithridate.datasets.rows import Rows, split
from mithridate.datasets.tensors import Layout, array_rows, as_array
from mithridate.errors import DataError
from mithridate.source import Source, Split

PROBED = 8
"""First rows that are read twice, to find random transforms: a coin flipped for each row goes unseen 1 time in 256."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchDataset(Source):
    """Data sets whose items are ``(input, label)``: a tensor, a NumPy array or a Pillow image, and a whole number.

    All of it is read into memory once. Leave out random transforms (augmentation belongs to the learner) and
    normalisation (models do it themselves).
    """

    name: ClassVar[str] = "torch-dataset"

    train: Any
    """Training set: anything with a length and items."""
    test: Any
    """Test set, likewise."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value that an input may take; tables need them, images have (0, 1)."""
    layout: Layout = "auto"
    """Where images have their channels; ``auto`` finds a size of 1 or 3."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their labels; empty leaves them numbers."""

    def load(self) -> Split:
        """Both parts: uint8 ``(N, C, H, W)``, or float32. Raises :class:`DataError` naming the row at fault."""
        train, test = self._rows(self.train, "the training set"), self._rows(self.test, "the test set")
        return split(train, test, bounds=self.bounds or (0.0, 1.0))

    def _rows(self, data: Any, place: str) -> Rows:
        if not isinstance(data, Sized):
            raise DataError(f"{place} has no length; a map-style data set is needed (with __len__ and __getitem__)")
        inputs, labels = _items(data, place)
        return array_rows(
            inputs,
            labels,
            places=(place, f"the labels of {place}"),
            bounds=self.bounds,
            layout=self.layout,
            class_names=self.class_names,
        )


def _items(data: Any, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every input ``(N, ...)`` and label ``(N,)``, by index from 0."""
    if len(data) == 0:
        raise DataError(f"{place} has no rows")
    first, _ = _item(data, 0, place)
    inputs = np.empty((len(data), *first.shape), dtype=first.dtype)
    labels = np.empty(len(data), dtype=np.int64)
    for row in range(len(data)):
        found, labels[row] = _item(data, row, place)
        if found.shape != first.shape or found.dtype != first.dtype:
            raise DataError(
                f"{place}: row {row} is {found.dtype} of shape {found.shape}, but the first one is {first.dtype} of "
                f"shape {first.shape}; all must be alike"
            )
        inputs[row] = found
    for row in range(min(PROBED, len(data))):
        if not np.array_equal(_item(data, row, place)[0], inputs[row], equal_nan=found.dtype.kind == "f"):
            raise DataError(f"{place}: row {row} is not the same twice; take random transforms out of the data set")
    return inputs, labels


def _item(data: Any, row: int, place: str) -> tuple[NDArray[Any], int]:
    item = data[row]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{place}: row {row} is a {type(item).__name__}, but items must be (input, label)")
    found, label = item
    if isinstance(found, Image.Image):
        found = picture_array(found, f"{place}, row {row}")
    number = as_array(label, f"{place}: the label of row {row}")
    if number.size != 1 or number.dtype.kind not in "biu":
        raise DataError(f"{place}: row {row} has the label {label!r:.50}, but labels must be whole numbers from 0")
    return as_array(found, f"{place}, row {row}"), int(number.reshape(()))
