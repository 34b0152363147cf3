"""A small real image set that comes with the package, for first steps and tests without a network."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import ClassVar, Literal

from mithridate.datasets.imagetable import parquet_rows
from mithridate.datasets.rows import Classes, check_cut, split
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Bundled(Source):
    """Birds, cats, deer, dogs and frogs of CIFAR-10's first rows: 2,531 + 491 colour images 32 x 32, 5 classes.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009. The authors state no licence;
    where the rows come from, and their hashes, is told in ``bundled/README.md``.
    """

    name: ClassVar[str] = "bundled"

    set: Literal["cifar10-animals"] = "cifar10-animals"
    """Which of the bundled sets."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    per_class: str = ""
    """Which of each class's training rows to keep, by their order, as ``first:end`` (``0:300``, or ``300:350``);
    empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_cut(self.classes, self.train_rows, self.test_rows, self.per_class)

    def load(self) -> Split:
        """Read the bundle: ``(N, 3, 32, 32)`` uint8. Raises :class:`DataError` for classes and rows it lacks."""
        folder = files("mithridate.datasets") / "bundled"
        with ExitStack() as stack:  # the package may live in a zip file
            train, test = (
                parquet_rows([stack.enter_context(as_file(folder / f"{self.set}-{part}.parquet"))])
                for part in ("train", "test")
            )
            return split(
                train,
                test,
                classes=self.classes,
                per_class=self.per_class,
                train_rows=self.train_rows,
                test_rows=self.test_rows,
            )
