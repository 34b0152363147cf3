"""Labelled images of a data set on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mithridate.datasets.hubtable import hub_rows
from mithridate.datasets.images import Colour
from mithridate.datasets.rows import Classes, check_cut, check_size, split
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """A data set by its name on the Hugging Face hub. Needs the ``datasets`` extra, and a network the first time."""

    name: ClassVar[str] = "hub"

    repository: str
    """Name on the hub: ``uoft-cs/cifar10``."""
    config: str | None = None
    """Configuration, for data sets that have several; None takes the default one."""
    revision: str | None = None
    """Branch, tag or commit; None takes the newest, which may change: name a commit to be exact."""
    train: str = "train"
    """Part to train on, in the hub's notation (``train[:80%]`` too)."""
    test: str = "test"
    """Part to test on, likewise; many data sets call it ``validation``."""
    image: str | None = None
    """Column of images; None looks for ``image``, then ``img``."""
    label: str | None = None
    """Column of labels; None looks for ``label``, then ``fine_label``."""
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
        """Fetch both parts: ``(N, C, H, W)`` uint8. Raises :class:`DataError` where the hub or the data fail."""
        train, test = (
            hub_rows(
                self.repository,
                part=part,
                config=self.config,
                revision=self.revision,
                image=self.image,
                label=self.label,
                size=self.size,
                colour=self.colour,
            )
            for part in (self.train, self.test)
        )
        return split(train, test, classes=self.classes, train_rows=self.train_rows, test_rows=self.test_rows)
