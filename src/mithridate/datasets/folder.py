"""A folder of images, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mithridate.datasets.images import SUFFIXES, Colour, decoded
from mithridate.datasets.manifest import read_manifest
from mithridate.datasets.rows import (
    Classes,
    Integers,
    Rows,
    check_cut,
    check_held_out,
    check_size,
    held_out,
    numbered,
    split,
)
from mithridate.errors import AbsentError, DataError
from mithridate.seeding import Seed
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images in one sub-folder a class, below ``train/`` and ``test/``, or all together with a part held out.

    Classes are the sub-folders sorted by name. Rows take one image of each class in turn, each class sorted by file
    name, so that the first rows are balanced; ids number them. What ``write_folder`` wrote keeps its ids (the file
    names), its order by id and its class names.
    """

    name: ClassVar[str] = "folder"

    path: str | Path
    """The folder."""
    held_out: float = 0.2
    """Fraction of each class that is for testing, in (0, 1), where there are no ``train/`` and ``test/``."""
    seed: int = 0
    """Decides which rows are held out."""
    size: int | None = None
    """Height and width that every image is resized to, pixels; None demands that all share a size."""
    colour: Colour = "auto"
    """Channels: ``grey`` 1, ``rgb`` 3, ``auto`` 1 where every image is grey."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_held_out(self.held_out)
        check_cut(self.classes, self.train_rows, self.test_rows)
        check_size(self.size)

    def load(self) -> Split:
        """Read the images: ``(N, C, H, W)`` uint8. Raises :class:`DataError` naming the folder or file at fault."""
        train, test = self._parts(Path(self.path))
        return split(train, test, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows)

    def _parts(self, path: Path) -> tuple[Rows, Rows]:
        folders = _sub_folders(path)
        parts = [path / "train", path / "test"]
        if all(part in folders for part in parts):
            train, test = (_rows(part, size=self.size, colour=self.colour) for part in parts)
            return train, test
        lone = next((part for part in parts if part in folders), None)
        if lone is not None:
            other = next(part.name for part in parts if part != lone)
            raise DataError(f"{path} has the folder {lone.name}/ but no {other}/; give both, or class folders only")
        rows = _rows(path, size=self.size, colour=self.colour)
        train_at, test_at = held_out(rows.labels, self.held_out, Seed(self.seed).child("folder", "held out"))
        return rows.at(train_at), rows.at(test_at)


def _rows(folder: Path, *, size: int | None, colour: Colour) -> Rows:
    manifest = read_manifest(folder)
    names = manifest or {path.name: path.name for path in _sub_folders(folder)}
    if not names:
        raise DataError(f"{folder} has no sub-folders; it must have one a class, with images in it")
    files = [_images(folder / name, may_be_empty=manifest is not None) for name in names]
    listed = sorted((turn, label, file) for label, each in enumerate(files) for turn, file in enumerate(each))
    if manifest is not None:
        listed.sort(key=lambda row: _id(row[2]))
    paths = [file for _, _, file in listed]
    labels = np.array([label for _, label, _ in listed], dtype=np.int64)

    def inputs(positions: Integers) -> Any:
        encoded = _encoded([paths[row] for row in positions.tolist()])
        return decoded(encoded, len(positions), size=size, colour=colour)

    rows = numbered(str(folder), labels, inputs, classes=tuple(names.values()))
    return rows if manifest is None else replace(rows, ids=np.array([_id(file) for file in paths], dtype=np.int64))


def _sub_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise AbsentError(f"there is no folder {folder}")
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images(folder: Path, *, may_be_empty: bool) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}, which the manifest beside it names")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files and not may_be_empty:
        raise DataError(f"{folder} holds no images (allowed: {', '.join(sorted(SUFFIXES))})")
    return files


def _id(file: Path) -> int:
    try:
        return int(file.stem)
    except ValueError:
        raise DataError(f"{file}: beside a manifest, an image must be named by its id, a whole number") from None


def _encoded(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        yield str(path), data
