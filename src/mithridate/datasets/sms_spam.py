"""SMS Spam Collection: 5,574 text messages as counts of words, and whether they are spam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mithridate.dataset import Column
from mithridate.datasets.features import drawn, table_rows, table_split
from mithridate.datasets.places import needed, read_columns
from mithridate.datasets.rows import Classes, check_cut, check_held_out, chosen, cut, numbered
from mithridate.errors import ConfigError, DataError
from mithridate.seeding import Seed
from mithridate.source import Source, Split

_CLASSES = ("ham", "spam")
_ORIGIN = "https://doi.org/10.24432/C5CC84"


@dataclass(frozen=True, kw_only=True)
class SMSSpam(Source):
    """5,574 English text messages (747 spam), each as how often it holds each of the commonest words.

    The words are chosen on the training messages that are left after all cuts, never on test messages: scikit-learn's
    ``CountVectorizer``, lower case, words of two letters or more. Each is an integer column of that name, from 0 to the
    most often that any message here, test messages too, holds it; so a poison is counts that some message could have.

    Looked for as ``text/sms_spam.parquet`` in the folder named by ``MITHRIDATE_DATA``, then in the cache. Ids are row
    numbers of the file. There is no customary split; a part of each class is held out by ``seed``, and the order of
    rows is drawn by it. Source: T. A. Almeida, J. M. Gómez Hidalgo, A. Yamakami, *Contributions to the study of SMS
    spam filtering*, 2011; UCI Machine Learning Repository, https://doi.org/10.24432/C5CC84 (CC BY 4.0).
    """

    name: ClassVar[str] = "sms-spam"

    words: int = 500
    """How many words to count: the commonest in the training messages (all of them where they have no more)."""
    held_out: float = 0.2
    """Fraction of each class that is for testing, in (0, 1)."""
    seed: int = 0
    """Decides which messages are held out, and their order."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    train_rows: int | None = None
    """How many training messages of these classes to keep, in the order drawn by ``seed``; None keeps all."""
    test_rows: int | None = None
    """How many test messages of these classes to keep, in the order drawn by ``seed``; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_held_out(self.held_out)
        check_cut(self.classes, self.train_rows, self.test_rows)
        if self.words < 1:
            raise ConfigError(f"words must be at least 1, but it is {self.words}")

    def load(self) -> Split:
        """``(N, words)`` float32 counts. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        file = needed("text/sms_spam.parquet", title="SMS Spam Collection", origin=_ORIGIN)
        table = read_columns(file, {"sms": pa.string(), "label": pa.int64()}, rows=5574)
        texts = np.array(table.column("sms").to_pylist(), dtype=object)
        labels = np.array(table.column("label"), dtype=np.int64)
        messages = numbered(str(file), labels, lambda positions: texts[positions], classes=_CLASSES)
        kept = chosen(self.classes, _CLASSES, len(_CLASSES))
        train, test = drawn(messages, self.held_out, Seed(self.seed).child("sms", "held out"))
        parts = (
            cut(train, kept, self.train_rows, "train_rows"),
            cut(test, kept, self.test_rows, "test_rows"),
        )
        counts, columns = _counted(*(texts[part.ids] for part in parts), words=self.words)
        names = tuple(_CLASSES[label] for label in kept)
        first, second = (
            table_rows(part.place, found, part.labels, part.ids, names)
            for part, found in zip(parts, counts, strict=True)
        )
        return table_split(first, second, columns)


def _counted(
    train: NDArray[Any], test: NDArray[Any], *, words: int
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], tuple[Column, ...]]:
    """How often each message holds each of the commonest words of ``train``: both parts ``(n, words)``, and columns."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(max_features=words)
    try:
        vectorizer.fit(train)
    except ValueError:
        raise DataError(f"the {len(train)} training messages hold no word of two letters; take more of them") from None
    first, second = (vectorizer.transform(texts).toarray().astype(np.float32) for texts in (train, test))
    most = np.maximum(first.max(axis=0), second.max(axis=0))
    names = vectorizer.get_feature_names_out()
    columns = (Column(name=str(name), kind="integer", high=float(high)) for name, high in zip(names, most, strict=True))
    return (first, second), tuple(columns)
