"""From the columns of a table as they are read to rows of numbers in named columns, and to a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mithridate.dataset import Column, Dataset, Space
from mithridate.datasets.rows import Classes, Integers, Rows, held_out, split
from mithridate.errors import DataError, nearest
from mithridate.seeding import Seed
from mithridate.source import Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Feature:
    """A column as it was read, with what its values mean."""

    name: str
    kind: Literal["real", "integer", "binary", "category"]
    values: NDArray[Any]
    """``(N,)``: numbers, or of a ``category`` positions in ``categories``."""
    categories: tuple[str, ...] = ()
    """What the values of a ``category`` are called; each becomes a column."""


def encoded(
    features: Sequence[Feature], *, place: str, immutable: Sequence[str] = ()
) -> tuple[NDArray[np.float32], tuple[Column, ...]]:
    """Rows ``(N, D)`` float32 in raw units, and their columns: the range of each is that of all ``N`` rows.

    A category becomes a one-hot group, any other feature one column. Those named in ``immutable`` are not for an
    attacker to change. Raises :class:`DataError`, beginning with ``place``, for names that no feature has, and where no
    column varies.
    """
    check_names(immutable, [each.name for each in features], setting="immutable", place=place)
    blocks, columns = [], []
    for feature in features:
        block = _block(feature)
        blocks.append(block)
        columns += _columns(feature, block, mutable=feature.name not in immutable)
    if all(column.low == column.high for column in columns):
        raise DataError(f"{place}: every feature holds the same value in all rows; there is nothing to learn from")
    return np.concatenate(blocks, axis=1) + np.float32(0), tuple(columns)  # + 0: never -0.0, as rows are stored


def check_names(names: Sequence[str], known: Sequence[str], *, setting: str, place: str) -> None:
    """Raise :class:`DataError` for the first name that no column has."""
    strange = next((name for name in names if name not in known), None)
    if strange is not None:
        raise DataError(f"{place}: {setting}: there is no column '{strange}'; {near(strange, known)}")


def near(name: str, known: Sequence[str]) -> str:
    """The nearest of the columns, then all of them that a sentence has room for."""
    text = nearest(name, known)
    return text if len(text) <= 400 else f"{text[:400].rpartition(',')[0]}, ... ({len(known)} columns)"


def table_rows(
    place: str, inputs: NDArray[np.float32], labels: Integers, ids: Integers, classes: tuple[str, ...]
) -> Rows:
    """Rows ``(N, D)`` that are in memory."""
    return Rows(place=place, labels=labels, ids=ids, inputs=lambda positions: inputs[positions], classes=classes)


def drawn(rows: Rows, fraction: float, seed: Seed) -> tuple[Rows, Rows]:
    """Training and test rows, ``fraction`` of each class for testing, both in an order drawn by ``seed``.

    The order is drawn because files are often sorted by class, so that their first rows are of one.
    """
    generator = seed.child("order").generator()
    train, test = held_out(rows.labels, fraction, seed)
    shuffled = (part[torch.randperm(len(part), generator=generator).numpy()] for part in (train, test))
    first, second = (rows.at(part) for part in shuffled)
    return first, second


def table_split(
    train: Rows,
    test: Rows,
    columns: tuple[Column, ...],
    *,
    classes: Classes = (),
    train_rows: int | None = None,
    test_rows: int | None = None,
) -> Split:
    """Both parts in ``columns``, cut as images are; networks normalise by the training rows that are left.

    Raises :class:`DataError` beginning with the place that is at fault.
    """
    low, high = min(each.low for each in columns), max(each.high for each in columns)
    unknown = (0.0,) * len(columns), (1.0,) * len(columns)  # until it is known which rows are left
    found = split(
        train,
        test,
        classes=classes,
        train_rows=train_rows,
        test_rows=test_rows,
        bounds=(low, high),
        mean=unknown[0],
        std=unknown[1],
    )
    mean, std = _statistics(found.train.inputs)
    space = replace(found.train.space, columns=columns, mean=mean, std=std)
    return Split(train=_in(found.train, space, train.place), test=_in(found.test, space, test.place))


def _block(feature: Feature) -> NDArray[np.float32]:
    """The columns of a feature, ``(N, columns)``."""
    values = feature.values[:, None]
    if feature.kind == "category":
        values = values == np.arange(len(feature.categories))
    return np.asarray(values, dtype=np.float32)


def _columns(feature: Feature, block: NDArray[np.float32], *, mutable: bool) -> list[Column]:
    name = feature.name
    if feature.kind == "category":
        return [
            Column(name=f"{name}={each}", kind="one-hot", group=name, category=each, mutable=mutable)
            for each in feature.categories
        ]
    if feature.kind == "binary":
        return [Column(name=name, kind="binary", mutable=mutable)]
    return [Column(name=name, kind=feature.kind, low=float(block.min()), high=float(block.max()), mutable=mutable)]


def _statistics(inputs: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column of ``(N, D)``; a deviation of 1 where all values are the same.

    To 9 digits: more than float32 holds, and the same text on every machine.
    """
    values = inputs.to(torch.float64)
    mean, std = values.mean(0), values.std(0, correction=0)
    std = torch.where(values.amax(0) > values.amin(0), std, torch.ones_like(std))
    return tuple(float(f"{v:.9g}") for v in mean.tolist()), tuple(float(f"{v:.9g}") for v in std.tolist())


def _in(part: Dataset, space: Space, place: str) -> Dataset:
    try:
        return replace(part, space=space).checked()
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
