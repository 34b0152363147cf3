"""What a defense did to one training: rows it removed, what it says of itself, what it certifies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.report.values import items, mapping, number, text, whole


@dataclass(frozen=True, kw_only=True)
class Round:
    """Rows removed at one moment."""

    by: str
    """Name of the defense."""
    epoch: int
    """Epochs done before."""
    rows: int
    poison: int
    """How many of the rows were poisoned."""
    by_class: tuple[int, ...]
    """How many of each class; empty where it was not recorded."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Accuracy that no poisoner can lower who inserts or removes up to so many rows; a changed one counts as two."""

    radius: tuple[int, ...]
    """Rows, ascending."""
    accuracy: tuple[float, ...]
    """In [0, 1], one for each radius: the share of rows certified for at least so many."""

    def at(self, radius: int) -> float:
        """The share certified for at least ``radius`` rows: that of the next radius listed, 0 beyond the last."""
        found = zip(self.radius, self.accuracy, strict=True)
        return next((accuracy for each, accuracy in found if each >= radius), 0.0)


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What the defense of one training did. Runs of older releases know nothing of it: None, or empty."""

    control_of: tuple[str, ...]
    """The stacks whose numbers this one controls; empty for ordinary defenses."""
    oracle: bool
    """Whether it used what no defender can know."""
    rounds: tuple[Round, ...]
    dropped: int | None
    """Rows removed in all."""
    dropped_poison: int | None
    """Poisoned ones among them."""
    poison_rows: int | None
    """Poisoned rows of the training set."""
    training_rows: int | None
    """Rows of the training set, poison that was added to it among them."""
    class_rows: tuple[int, ...]
    """Rows of each class before anything was removed."""
    facts: Mapping[str, float]
    """What the defense reports of itself."""
    certificate: Certificate | None
    images: str | None
    """File of the first rows removed, relative to the run folder."""
    reused: float
    """Seconds of its work that were found done."""

    @property
    def share(self) -> float | None:
        """Share of all rows that were removed."""
        return ratio(self.dropped, self.training_rows)

    @property
    def recall(self) -> float | None:
        """Share of the poisoned rows that were removed."""
        return ratio(self.dropped_poison, self.poison_rows)

    @property
    def clean_drop(self) -> float | None:
        """Share of the clean rows that were removed."""
        return ratio(_less(self.dropped, self.dropped_poison), _less(self.training_rows, self.poison_rows))


def ratio(part: float | None, total: float | None) -> float | None:
    """A share in [0, 1]; None where it is not known, or of nothing."""
    if part is None or total is None or total <= 0:
        return None
    return min(1.0, max(0.0, part / total))


def _less(count: int | None, part: int | None) -> int | None:
    return None if count is None or part is None else count - part


def _is_known(value: Any) -> bool:
    """Whether a fact is a number; it may be infinite, as the privacy spent without noise is."""
    return isinstance(value, int | float) and not math.isnan(value)


def treatment(row: Mapping[str, Any]) -> Treatment:
    """What a victim's row says of its defense."""
    rounds = tuple(_round(mapping(each)) for each in items(row.get("removals")))
    control_of = row.get("control_of")
    facts, class_rows = mapping(row.get("facts")), _counts(row.get("class_rows"))
    return Treatment(
        control_of=(control_of,) if isinstance(control_of, str) else tuple(str(each) for each in items(control_of)),
        oracle=bool(row.get("oracle")),
        rounds=rounds,
        dropped=_given(row, "dropped", [each.rows for each in rounds]),
        dropped_poison=_given(row, "dropped_poison", [each.poison for each in rounds]),
        poison_rows=whole(row.get("poison_rows")),
        training_rows=sum(class_rows) or whole(row.get("training_rows")),  # which leaves out what was added
        class_rows=class_rows,
        facts={name: float(value) for name, value in facts.items() if _is_known(value)},
        certificate=_certificate(mapping(row.get("certified"))),
        images=text(row.get("dropped_images")),
        reused=number(row.get("reused")) or 0.0,
    )


def _given(row: Mapping[str, Any], name: str, parts: Sequence[int]) -> int | None:
    """A count as recorded, or else the sum of the rounds where there are any."""
    found = whole(row.get(name))
    return sum(parts) if found is None and parts else found


def _round(row: Mapping[str, Any]) -> Round:
    return Round(
        by=str(row.get("by") or "a defense"),
        epoch=whole(row.get("epoch")) or 0,
        rows=whole(row.get("rows")) or 0,
        poison=whole(row.get("poison")) or 0,
        by_class=_counts(row.get("by_class")),
    )


def _counts(value: Any) -> tuple[int, ...]:
    return tuple(whole(each) or 0 for each in items(value))


def _certificate(row: Mapping[str, Any]) -> Certificate | None:
    pairs = [
        (int(radius), accuracy)
        for radius, accuracy in zip(
            map(number, items(row.get("radius"))), map(number, items(row.get("accuracy"))), strict=False
        )
        if radius is not None and accuracy is not None
    ]
    if not pairs:
        return None
    pairs.sort()
    return Certificate(radius=tuple(each for each, _ in pairs), accuracy=tuple(each for _, each in pairs))
