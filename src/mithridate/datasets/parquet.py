"""Labelled images in Parquet files of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mithridate.datasets.images import Colour
from mithridate.datasets.imagetable import Where, parquet_files, parquet_rows
from mithridate.datasets.rows import Classes, check_cut, check_size, split
from mithridate.errors import DataError
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Parquet(Source):
    """Images in Parquet files by the Hugging Face convention (``struct<bytes, path>`` and a label column)."""

    name: ClassVar[str] = "parquet"

    train: Where
    """Training rows: a file, several files, a glob, or a folder (every ``.parquet`` below it, by name)."""
    test: Where
    """Test rows, likewise."""
    image: str | None = None
    """Column of images; None looks for ``image``, then ``img``."""
    label: str | None = None
    """Column of labels; None looks for ``label``, then ``fine_label``."""
    id: str | None = "id"
    """Column of whole numbers that are the ids, where there is one; None numbers the rows from 0."""
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
        check_cut(self.classes, self.train_rows, self.test_rows)
        check_size(self.size)

    def load(self) -> Split:
        """Read the files: ``(N, C, H, W)`` uint8. Raises :class:`DataError` naming the file and row at fault."""
        train, test = parquet_files(self.train, setting="train"), parquet_files(self.test, setting="test")
        both = {file.resolve() for file in train} & {file.resolve() for file in test}
        if both:
            raise DataError(f"{min(both)} is among the training and the test files; name different ones")
        train_part, test_part = (
            parquet_rows(
                files, image=self.image, label=self.label, id_column=self.id, size=self.size, colour=self.colour
            )
            for files in (train, test)
        )
        return split(train_part, test_part, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows)
