"""Labelled rows that are read late: cut to classes and counts first, then read into a split."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mithridate.dataset import Dataset, Space, channel_statistics
from mithridate.errors import ConfigError, DataError, nearest
from mithridate.seeding import Seed
from mithridate.source import Split

Integers = NDArray[np.int64]
Classes = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Labels and ids of rows whose inputs are read only once it is known which of them are wanted."""

    place: str
    """What to call the rows in a sentence: a file, a folder, an argument."""
    labels: Integers
    """``(N,)``, as the place numbers its classes."""
    ids: Integers
    """``(N,)``, unique."""
    inputs: Callable[[Integers], NDArray[Any]]
    """The inputs at ascending positions ``(n,)``: ``(n, *shape)`` uint8 codes, or floats in natural units."""
    classes: tuple[str, ...] = ()
    """Class names that the place declares; may be empty."""

    def at(self, positions: Integers) -> Rows:
        """The rows at ascending ``positions`` ``(n,)``, still unread."""
        return replace(
            self,
            labels=self.labels[positions],
            ids=self.ids[positions],
            inputs=lambda within: self.inputs(positions[within]),
        )


def numbered(
    place: str, labels: Integers, inputs: Callable[[Integers], NDArray[Any]], *, classes: tuple[str, ...] = ()
) -> Rows:
    """Rows whose ids are their numbers, from 0."""
    return Rows(place=place, labels=labels, ids=np.arange(len(labels)), inputs=inputs, classes=classes)


def check_cut(classes: Classes, train_rows: int | None, test_rows: int | None, per_class: str = "") -> None:
    """Raise :class:`ConfigError` for settings that would cut any data to nothing."""
    for setting, rows in (("train_rows", train_rows), ("test_rows", test_rows)):
        if rows is not None and rows < 1:
            raise ConfigError(f"{setting} must be at least 1 (or none, for all rows), but it is {rows}")
    if len(classes) == 1:
        raise ConfigError(f"classes must name at least 2 classes (or none, for all), but it names only {classes[0]!r}")
    if len(set(classes)) != len(classes):
        raise ConfigError(f"classes must be different, but they are {', '.join(map(repr, classes))}")
    class_range(per_class)


def class_range(per_class: str) -> tuple[int, int | None]:
    """First row of each class that ``first:end`` keeps, and the one behind its last; ``(0, None)`` where it is empty.

    Raises :class:`ConfigError` for other forms, and for ranges that hold nothing.
    """
    if not per_class:
        return 0, None
    matched = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", per_class)
    if matched is None:
        raise ConfigError(
            f"per_class must be first:end, two whole numbers (0:4800; empty for all rows), but it is '{per_class}'"
        )
    first, end = int(matched[1]), int(matched[2])
    if end <= first:
        raise ConfigError(f"per_class must end behind its first row (0:4800 keeps 4800), but it is '{per_class}'")
    return first, end


def split(
    train: Rows,
    test: Rows,
    *,
    classes: Classes = (),
    train_rows: int | None = None,
    test_rows: int | None = None,
    per_class: str = "",
    bounds: tuple[float, float] = (0.0, 1.0),
    levels: int = 256,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> Split:
    """Both parts, read: first cut to ``classes`` (renumbered in that order), then to their first rows.

    Between the two, ``per_class`` (``first:end``) cuts each class of the training part. ``levels`` is for uint8 inputs;
    floats have none. ``mean`` and ``std`` are what networks normalise with; where they are empty, those of the training
    rows that are left. Raises :class:`DataError` beginning with the place that is at fault.
    """
    names = class_names(train, test)
    count = len(names) or _highest_label(train, test) + 1
    for part in (train, test):
        _check_labels(part, count)
    kept = chosen(classes, names, count)
    train = cut(train, kept, train_rows, "train_rows", per_class=per_class)
    test = cut(test, kept, test_rows, "test_rows")
    if len(np.unique(train.labels)) < 2:
        raise DataError(f"{train.place}: all {len(train.labels)} training rows are of one class; 2 are needed")
    inputs, test_inputs = _alike(train, test, levels)
    stored = torch.from_numpy(inputs)
    space = Space(
        shape=tuple(inputs.shape[1:]),
        num_classes=len(kept),
        bounds=bounds,
        levels=levels if inputs.dtype == np.uint8 else None,
        classes=tuple(names[label] for label in kept) if names else tuple(map(str, kept)) if classes else (),
    )
    trained = _dataset(train, stored, space)
    if not (mean and std):
        found = channel_statistics(stored, space)
        mean, std = mean or found[0], std or found[1]
    space = replace(space, mean=mean, std=std)
    return Split(train=replace(trained, space=space), test=_dataset(test, torch.from_numpy(test_inputs), space))


def class_names(train: Rows, test: Rows) -> tuple[str, ...]:
    """The class names of both parts, or none. Raises :class:`DataError` where the parts disagree."""
    if train.classes and test.classes and train.classes != test.classes:
        raise DataError(
            f"{train.place} has the classes {', '.join(train.classes)}, but {test.place} has {', '.join(test.classes)}"
        )
    names = train.classes or test.classes
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{train.place}: two classes are called '{repeated}'; class names must be different")
    return names


def chosen(classes: Classes, names: tuple[str, ...], count: int) -> tuple[int, ...]:
    """The labels that ``classes`` (names or numbers) ask for, in that order; all where it is empty."""
    labels = tuple(_label(each, names, count) for each in classes)
    if len(set(labels)) != len(labels):
        raise DataError(f"classes name one class twice: {', '.join(map(str, classes))}")
    return labels or tuple(range(count))


def cut(part: Rows, kept: tuple[int, ...], limit: int | None, setting: str, *, per_class: str = "") -> Rows:
    """The first ``limit`` rows of the classes ``kept``, relabelled by their place in ``kept``; ids and order stay.

    With ``per_class`` (``first:end``) they are taken from those rows of each class alone. Raises :class:`DataError`
    naming the setting, or the class, that asks for more rows than there are.
    """
    positions = np.sort(np.concatenate([_of_class(part, label, per_class) for label in kept]))
    if limit is not None and len(positions) < limit:
        raise DataError(
            f"{part.place}: {setting} asks for {limit} rows, but it holds {len(positions)} of these classes"
        )
    if len(positions) == 0:
        raise DataError(f"{part.place} holds no rows" + (" of the classes asked for" if len(part.labels) else ""))
    part = part.at(positions[:limit])
    numbers = np.full(max(kept) + 1, -1)
    numbers[list(kept)] = np.arange(len(kept))
    return replace(part, labels=numbers[part.labels])


def _of_class(part: Rows, label: int, per_class: str) -> Integers:
    """Positions of the rows of one class that ``per_class`` keeps, ascending."""
    positions = np.flatnonzero(part.labels == label)
    first, end = class_range(per_class)
    if end is not None and len(positions) < end:
        name = part.classes[label] if part.classes else label
        raise DataError(
            f"{part.place}: per_class asks for rows {per_class} of each class, but class '{name}' has {len(positions)}"
        )
    return positions[first:end]


def held_out(labels: Integers, fraction: float, seed: Seed) -> tuple[Integers, Integers]:
    """Positions of training and of test rows, each ascending: ``fraction`` of every class, drawn by ``seed``.

    Every class keeps at least one row on either side where it has two.
    """
    generator = seed.generator()
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        test[rows[torch.randperm(len(rows), generator=generator).numpy()[:count]]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def check_held_out(fraction: float) -> None:
    """Raise :class:`ConfigError` for a fraction that leaves one side empty."""
    if not 0 < fraction < 1:
        raise ConfigError(f"held_out must lie between 0 and 1 (0.2: one row in five), but it is {fraction:g}")


def check_size(size: int | None) -> None:
    """Raise :class:`ConfigError` for a side that no image has."""
    if size is not None and not 1 <= size <= 4096:
        raise ConfigError(f"size must lie in 1..4096 pixels (or be none), but it is {size}")


def _label(wanted: str | int, names: tuple[str, ...], count: int) -> int:
    if isinstance(wanted, str):
        if wanted not in names:
            known = nearest(wanted, names) if names else f"(the classes have no names: use 0..{count - 1})"
            raise DataError(f"classes: there is no class '{wanted}'; {known}")
        return names.index(wanted)
    if not 0 <= wanted < count:
        raise DataError(f"classes: there is no class {wanted}; labels run from 0 to {count - 1}")
    return wanted


def _highest_label(train: Rows, test: Rows) -> int:
    """The highest label of two unnamed parts, once every lower one has been seen (a stray 255 makes no 256 classes)."""
    present = np.union1d(train.labels, test.labels)
    present = present[present >= 0]  # negative ones are refused with their row, later
    if len(present) == 0:
        raise DataError(f"{train.place} holds no rows with a label from 0")
    highest = int(present[-1])
    if len(present) != highest + 1:
        missing = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise DataError(
            f"{train.place}: the highest label is {highest}, but no row has label {missing}; number the classes from 0 "
            "without gaps, or name all of them"
        )
    return highest


def _check_labels(part: Rows, count: int) -> None:
    outside = np.flatnonzero((part.labels < 0) | (part.labels >= count))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{part.place}: row {row} has label {part.labels[row]}, but labels must lie in 0..{count - 1}"
            + (" (-1 commonly marks rows without a label)" if part.labels[row] == -1 else "")
        )


def _alike(train: Rows, test: Rows, levels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs of both parts in one shape and type.

    Grey images beside coloured ones become three equal channels; codes beside floats become floats.
    """
    first, second = (part.inputs(np.arange(len(part.labels))) for part in (train, test))
    if first.ndim == second.ndim == 4 and first.shape[2:] == second.shape[2:]:
        channels = {first.shape[1], second.shape[1]}
        if channels == {1, 3}:
            first, second = (np.repeat(x, 3, axis=1) if x.shape[1] == 1 else x for x in (first, second))
    if first.shape[1:] != second.shape[1:]:
        raise DataError(
            f"{train.place} has inputs of shape {first.shape[1:]}, but {test.place} of shape {second.shape[1:]}; "
            "training and test inputs must be alike"
        )
    if first.dtype != second.dtype:
        first, second = (x / np.float32(levels - 1) if x.dtype == np.uint8 else x for x in (first, second))
    return first, second


def _dataset(part: Rows, inputs: torch.Tensor, space: Space) -> Dataset:
    labels, ids = torch.from_numpy(part.labels), torch.from_numpy(part.ids)
    try:
        return Dataset(inputs=inputs, labels=labels, ids=ids, space=space).checked()
    except DataError as error:
        raise DataError(f"{part.place}: {error}") from error
