"""Trained networks as the report knows them: where each belongs, what it scored, and the whole story of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mithridate.errors import StoreError
from mithridate.report.boundaries import Boundary, boundary
from mithridate.report.planes import FeatureMap, feature_map
from mithridate.report.treatment import Treatment, treatment
from mithridate.report.values import matrix, number, series, text, whole

Control = Literal["attack", "noise", "clean"]
Series = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one trained network made of one target."""

    id: int | None
    true: int | None
    wanted: int | None
    """The class the poisoner wants; None where any wrong one will do."""
    predicted: int | None
    probabilities: tuple[float, ...]
    hit: bool
    radius: int | None
    """Rows a poisoner would have to change to change the answer, where the defense certifies that."""


class Victim(NamedTuple):
    """One trained network, judged on the targets of one trial. A tuple, because there may be a million of them."""

    key: str
    training: str
    """Rows that share it were one training, judged on several trials."""
    control: Control
    attack: str | None
    scenario: str | None
    """None for clean networks: they hold for every scenario."""
    defense: str
    victim: str
    trial: int
    run: int
    success: float
    """Share of the targets hit, in [0, 1]."""
    clean_accuracy: float | None
    """Accuracy on the untouched test set, in [0, 1]."""
    targets: tuple[Target, ...]
    """The targets, or a few of very many."""
    judged: int
    """How many targets it was judged on."""
    seconds: float
    peak_memory: int | None
    curve: Series
    map: FeatureMap | None
    box: str | None
    """What the attacker knows of it (``white-box``, ``grey-box``, ``black-box``); None for clean networks."""
    treatment: Treatment
    graded: bool
    """Whether success is a share of test rows, of which the mean counts (attacks that degrade), and no hit."""
    error: float | None
    """Share of the whole test set called wrong, in [0, 1]; known of attacks that degrade alone."""
    confusion: tuple[tuple[int, ...], ...]
    """Test rows by true class, then by what they were called; empty where it was not kept."""
    boundary: Boundary | None
    whole: bool = True
    """Whether its whole row was read. Of very many networks it is read of the first trials alone: the others have no
    targets, curve, map, confusion and boundary, and their treatment no rounds, facts and certificate."""


def victim(row: Mapping[str, Any], *, graded: bool) -> Victim:
    """A network from its whole row. Raises :class:`StoreError` where that is no result."""
    control, success = judgement(row["key"], required(row, "control"), required(row, "success"))
    error = number(row.get("error")) if graded else None
    return Victim(
        key=row["key"],
        training=str(row.get("training") or row["key"]),
        control=control,
        attack=text(row.get("attack")),
        scenario=text(row.get("scenario")),
        defense=str(row.get("defense") or "none"),
        victim=str(required(row, "victim")),
        trial=int(required(row, "trial")),
        run=int(row.get("run") or 0),
        success=success,
        clean_accuracy=number(row.get("clean_accuracy")) if error is None else 1 - error,
        targets=tuple(_target(each) for each in row.get("targets") or ()),
        judged=int(number(row.get("judged")) or len(row.get("targets") or ())),
        seconds=number(row.get("seconds")) or 0.0,
        peak_memory=whole(row.get("peak_memory")),
        curve=series(row.get("curve")),
        map=feature_map(row.get("map")),
        box=text(row.get("box")),
        treatment=treatment(row),
        graded=graded,
        error=error,
        confusion=matrix(row.get("confusion")),
        boundary=boundary(row.get("boundary")),
    )


def judgement(key: str, control: object, success: object) -> tuple[Control, float]:
    """The control and the success of a row. Raises :class:`StoreError` where they are none."""
    found = number(success)
    if control not in ("attack", "noise", "clean") or found is None or not 0 <= found <= 1:
        raise StoreError(f"the result '{key}' has control {control!r} and success {success!r}; run it again")
    return control, found


def required(row: Mapping[str, Any], name: str) -> Any:
    """What a row must have. Raises :class:`StoreError` where it is absent."""
    if row.get(name) is None:
        raise StoreError(f"the result '{row['key']}' lacks '{name}'; it was written by another release, or is damaged")
    return row[name]


def _target(row: Mapping[str, Any]) -> Target:
    return Target(
        id=whole(row.get("id")),
        true=whole(row.get("true")),
        wanted=whole(row.get("wanted")),
        predicted=whole(row.get("predicted")),
        probabilities=tuple(number(value) or 0.0 for value in row.get("probabilities") or ()),
        hit=bool(row.get("hit")),
        radius=whole(row.get("radius")),
    )
