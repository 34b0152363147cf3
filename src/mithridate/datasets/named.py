"""Well-known image sets by name, from a folder of the user's or from the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from mithridate.datasets.hubtable import hub_rows
from mithridate.datasets.imagetable import parquet_rows
from mithridate.datasets.rows import Classes, Rows, check_cut, chosen, split
from mithridate.errors import DataError, MissingExtraError
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class CIFAR10(Source):
    """CIFAR-10: 50,000 + 10,000 colour images 32 x 32, 10 classes.

    Looked for as ``cifar10/train-*.parquet`` and ``test-*.parquet`` in the folder named by ``MITHRIDATE_DATA``, then in
    the cache (``MITHRIDATE_CACHE``, else ``~/.cache/mithridate``), then on the hub as ``uoft-cs/cifar10``. Where only
    ``mini-train.parquet`` (the first rows) is there, it serves as many rows as it has. Ids are the original indices.
    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """

    name: ClassVar[str] = "cifar10"

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
        """``(N, 3, 32, 32)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return _load(_CIFAR10, self.classes, self.train_rows, self.test_rows)


@dataclass(frozen=True, kw_only=True)
class MNIST(Source):
    """MNIST: 60,000 + 10,000 grey images 28 x 28 of handwritten digits, looked for as :class:`CIFAR10` is.

    In ``mnist/``, or on the hub as ``ylecun/mnist``. Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner,
    *Gradient-based learning applied to document recognition*, 1998, https://doi.org/10.1109/5.726791.
    """

    name: ClassVar[str] = "mnist"

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
        """``(N, 1, 28, 28)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return _load(_MNIST, self.classes, self.train_rows, self.test_rows)


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(Source):
    """Fashion-MNIST: 60,000 + 10,000 grey images 28 x 28 of clothes, looked for as :class:`CIFAR10` is.

    In ``fashion_mnist/``, or on the hub as ``zalando-datasets/fashion_mnist``. Source: H. Xiao, K. Rasul, R. Vollgraf,
    *Fashion-MNIST*, 2017, https://arxiv.org/abs/1708.07747.
    """

    name: ClassVar[str] = "fashion-mnist"

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
        """``(N, 1, 28, 28)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return _load(_FASHION_MNIST, self.classes, self.train_rows, self.test_rows)


@dataclass(frozen=True, kw_only=True)
class _Known:
    title: str
    folder: str
    repository: str
    train: int
    """Rows of the full training set."""
    test: int
    """Rows of the full test set."""
    classes: tuple[str, ...]

    def rows(self, part: str) -> int:
        """Rows of the full ``train`` or ``test`` set."""
        return self.train if part == "train" else self.test


_CIFAR10 = _Known(
    title="CIFAR-10",
    folder="cifar10",
    repository="uoft-cs/cifar10",
    train=50_000,
    test=10_000,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
_MNIST = _Known(
    title="MNIST",
    folder="mnist",
    repository="ylecun/mnist",
    train=60_000,
    test=10_000,
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
)
_FASHION_MNIST = _Known(
    title="Fashion-MNIST",
    folder="fashion_mnist",
    repository="zalando-datasets/fashion_mnist",
    train=60_000,
    test=10_000,
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)


def _load(known: _Known, classes: Classes, train_rows: int | None, test_rows: int | None) -> Split:
    kept = chosen(classes, known.classes, len(known.classes))
    train, test = _found(known, "train", kept, train_rows), _found(known, "test", kept, test_rows)
    return split(train, test, classes=classes, train_rows=train_rows, test_rows=test_rows)


def _found(known: _Known, part: str, kept: tuple[int, ...], limit: int | None) -> Rows:
    """The rows of ``part``: the full files, else the first rows if they are enough, else the hub's."""
    folders = [folder / known.folder for folder in _folders()]
    full = next((files for folder in folders if (files := sorted(folder.glob(f"{part}-*.parquet")))), None)
    if full is not None:
        return _checked(parquet_rows(full), known, part)
    mini = next((file for folder in folders if (file := folder / f"mini-{part}.parquet").is_file()), None)
    if mini is not None and limit is not None:
        rows = replace(parquet_rows([mini]), classes=known.classes)
        if np.isin(rows.labels, kept).sum() >= limit:
            return rows
    try:
        return _checked(hub_rows(known.repository, part=part), known, part)
    except MissingExtraError:
        advice = "install the extra that fetches it:  pip install 'mithridate[datasets]'"
        raise DataError(_nowhere(known, part, folders, mini, advice)) from None
    except DataError as error:
        raise DataError(_nowhere(known, part, folders, mini, f"mend this: {error}")) from error


def _folders() -> list[Path]:
    """Where to look, in order: the user's data, then the cache."""
    data, cache = os.environ.get("MITHRIDATE_DATA"), os.environ.get("MITHRIDATE_CACHE")
    return [Path(each).expanduser() for each in (data, cache or "~/.cache/mithridate") if each]


def _checked(rows: Rows, known: _Known, part: str) -> Rows:
    expected = known.rows(part)
    if len(rows.labels) != expected:
        raise DataError(
            f"{rows.place} holds {len(rows.labels)} rows, but the {part} set of {known.title} has {expected}"
        )
    return replace(rows, classes=known.classes)


def _nowhere(known: _Known, part: str, folders: list[Path], mini: Path | None, advice: str) -> str:
    places = " or ".join(map(str, folders))
    first = f" (only the first rows are there, in {mini}: ask for fewer with {part}_rows)" if mini else ""
    return (
        f"the {part} set of {known.title} was not found in {places}{first}; put {part}-00000-of-00001.parquet of the "
        f"hub's '{known.repository}' there, or name the folder above such a one in MITHRIDATE_DATA, or {advice}"
    )
