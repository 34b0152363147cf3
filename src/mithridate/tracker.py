"""A tracker is another program's record of a campaign: parameters, curves and files, kept in the run folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number on a curve."""

    tag: str
    """The curve: its group, a slash, and what it shows (``success/gradient-matching - epic``). Letters, digits, spaces
    and ``_-./`` only, which all trackers allow."""
    step: int
    """Place on the curve; grows along it."""
    value: float


class Tracker(ABC):
    """A record in a run folder that a campaign adds to. Kinds live in ``trackers/``; none of them uses a network.

    Made by ``Kind(folder)`` with the run folder; that raises :class:`~mithridate.errors.MissingExtraError` where the
    library is absent. Other methods may raise whatever their library does: the caller goes on without the tracker.
    """

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        """Open the record called ``identity``, or a new one where that is empty or gone; what it is called.

        ``title`` is the experiment's name; ``settings`` are its settings by dotted place (``threat.budget``).
        """

    @abstractmethod
    def last(self) -> dict[str, int]:
        """The last step that the record holds of each tag: a curve goes on after it."""

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Add points and write them out."""

    @abstractmethod
    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        """Add the files of the run as they now are, and close the record; ``complete``: all jobs are done."""
