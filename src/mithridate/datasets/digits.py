"""The handwritten digits that scikit-learn carries: 1,797 images of 8 x 8, the smallest real task there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mithridate.datasets.rows import Classes, check_cut, check_held_out, held_out, numbered, split
from mithridate.seeding import Seed
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Optical recognition of handwritten digits, 17 grey levels; scikit-learn's copy of the UCI test set.

    Source: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49. There is no customary split; a part of each class is held out by ``seed``.
    """

    name: ClassVar[str] = "digits"

    held_out: float = 0.2
    """Fraction of each class that is for testing, in (0, 1)."""
    seed: int = 0
    """Decides which rows are held out."""
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

    def load(self) -> Split:
        """``(N, 1, 8, 8)`` uint8 with 17 levels; ids are scikit-learn's row numbers, so no id is in both parts."""
        from sklearn.datasets import load_digits

        found = load_digits()
        codes = found.images.astype(np.uint8)[:, None]  # (1797, 8, 8) of 0..16 -> (1797, 1, 8, 8)
        labels = found.target.astype(np.int64)
        rows = numbered("scikit-learn's digits", labels, lambda positions: codes[positions])
        train, test = held_out(labels, self.held_out, Seed(self.seed).child("digits", "held out"))
        return split(
            rows.at(train),
            rows.at(test),
            classes=self.classes,
            train_rows=self.train_rows,
            test_rows=self.test_rows,
            levels=17,
        )
