"""Arrays and tensors of the user's in the form that rows are stored in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mithridate.datasets.rows import Integers, Rows, numbered
from mithridate.errors import DataError

Layout = Literal["auto", "channels-first", "channels-last"]


def array_rows(
    inputs: Any,
    labels: Any,
    *,
    places: tuple[str, str],
    bounds: tuple[float, float] | None,
    layout: Layout,
    class_names: tuple[str, ...],
) -> Rows:
    """Rows of an array of images or a table, and its labels; ``places`` are what sentences call the two.

    Images are uint8 or floats in [0, 1]: ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``. Tables are ``(N, D)``
    numbers within ``bounds``. Raises :class:`DataError` naming the array and what is allowed.
    """
    values, numbers = as_array(inputs, places[0]), _labels(as_array(labels, places[1]), places[1])
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise DataError(
            f"{places[0]} has shape {values.shape}, but images are (N, H, W), (N, H, W, C) or (N, C, H, W), and tables "
            "are (N, D), none of them empty"
        )
    if len(values) != len(numbers):
        raise DataError(f"{places[0]} has {len(values)} rows, but {places[1]} has {len(numbers)}")
    stored = _table(values, places[0], bounds) if values.ndim == 2 else _images(values, places[0], layout, bounds)
    return numbered(places[0], numbers, lambda positions: stored[positions], classes=class_names)


def as_array(value: Any, place: str) -> NDArray[Any]:
    """A tensor, array or nested list as an array of numbers. Raises :class:`DataError` for anything else."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{place} is no array: its rows differ in shape") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{place} holds {array.dtype}, but it must hold numbers")
    return array


def _images(values: NDArray[Any], place: str, layout: Layout, bounds: tuple[float, float] | None) -> NDArray[Any]:
    """Images as ``(N, C, H, W)``: uint8 where they are 8-bit images, else float32."""
    if bounds not in (None, (0.0, 1.0)):
        raise DataError(f"{place} holds images, whose bounds are (0, 1), but bounds is {bounds}")
    values = values[:, None] if values.ndim == 3 else values  # (N, H, W) -> (N, 1, H, W)
    if values.shape[1] != 1 and _channels_last(values.shape, place, layout):
        values = values.transpose(0, 3, 1, 2)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind != "f":
        raise DataError(f"{place} holds {values.dtype}, but images must be uint8 in 0..255 or floats in [0, 1]")
    return _eight_bit(np.ascontiguousarray(values, dtype=np.float32))


def _channels_last(shape: tuple[int, ...], place: str, layout: Layout) -> bool:
    if layout != "auto":
        return layout == "channels-last"
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        found = "both the second and the last size" if first else "neither the second nor the last size"
        raise DataError(
            f"{place} has shape {shape}, where {found} can be channels (1 or 3); give layout 'channels-first' or "
            "'channels-last'"
        )
    return last


def _eight_bit(values: NDArray[np.float32]) -> NDArray[Any]:
    """Floats that are 8-bit images divided by 255, as uint8 codes again; any others as they are.

    What was 8-bit must stay so, or an attacker would be allowed changes that no image file can hold.
    """
    with np.errstate(all="ignore"):
        codes = values * 255
        rounded = np.rint(codes)
        exact = np.abs(codes - rounded).max() < 1e-3 and rounded.min() >= 0 and rounded.max() <= 255
    return rounded.astype(np.uint8) if exact else values


def _table(values: NDArray[Any], place: str, bounds: tuple[float, float] | None) -> NDArray[Any]:
    if bounds is None:
        with np.errstate(all="ignore"):
            low, high = float(values.min()), float(values.max())
        raise DataError(
            f"{place} is a table with values from {low:g} to {high:g}; give bounds, the lowest and the highest value "
            "that an input may take"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is then refused with its row
        return np.ascontiguousarray(values, dtype=np.float32)


def _labels(values: NDArray[Any], place: str) -> Integers:
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1:
        hint = " (one-hot labels? give their argmax)" if values.ndim == 2 else ""
        raise DataError(f"{place} has shape {values.shape}, but labels must have shape (N,){hint}")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise DataError(f"{place} holds fractions or NaN, but labels must be whole numbers from 0")
    with np.errstate(all="ignore"):
        return values.astype(np.int64)
