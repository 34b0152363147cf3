"""Spambase: which words and signs 4,601 e-mails hold, and whether they are spam."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from mithridate.datasets.features import Feature, drawn, encoded, table_rows, table_split
from mithridate.datasets.places import found, read_columns
from mithridate.datasets.rows import Classes, check_cut, check_held_out
from mithridate.seeding import Seed
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Spambase(Source):
    """4,601 e-mails by 57 numbers: how often 48 words and 6 signs occur (in per cent), and runs of capital letters.

    Looked for as ``tabular/spambase.parquet`` in the folder named by ``MITHRIDATE_DATA``, then in the cache; a copy
    comes with the package, so that it is always there. Ids are row numbers of the file, which is sorted by class; there
    is no customary split: a part of each class is held out by ``seed``, and the order of rows is drawn by it. Values
    range from the least to the greatest of each column over all rows. Source: M. Hopkins, E. Reeber, G. Forman,
    J. Suermondt, *Spambase*, UCI Machine Learning Repository, 1999, https://doi.org/10.24432/C53G6X (CC BY 4.0).
    """

    name: ClassVar[str] = "spambase"

    form: Literal["raw", "binary"] = "raw"
    """``raw``: all 57 numbers. ``binary``: whether each of the 54 words and signs is there, as in L. Muñoz-González et
    al., 2017, https://arxiv.org/abs/1708.08689 (which of the 57 its 54 are, is our reading: it does not say)."""
    held_out: float = 0.2
    """Fraction of each class that is for testing, in (0, 1)."""
    seed: int = 0
    """Decides which rows are held out, and the order of rows."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    train_rows: int | None = None
    """How many training rows of these classes to keep, in the order drawn by ``seed``; None keeps all."""
    test_rows: int | None = None
    """How many test rows of these classes to keep, in the order drawn by ``seed``; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_held_out(self.held_out)
        check_cut(self.classes, self.train_rows, self.test_rows)

    def load(self) -> Split:
        """``(N, 57)`` float32, or ``(N, 54)`` of 0 and 1. Raises :class:`DataError` for a file that is another."""
        table = _table()
        inputs, columns = encoded([_feature(table, name, self.form) for name in _names(self.form)], place="Spambase")
        labels = np.array(table.column("label"), dtype=np.int64)
        rows = table_rows("Spambase", inputs, labels, np.arange(len(labels)), ("ham", "spam"))
        train, test = drawn(rows, self.held_out, Seed(self.seed).child("spambase", "held out"))
        return table_split(
            train, test, columns, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows
        )


_WORDS = """
make address all 3d our over remove internet order mail receive will people report addresses free business email
you credit your font 000 money hp hpl george 650 lab labs telnet 857 data 415 85 technology 1999 parts pm direct
cs meeting original project re edu table conference
"""
_FREQUENCIES = (*(f"word_freq_{word}" for word in _WORDS.split()), *(f"char_freq_{sign}" for sign in ";([!$#"))
_RUNS = ("capital_run_length_average", "capital_run_length_longest", "capital_run_length_total")
_WHOLE = _RUNS[1:]
"""Lengths, which are whole numbers; the average is not."""


def _names(form: str) -> tuple[str, ...]:
    return _FREQUENCIES if form == "binary" else (*_FREQUENCIES, *_RUNS)


def _table() -> Any:
    """The file of the user's, or the one that comes with the package."""
    types = {**dict.fromkeys((*_FREQUENCIES, *_RUNS), pa.float64()), "label": pa.int64()}
    with ExitStack() as stack:  # the package may live in a zip file
        file = found("tabular/spambase.parquet") or stack.enter_context(
            as_file(files("mithridate.datasets") / "bundled" / "spambase.parquet")
        )
        return read_columns(file, types, rows=4601)


def _feature(table: Any, name: str, form: str) -> Feature:
    values = np.array(table.column(name))
    if form == "binary":
        return Feature(name=name, kind="binary", values=values > 0)
    return Feature(name=name, kind="integer" if name in _WHOLE else "real", values=values)
