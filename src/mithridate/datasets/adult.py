"""Adult (Census Income): 48,842 people of a census, and whether they earn more than 50,000 dollars a year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mithridate.datasets.features import Feature, encoded, table_rows, table_split
from mithridate.datasets.places import needed, read_columns
from mithridate.datasets.rows import Classes, check_cut
from mithridate.source import Source, Split

_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
_ORDER = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country"),
)
_ROWS = {"train": 32_561, "test": 16_281}
_ORIGIN = "https://doi.org/10.24432/C5XW20"


@dataclass(frozen=True, kw_only=True)
class Adult(Source):
    """32,561 + 16,281 people by 6 whole numbers and 8 categories (108 columns in all), with the official test set.

    Looked for as ``tabular/adult-train.parquet`` and ``adult-test.parquet`` in the folder named by ``MITHRIDATE_DATA``,
    then in the cache. An unknown value is the category ``?``, as in the original. Numbers range from the least to the
    greatest, and categories are those, of both parts. Ids are row numbers of each file. Source: B. Becker, R. Kohavi,
    *Adult*, UCI Machine Learning Repository, 1996, https://doi.org/10.24432/C5XW20 (CC BY 4.0).
    """

    name: ClassVar[str] = "adult"

    immutable: tuple[str, ...] = ()
    """Columns that no attacker can change in a row, by their original names (``age``, ``race``, ``sex``)."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_cut(self.classes, self.train_rows, self.test_rows)

    def load(self) -> Split:
        """``(N, 108)`` float32. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        types = {name: pa.int64() if name in _NUMBERS else pa.string() for name in _ORDER} | {"label": pa.int64()}
        parts = [
            read_columns(needed(f"tabular/adult-{part}.parquet", title="Adult", origin=_ORIGIN), types, rows=rows)
            for part, rows in _ROWS.items()
        ]
        table = pa.concat_tables(parts)
        inputs, columns = encoded([_feature(table, name) for name in _ORDER], place="Adult", immutable=self.immutable)
        labels = np.array(table.column("label"), dtype=np.int64)
        ids = np.concatenate([np.arange(rows) for rows in _ROWS.values()])
        rows = table_rows("Adult", inputs, labels, ids, ("<=50K", ">50K"))
        train, test = (rows.at(part) for part in np.split(np.arange(len(ids)), [_ROWS["train"]]))
        return table_split(
            train, test, columns, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows
        )


def _feature(table: Any, name: str) -> Feature:
    values = np.array(table.column(name))
    if name in _NUMBERS:
        return Feature(name=name, kind="integer", values=values)
    categories, codes = np.unique(values.astype(str), return_inverse=True)
    return Feature(name=name, kind="category", values=codes, categories=tuple(map(str, categories)))
