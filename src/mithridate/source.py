"""Where data come from: a source is settings that load a training and a test set, the same ones every time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mithridate.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """A training set and a test set in one space. Ids are unique within each, not across both.

    A source gives these two. For a trial, rows may be taken out of the training set for its attacker alone: then the
    three sets ``train``, ``validation`` and ``own`` share no row.
    """

    train: Dataset
    """What victims train on."""
    test: Dataset
    """What they are judged on."""
    validation: Dataset | None = None
    """Rows held out for the attacker to judge its poison on, where its goal asks for some."""
    own: Dataset | None = None
    """The rows that an attacker crafts on who does not know the victim's training rows, as many as those are."""


class Source(ABC):
    """A named place that data come from. Kinds are frozen dataclasses in ``datasets/``."""

    name: ClassVar[str]

    @abstractmethod
    def load(self) -> Split:
        """Read the data. Raises :class:`~mithridate.errors.DataError` with what is wrong and what to do."""
