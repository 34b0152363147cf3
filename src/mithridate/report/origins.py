"""What came from before a run and from elsewhere: pretrained networks, and the numbers that others published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mithridate.report.values import items, mapping, number, whole

_MOST = 10
"""Items of a list that are written out."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One network whose weights others start from."""

    learner: str
    data: str
    """The data it learned from, in a few words."""
    rows: int | None
    accuracy: float | None
    """On the test part of its own data, in [0, 1]."""
    seconds: float
    """What the training took, whenever it was done."""
    reused: float
    """Seconds of that which were found done already."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that others published, to stand beside ours."""

    attack: str
    victim: str
    rate: float
    """Success, in [0, 1]."""
    trials: int | None
    source: str
    """Where it was read, and its version."""


def pretraining(row: Mapping[str, Any]) -> Pretraining:
    """A pretrained network from its row."""
    return Pretraining(
        learner=str(row.get("learner") or "network"),
        data=_named(row.get("data")),
        rows=whole(row.get("rows")),
        accuracy=number(row.get("accuracy")),
        seconds=number(row.get("seconds")) or 0.0,
        reused=number(row.get("reused")) or 0.0,
    )


def published(value: Any) -> tuple[Published, ...]:
    """The published numbers that a run names; what is no rate in [0, 1] is left out."""
    found = []
    for row in map(mapping, items(value)):
        rate = number(row.get("rate"))
        if rate is not None and 0 <= rate <= 1:
            found.append(
                Published(
                    attack=str(row.get("attack") or ""),
                    victim=str(row.get("victim") or ""),
                    rate=rate,
                    trials=whole(row.get("trials")),
                    source=str(row.get("source") or "source not given"),
                )
            )
    return tuple(found)


def _named(data: Any) -> str:
    """A source of data by its name and the settings that were given."""
    found = mapping(data)
    if not found:
        return str(data or "not recorded")
    given = [f"{key.replace('_', ' ')} {_short(each)}" for key, each in found.items() if key != "name" and each]
    return ", ".join([str(found.get("name") or "data"), *given])


def _short(value: Any) -> str:
    """A setting in a table cell; of a long list its length."""
    if isinstance(value, list):
        return f"({len(value)})" if len(value) > _MOST else "/".join(map(str, value))
    return str(value)
