"""What the columns of a user's table are: numbers, whole numbers, binaries or categories, told by their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from mithridate.datasets.features import Feature
from mithridate.datasets.rows import Integers
from mithridate.datasets.tablefile import Cells, Records
from mithridate.errors import DataError

Kind = Literal["numeric", "integer", "binary", "category", "ignore"]
KINDS: tuple[str, ...] = get_args(Kind)

MOST_CLASSES = 100
"""A target of more different values is taken for something else than a class."""
_MOST_FRACTIONS = 20
"""A target of numbers with decimals may have so many different ones: 0.5, 1.0, 1.5, ... of a rating."""
_WHOLE = 2**24
"""Up to here, float32 holds every whole number; beyond it a whole-number column is taken for a real one."""
_LARGEST = float(np.finfo(np.float32).max)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?|\d{1,2}([-/.])\d{1,2}\2(\d{4}|\d{2})( .*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_SHOWN = 10
"""So many problems are told of at once."""


def features(records: Records, names: Sequence[str], kinds: Mapping[str, str], *, most: int) -> tuple[Feature, ...]:
    """The columns ``names`` (none has a missing value) by what they are; ``kinds`` says it of some of them.

    ``most`` is how many categories a column may have. Raises :class:`DataError` with every column that cannot be used.
    """
    found, problems = [], []
    for name in names:
        try:
            found.append(feature(records, name, kinds.get(name), most=most))
        except DataError as error:
            problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - _SHOWN} more columns like these"] if len(problems) > _SHOWN else []
        raise DataError("\n".join(problems[:_SHOWN] + more))
    return tuple(found)


def feature(records: Records, name: str, kind: str | None, *, most: int) -> Feature:
    """One column by what it is: ``kind``, or None to tell it from the values."""
    cells = records.cells(name)
    kind = kind or _told(records, name, cells)
    if kind == "category":
        return _category(records, name, cells, most)
    truths = _truths(cells) if kind == "binary" else None
    if truths is not None:
        return Feature(name=name, kind="binary", values=truths[cells.codes])
    _check_finite(records, name, cells)
    values = cells.numbers[cells.codes]
    if kind == "numeric":
        return Feature(name=name, kind="real", values=values)
    needed = "0 or 1 (or true, false)" if kind == "binary" else f"a whole number up to {_WHOLE}"
    fitting = np.isin(cells.numbers, (0, 1)) if kind == "binary" else _whole(cells)
    if not fitting.all():
        what = f"is not {needed}, which its kind, {kind}, asks for"
        _refuse(records, name, cells, int(np.flatnonzero(~fitting)[0]), what)
    return Feature(name=name, kind="binary" if kind == "binary" else "integer", values=values)


def classes(records: Records, target: str) -> tuple[Integers, tuple[str, ...]]:
    """Labels ``(N,)`` and class names by the column ``target`` (no value is missing), sorted: numbers by size.

    Raises :class:`DataError` where there is one class only, or where these are quantities rather than classes.
    """
    cells = records.cells(target)
    place = f"{records.place}: the target '{target}'"
    if len(cells.texts) < 2:
        raise DataError(f"{place} is '{cells.texts[0][:40]}' in all {len(cells.codes)} rows; two classes are needed")
    numeric = bool(np.isfinite(cells.numbers).all())
    fractions = numeric and bool((cells.numbers != np.round(cells.numbers)).any())
    if fractions and len(cells.texts) > _MOST_FRACTIONS:
        raise DataError(
            f"{place} looks continuous: {len(cells.texts)} different numbers with decimals in {len(cells.codes)} rows; "
            "only classification is attacked here, so make classes of it, or name another target"
        )
    if len(cells.texts) > MOST_CLASSES:
        raise DataError(
            f"{place} has {len(cells.texts)} different values in {len(cells.codes)} rows, more than the "
            f"{MOST_CLASSES} classes that are taken for classes; is it the right column?"
        )
    if numeric:
        values, order = np.unique(cells.numbers, return_inverse=True)
        names = tuple(repr(float(value)) if fractions else str(int(value)) for value in values)
    else:
        sorted_texts, order = np.unique(np.array(cells.texts), return_inverse=True)
        names = tuple(map(str, sorted_texts))
    return order.astype(np.int64)[cells.codes], names


def _told(records: Records, name: str, cells: Cells) -> str:
    """The kind of a column, told by its values."""
    numeric = ~np.isnan(cells.numbers)
    if numeric.all():
        _check_finite(records, name, cells)
        return _told_of_numbers(records, name, cells)
    if _truths(cells) is not None:
        return "binary"
    commas = np.array([bool(_DECIMAL_COMMA.fullmatch(text)) for text in cells.texts])
    if commas.any() and (numeric | commas).all():
        first = int(np.flatnonzero(commas)[0])
        _refuse(records, name, cells, first, "has a decimal comma; set decimal to ',', or its kind to category")
    share = numeric[cells.codes].mean()
    if share >= 0.5:
        strange = int(np.flatnonzero(~numeric)[0])
        what = f"is no number, unlike {share:.0%} of the column; mend it, leave it empty, or set its kind to category"
        _refuse(records, name, cells, strange, what)
    if all(_DATE.fullmatch(text) for text in cells.texts):
        _refuse(records, name, cells, 0, "is a date, like all of the column; add it to ignore, or make numbers of it")
    return "category"


def _told_of_numbers(records: Records, name: str, cells: Cells) -> str:
    if set(cells.numbers.tolist()) == {0.0, 1.0}:
        return "binary"
    if not _whole(cells).all():
        return "numeric"
    ahead = cells.numbers[cells.codes] - records.ids
    if all(len(np.unique(ahead[records.part == part])) == 1 for part in np.unique(records.part)):
        raise DataError(
            f"{records.place}: column '{name}' numbers the rows, which says nothing about them; add it to ignore, or "
            "set its kind to integer"
        )
    return "integer"


def _category(records: Records, name: str, cells: Cells, most: int) -> Feature:
    count, rows = len(cells.texts), len(cells.codes)
    if count > most:
        example = f"'{cells.texts[0][:40]}', '{cells.texts[1][:40]}', ..."
        what = (
            "nearly every row has its own, as names, keys and free text have"
            if count > rows / 2
            else f"each becomes a column, and at most {most} may (setting categories)"
        )
        raise DataError(
            f"{records.place}: column '{name}' has {count} different values in {rows} rows ({example}): {what}; add "
            "it to ignore"
        )
    ordered, codes = np.unique(np.array(cells.texts), return_inverse=True)
    return Feature(
        name=name, kind="category", values=codes.astype(np.int64)[cells.codes], categories=tuple(map(str, ordered))
    )


def _truths(cells: Cells) -> Integers | None:
    """Of a column of true and false, what each text is (0 or 1); None of others."""
    lower = [text.lower() for text in cells.texts]
    return np.array([text == "true" for text in lower], dtype=np.int64) if {*lower} <= {"true", "false"} else None


def _whole(cells: Cells) -> NDArray[np.bool_]:
    """Which of the texts are whole numbers that float32 holds."""
    found: NDArray[np.bool_] = (cells.numbers == np.round(cells.numbers)) & (np.abs(cells.numbers) <= _WHOLE)
    return found


def _check_finite(records: Records, name: str, cells: Cells) -> None:
    """Raise :class:`DataError` for a text that is no finite number of float32."""
    strange = np.flatnonzero(~(np.abs(cells.numbers) <= _LARGEST))  # NaN too
    if len(strange):
        no_number = np.isnan(cells.numbers[strange[0]])
        what = (
            "no number; mend it, or set its kind to category" if no_number else "no finite number of float32; mend it"
        )
        _refuse(records, name, cells, int(strange[0]), f"is {what}")


def _refuse(records: Records, name: str, cells: Cells, text: int, what: str) -> NoReturn:
    """Raise :class:`DataError` naming the first row that holds a text."""
    row = int(np.flatnonzero(cells.codes == text)[0])
    raise DataError(f"{records.where(row)}, column '{name}': '{cells.texts[text][:40]}' {what}")
