"""The first numbers of a campaign under way: success by attack and defense, as far as trials are judged."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mithridate.sequential import confidence_sequence
from mithridate.stats import mean_interval, rate
from mithridate.store import Store

_NAMES = ("attack", "scenario", "victim", "defense", "trial", "success")
_Lines = Generator[tuple[Any, ...], None, None]


@dataclass(frozen=True, kw_only=True)
class FirstNumber:
    """One combination so far."""

    attack: str
    defense: str
    place: str
    """Scenario and victim."""
    success: float
    """In [0, 1]; of attacks that degrade, the mean share of test rows."""
    low: float
    high: float
    trials: int
    victims: int
    interval: str | None = None
    """``sequential`` where the interval holds however often one looks; None for an ordinary one."""

    @property
    def words(self) -> str:
        """As in: 75% [44-92%]."""
        if self.low == self.high:
            return f"{self.success:.0%}"
        return f"{self.success:.0%} [{100 * self.low:.0f}-{100 * self.high:.0f}%]"


def first_numbers(folder: Path) -> list[FirstNumber]:
    """Every combination with judged networks, in the order of the experiment: undefended ones of the base first.

    The intervals are those of the report: where trials are added until a rate is known well enough, the ones that hold
    however often one looks. Raises :class:`StoreError` where there is no run.
    """
    trials: dict[tuple[Any, ...], dict[int, list[float]]] = {}
    with Store(folder) as store:
        meta = store.meta()
        with closing(cast(_Lines, store.scalars(("control", *_NAMES), "victim"))) as lines:
            for control, *place, trial, success in lines:
                if control == "attack" and success is not None:
                    trials.setdefault(tuple(place), {}).setdefault(trial, []).append(success)
    experiment = meta.get("experiment")
    goal = ((experiment if isinstance(experiment, dict) else {}).get("threat") or {}).get("goal") or {}
    graded = isinstance(goal, dict) and goal.get("name") == "degrade"
    names = meta.get("names") if isinstance(meta.get("names"), dict) else {}
    ordered = sorted(trials, key=lambda place: _order(names or {}, place))
    looked = isinstance(meta.get("sequential"), dict)
    return [_number(place, list(trials[place].values()), graded, looked) for place in ordered]


def _number(place: Sequence[Any], groups: Sequence[Sequence[float]], graded: bool, looked: bool) -> FirstNumber:
    means = [sum(each) / len(each) for each in groups]
    found = confidence_sequence(means) if looked else mean_interval(means) if graded else rate(groups)
    attack, scenario, victim, defense = place
    return FirstNumber(
        attack=str(attack),
        defense=str(defense or "none"),
        place=f"{scenario}, {victim}",
        success=found.mean,
        low=max(0.0, found.low),
        high=min(1.0, found.high),
        trials=len(groups),
        victims=sum(map(len, groups)),
        interval="sequential" if looked else None,
    )


def _order(names: Mapping[str, Any], place: Sequence[Any]) -> tuple[int, ...]:
    """Scenario, victim, attack, defense, each by its place in the experiment."""
    found = dict(zip(("attack", "scenario", "victim", "defense"), place, strict=True))
    order = []
    for part in ("scenario", "victim", "attack", "defense"):
        known = list(names.get(part) or ())
        order.append(known.index(found[part]) if found[part] in known else len(known))
    return tuple(order)
