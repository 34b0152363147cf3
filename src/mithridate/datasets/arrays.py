"""NumPy arrays and torch tensors, from Python or from an .npz file."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mithridate.datasets.images import MAX_BYTES
from mithridate.datasets.rows import split
from mithridate.datasets.tensors import Layout, array_rows
from mithridate.errors import AbsentError, ConfigError, DataError
from mithridate.source import Source, Split

PARTS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays(Source):
    """Images or a table as arrays: four of them in Python, or the path of an ``.npz`` file that holds them.

    Images are uint8, or floats in [0, 1], of shape ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``; floats that are
    all multiples of 1/255 are taken for the 8-bit images they were. Tables are ``(N, D)``. Labels are whole numbers
    from 0, ``(N,)``. Two of these are equal where they are settings of one file, or hold the very same arrays.
    """

    name: ClassVar[str] = "arrays"

    path: str | Path | None = None
    """An ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``; never unpickled."""
    x_train: Any = field(default=None, repr=False)
    """Training inputs, where there is no path."""
    y_train: Any = field(default=None, repr=False)
    """Training labels, where there is no path."""
    x_test: Any = field(default=None, repr=False)
    """Test inputs, where there is no path."""
    y_test: Any = field(default=None, repr=False)
    """Test labels, where there is no path."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value that an input may take; tables need them, images have (0, 1)."""
    layout: Layout = "auto"
    """Where images have their channels; ``auto`` finds a size of 1 or 3."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their labels; empty leaves them numbers."""

    def __post_init__(self) -> None:
        """Refuse half of the arrays, arrays beside a path, and bounds that hold nothing."""
        given = [part for part in PARTS if getattr(self, part) is not None]
        if self.path is not None and given:
            raise ConfigError(f"arrays are given by path or one by one, not both: {given[0]} stands beside path")
        if self.path is None and len(given) < len(PARTS):
            missing = ", ".join(part for part in PARTS if part not in given)
            raise ConfigError(f"arrays need a path, or all of {', '.join(PARTS)}; not given: {missing}")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ConfigError(f"bounds must be a lower and a higher number, but they are {self.bounds}")

    def __eq__(self, other: object) -> bool:
        """Equal settings, and the very same arrays."""
        return isinstance(other, Arrays) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def load(self) -> Split:
        """Both parts: uint8 ``(N, C, H, W)``, or float32. Raises :class:`DataError` naming the array at fault."""
        parts = _read(Path(self.path)) if self.path is not None else {part: getattr(self, part) for part in PARTS}
        prefix = f"{self.path}: " if self.path is not None else ""
        train, test = (
            array_rows(
                parts[f"x_{part}"],
                parts[f"y_{part}"],
                places=(f"{prefix}x_{part}", f"{prefix}y_{part}"),
                bounds=self.bounds,
                layout=self.layout,
                class_names=self.class_names,
            )
            for part in ("train", "test")
        )
        return split(train, test, bounds=self.bounds or (0.0, 1.0))

    def _key(self) -> tuple[object, ...]:
        same = tuple(id(getattr(self, part)) for part in PARTS)
        return (None if self.path is None else str(self.path), *same, self.bounds, self.layout, self.class_names)


def _read(path: Path) -> Mapping[str, Any]:
    """The four arrays of an ``.npz`` file."""
    if not path.is_file():
        raise AbsentError(f"there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy remarks on headers written by Python 2
            with zipfile.ZipFile(path) as packed:
                unpacked = sum(each.file_size for each in packed.infolist())
            if unpacked > MAX_BYTES:
                raise DataError(f"{path} unpacks to {unpacked} bytes, more than the {MAX_BYTES} held in memory")
            with np.load(path, allow_pickle=False) as found:
                missing = next((part for part in PARTS if part not in found.files), None)
                if missing is not None:
                    raise DataError(f"{path} has no array '{missing}'; it has: {', '.join(found.files)[:200]}")
                return {part: found[part] for part in PARTS}
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"{path} cannot be read as .npz (damaged, cut short or another format): {reason}") from error
