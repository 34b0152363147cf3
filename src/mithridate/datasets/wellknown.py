"""Well-known image sets wherever they are: in a folder of the user's, in the cache, or on the Hugging Face hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mithridate.datasets.hubtable import hub_rows
from mithridate.datasets.imagetable import parquet_rows
from mithridate.datasets.rows import Classes, Integers, Rows, chosen, class_range, split
from mithridate.errors import AbsentError, ConfigError, DataError, MissingExtraError
from mithridate.source import Split


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a set before any of it is read."""

    title: str
    """What people call it."""
    folder: str
    """Folder of its Parquet files, below those that are looked in."""
    repository: str
    """Name on the hub."""
    train: int
    """Rows of the full training set."""
    test: int
    """Rows of the full test set."""
    classes: tuple[str, ...]
    """Class names in the order of their labels."""
    label: str | None = None
    """Column of labels; None for the usual one."""

    def rows(self, part: str) -> int:
        """Rows of the full ``train`` or ``test`` set."""
        return self.train if part == "train" else self.test


def load(
    known: Known,
    *,
    classes: Classes,
    per_class: str,
    train_rows: int | None,
    test_rows: int | None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> Split:
    """Both parts from the first place that has enough rows, cut and normalised as :func:`split` does it.

    Raises :class:`DataError` saying where to put the data if they are nowhere.
    """
    kept = chosen(classes, known.classes, len(known.classes))
    return split(
        _found(known, "train", kept, train_rows, per_class),
        _found(known, "test", kept, test_rows, ""),
        classes=classes,
        per_class=per_class,
        train_rows=train_rows,
        test_rows=test_rows,
        mean=mean,
        std=std,
    )


def check_normalisation(channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise :class:`ConfigError` for means and deviations that images of ``channels`` channels cannot have."""
    for setting, values in (("mean", mean), ("std", std)):
        if values and len(values) != channels:
            raise ConfigError(
                f"{setting} must have a number for each of {channels} channels (or be empty), but it has {len(values)}"
            )
    if not np.isfinite([*mean, *std]).all():
        raise ConfigError(f"mean and std must be finite numbers, but they are {mean} and {std}")
    if std and min(std) <= 0:
        raise ConfigError(f"std must be positive numbers, but it is {std}")


def _found(known: Known, part: str, kept: tuple[int, ...], limit: int | None, per_class: str) -> Rows:
    """The rows of ``part``: the full files, else the first rows if they are enough, else the hub's."""
    folders = [folder / known.folder for folder in _folders()]
    full = next((files for folder in folders if (files := sorted(folder.glob(f"{part}-*.parquet")))), None)
    if full is not None:
        return _checked(parquet_rows(full, label=known.label), known, part)
    mini = next((file for folder in folders if (file := folder / f"mini-{part}.parquet").is_file()), None)
    if mini is not None:
        rows = replace(parquet_rows([mini], label=known.label), classes=known.classes)
        if _are_enough(rows.labels, kept, limit, per_class):
            return rows
    fewer = "per_class" if per_class else f"{part}_rows"
    first = f" (only the first rows are there, in {mini}: ask for fewer with {fewer})" if mini else ""
    try:
        return _checked(hub_rows(known.repository, part=part, label=known.label), known, part)
    except MissingExtraError:
        advice = "install the extra that fetches it:  pip install 'mithridate[datasets]'"
        raise AbsentError(_nowhere(known, part, folders, first, advice)) from None
    except AbsentError as error:
        raise AbsentError(_nowhere(known, part, folders, first, f"mend this: {error}")) from error


def _are_enough(labels: Integers, kept: tuple[int, ...], limit: int | None, per_class: str) -> bool:
    """Whether the first rows of a set, labelled ``labels`` ``(N,)``, are cut to the same rows as all of it."""
    counts = np.array([(labels == label).sum() for label in kept])
    first, end = class_range(per_class)
    if end is None:
        return limit is not None and bool(counts.sum() >= limit)
    return bool(counts.min() >= end) and (limit or 0) <= len(kept) * (end - first)


def _folders() -> list[Path]:
    """Where to look, in order: the user's data, then the cache."""
    data, cache = os.environ.get("MITHRIDATE_DATA"), os.environ.get("MITHRIDATE_CACHE")
    return [Path(each).expanduser() for each in (data, cache or "~/.cache/mithridate") if each]


def _checked(rows: Rows, known: Known, part: str) -> Rows:
    expected = known.rows(part)
    if len(rows.labels) != expected:
        raise DataError(
            f"{rows.place} holds {len(rows.labels)} rows, but the {part} set of {known.title} has {expected}"
        )
    return replace(rows, classes=known.classes)


def _nowhere(known: Known, part: str, folders: list[Path], first: str, advice: str) -> str:
    places = " or ".join(map(str, folders))
    return (
        f"the {part} set of {known.title} was not found in {places}{first}; put {part}-00000-of-00001.parquet of the "
        f"hub's '{known.repository}' there, or name the folder above such a one in MITHRIDATE_DATA, or {advice}"
    )
