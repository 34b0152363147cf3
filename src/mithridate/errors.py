"""Every deliberate error: a sentence that says what is wrong, what was found, and what is allowed or what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class MithridateError(Exception):
    """Base of all errors that a user can cause or mend. The command line prints its text without a traceback."""


class ConfigError(MithridateError):
    """A setting is unknown, out of range, or does not fit the others."""


class ProblemsError(ConfigError):
    """Several things are wrong with one experiment; all are listed.

    ``problems`` holds one sentence each, every one beginning with its place (``attacks[0].steps: ...``).
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(MithridateError):
    """A data set cannot be read, or breaks a promise (shapes, ranges, unique ids)."""


class AbsentError(DataError):
    """Data that are not here: no such file, no such data set, no network to fetch them by."""


class ModelError(MithridateError):
    """A network does not fit its data, or its head cannot be found."""


class ThreatModelError(MithridateError):
    """A poison does more than its threat model allows, or the threat model cannot be met by this data."""


class FormatError(MithridateError):
    """A poison set or a foreign file is damaged, unsafe, or of a version this release does not know."""


class StoreError(MithridateError):
    """A run folder cannot be written, is damaged, or belongs to another experiment."""


class ChangedMethodsError(StoreError):
    """The code of methods has changed since rows in a run folder were computed. ``names`` are these methods'."""

    def __init__(self, folder: object, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"the code of {', '.join(names)} has changed since the run in '{folder}' was begun; say --changed keep to "
            "go on beside the old rows (the report says so), or --changed redo to put them aside and do them again"
        )


class DeviceError(MithridateError):
    """The device asked for is not there."""


class ShortOfMemoryError(MithridateError):
    """A job needs more memory than there is; the text names what to lower."""


class MissingExtraError(MithridateError):
    """An optional library is needed; the text names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra: install it with  pip install 'mithridate[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an unknown-name sentence: the nearest right name, then all that are allowed."""
    allowed = sorted(known)
    names = [each.lower() for each in allowed]
    close = [each for each in names if len(name) > 2 and each.startswith(name.lower())]
    close = close or get_close_matches(name.lower(), names, n=1)
    guess = f"did you mean '{next(a for a in allowed if a.lower() == close[0])}'? " if close else ""
    return f"{guess}allowed: {', '.join(allowed)}"
