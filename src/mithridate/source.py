"""Where data come from: a source is settings that load a training and a test set, the same ones every time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mithridate.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """A training set and a test set in one space. Ids are unique within each, not across both."""

    train: Dataset
    test: Dataset


class Source(ABC):
    """A named place that data come from. Kinds are frozen dataclasses in ``datasets/``."""

    name: ClassVar[str]

    @abstractmethod
    def load(self) -> Split:
        """Read the data. Raises :class:`~mithridate.errors.DataError` with what is wrong and what to do."""
