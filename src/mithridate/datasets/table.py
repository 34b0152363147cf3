"""A table of the user's, in a CSV or Parquet file, with one column to be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from mithridate.datasets.csvfile import check_separator, is_number
from mithridate.datasets.features import check_names, drawn, encoded, table_rows, table_split
from mithridate.datasets.inference import KINDS, Kind, classes, features
from mithridate.datasets.rows import Classes, Integers, check_cut, check_held_out, chosen
from mithridate.datasets.tablefile import Records, joined, read_table
from mithridate.errors import ConfigError, DataError, nearest
from mithridate.seeding import Seed
from mithridate.source import Source, Split

FEWEST_ROWS = 40
"""Training and test rows together: fewer leave an attacker and a victim too little to be measured."""
FEWEST_OF_CLASS = 5
"""Rows of each class, of the training file where there are two."""


@dataclass(frozen=True, kw_only=True)
class Table(Source):
    """Rows of a CSV file (a header, then rows) or of a Parquet file, each labelled by its ``target`` column.

    What a column is, is told by its values: 0 and 1, or true and false, are ``binary``; whole numbers (beyond
    16,777,216 float32 cannot tell them apart: those are ``numeric``) are ``integer``; other numbers ``numeric``; all
    else is a ``category``, one column for each. A column may take values from its least to its greatest over all rows,
    those for testing too, so that every row is valid; one that never varies stays, and cannot be changed. Networks
    normalise by the training rows. Class names are the target's values, sorted.

    Ids are row numbers from 0 below the header, for training and test files alike. A first column without a name that
    numbers the rows, and ``__index_level_0__``, are the index of a data frame, and left out.
    """

    name: ClassVar[str] = "table"

    file: str | Path
    """The file: ``.csv``, ``.tsv``, ``.txt`` (UTF-8) or ``.parquet``."""
    target: str
    """The column of classes."""
    test: str | Path | None = None
    """A second file with test rows; None holds out rows of the first."""
    held_out: float = 0.2
    """Fraction of each class that is for testing, in (0, 1), where there is no second file."""
    seed: int = 0
    """Decides which rows are held out, and the order of rows."""
    kinds: Mapping[str, Kind] = field(default_factory=dict, hash=False)
    """What columns are, where their values do not tell: ``numeric``, ``integer``, ``binary``, ``category``,
    ``ignore``."""
    ignore: tuple[str, ...] = ()
    """Columns to leave out: keys, names, dates, and what is known only after the fact."""
    immutable: tuple[str, ...] = ()
    """Columns that no attacker can change in a row."""
    missing: Literal["refuse", "drop"] = "refuse"
    """What to do about rows with missing values (empty, NA, NaN, null): say where they are, or leave them out."""
    categories: int = 50
    """So many categories may a column have; each becomes a column of its own."""
    separator: str = "auto"
    """What separates the values of a CSV file: ``comma``, ``semicolon``, ``tab``, ``bar``, or any one character;
    ``auto`` tells it from the header."""
    decimal: Literal[".", ","] = "."
    """The sign before the decimals of a CSV file."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    train_rows: int | None = None
    """How many training rows of these classes to keep, in the order drawn by ``seed`` (with a second file, the first
    ones); None keeps all."""
    test_rows: int | None = None
    """How many test rows of these classes to keep, likewise; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing, or contradict each other."""
        check_held_out(self.held_out)
        check_cut(self.classes, self.train_rows, self.test_rows)
        check_separator(self.separator)
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                raise ConfigError(f"kinds: there is no kind '{kind}' (of '{name}'): {nearest(str(kind), KINDS)}")
        if self.categories < 2:
            raise ConfigError(f"categories must be at least 2, but it is {self.categories}")
        for setting, names in (("ignore", self.ignore), ("immutable", self.immutable), ("kinds", self.kinds)):
            if self.target in names:
                raise ConfigError(f"{setting} names '{self.target}', which is the target; the target is no feature")
        both = next((name for name in self._ignored() if name in self.immutable), None)
        if both is not None:
            raise ConfigError(f"'{both}' is both ignored and immutable; choose one")

    def load(self) -> Split:
        """``(N, D)`` float32 in named columns. Raises :class:`DataError` naming the file, row and column at fault."""
        records = self._records()
        names = self._features(records)
        records = _complete(records, [self.target, *names], drop=self.missing == "drop")
        labels, found = classes(records, self.target)
        self._check_enough(records, labels, found)
        read = features(records, names, self.kinds, most=self.categories)
        inputs, columns = encoded(read, place=records.place, immutable=self.immutable)
        rows = table_rows(records.place, inputs, labels, records.ids, found)
        if self.test is None:
            train, test = drawn(rows, self.held_out, Seed(self.seed).child("table", "held out"))
        else:
            train, test = (rows.at(np.flatnonzero(records.part == part)) for part in (0, 1))
        return table_split(
            train, test, columns, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows
        )

    def _ignored(self) -> tuple[str, ...]:
        return (*self.ignore, *(name for name, kind in self.kinds.items() if kind == "ignore"))

    def _records(self) -> Records:
        """The rows of the file, and after them those of the test file."""
        file = Path(self.file)
        train = read_table(file, separator=self.separator, decimal=self.decimal)
        if self.test is None:
            return train
        if Path(self.test).exists() and file.samefile(self.test):
            raise DataError(f"{file} is the training and the test file; name different ones, or no test file")
        return joined(train, read_table(Path(self.test), separator=self.separator, decimal=self.decimal))

    def _features(self, records: Records) -> list[str]:
        """The columns that are features. Raises :class:`DataError` for settings that name what is not there."""
        known = list(records.columns)
        number = next((name for name in known if is_number(name)), None)
        if self.target not in known and number is not None:
            raise DataError(
                f"{records.place}: target: there is no column '{self.target}', but one called '{number}'; put the "
                "names of the columns in the first row"
            )
        check_names((self.target,), known, setting="target", place=records.place)
        for setting, names in (("ignore", self.ignore), ("kinds", tuple(self.kinds)), ("immutable", self.immutable)):
            check_names(names, known, setting=setting, place=records.place)
        found = [name for name in records.columns if name != self.target and name not in self._ignored()]
        if not found:
            raise DataError(f"{records.place} has no column left to learn from besides '{self.target}'")
        return found

    def _check_enough(self, records: Records, labels: Integers, names: tuple[str, ...]) -> None:
        """Raise :class:`DataError` for too few rows in all, or of a class that is kept."""
        kept = chosen(self.classes, names, len(names))
        count = int(np.isin(labels, kept).sum())
        if count < FEWEST_ROWS:
            what = " with a value in every column" if self.missing == "drop" else ""
            raise DataError(f"{records.place}: {count} rows{what} are too few; at least {FEWEST_ROWS} are needed")
        training = labels[records.part == 0]
        for label in kept:
            found = int((training == label).sum())
            if found < FEWEST_OF_CLASS:
                raise DataError(
                    f"{records.places[0]}: the class '{names[label][:40]}' of '{self.target}' has {found} row"
                    f"{'s' if found != 1 else ''}; at least {FEWEST_OF_CLASS} are needed of each class (leave a class "
                    "out with classes)"
                )


def _complete(records: Records, names: Sequence[str], *, drop: bool) -> Records:
    """The rows that have a value in each of the columns ``names``.

    Raises :class:`DataError` where that is not all of them and they are not to be dropped, or where none is left.
    """
    gaps = {name: records.cells(name).codes < 0 for name in names}
    lacking = np.any(list(gaps.values()), axis=0)
    if not lacking.any():
        return records
    counted = {name: f"'{name}' ({int(gap.sum())} of {len(gap)} rows)" for name, gap in gaps.items() if gap.any()}
    which = ", ".join(list(counted.values())[:8]) + (f" and {len(counted) - 8} more" if len(counted) > 8 else "")
    if lacking.all():
        raise DataError(f"{records.place}: no row has a value in every column; values are missing in {which}")
    if not drop:
        raise DataError(
            f"values are missing in {which}; the first in {records.where(int(lacking.argmax()))}; "
            f"fill them, ignore these columns, or set missing to drop, which leaves {int((~lacking).sum())} of "
            f"{len(lacking)} rows"
        )
    return records.at(np.flatnonzero(~lacking))
