"""Breast Cancer Wisconsin (Diagnostic), which scikit-learn carries: 569 tumours by 30 measures of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mithridate.datasets.features import Feature, drawn, encoded, table_rows, table_split
from mithridate.datasets.rows import Classes, check_cut, check_held_out
from mithridate.seeding import Seed
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class BreastCancer(Source):
    """569 tumours by 30 real numbers, malignant or benign; scikit-learn's copy of the UCI set.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, *Breast Cancer Wisconsin (Diagnostic)*, UCI Machine
    Learning Repository, https://doi.org/10.24432/C5DW2B. There is no customary split; a part of each class is held out
    by ``seed``, and the order of rows is drawn by it. Values range from the least to the greatest over all rows.
    """

    name: ClassVar[str] = "breast-cancer"

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
        """``(N, 30)`` float32; ids are scikit-learn's row numbers, so no id is in both parts."""
        from sklearn.datasets import load_breast_cancer

        found = load_breast_cancer()
        features = [
            Feature(name=str(name), kind="real", values=values)
            for name, values in zip(found.feature_names, found.data.T, strict=True)
        ]
        inputs, columns = encoded(features, place="scikit-learn's breast cancer")
        labels = found.target.astype(np.int64)
        names = tuple(map(str, found.target_names))
        rows = table_rows("scikit-learn's breast cancer", inputs, labels, np.arange(len(labels)), names)
        train, test = drawn(rows, self.held_out, Seed(self.seed).child("breast cancer", "held out"))
        return table_split(
            train, test, columns, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows
        )
