"""Who knew what: the threat-model ledger of a run, and its lines for the page, each fact once with where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AXES = ("attack", "scenario", "victim", "defense")
_ALL = "every cell"
_MOST = 6
"""Names of an axis told in a line; of more, the first and how many others."""

Place = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that the attacker or the defender knew or assumed."""

    who: str
    what: str
    value: str
    oracle: bool
    """Whether nobody could know it outside an experiment."""
    where: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A fact, and the cells it holds for."""

    fact: Fact
    holds: str
    """In words: ``every cell``, or the attacks, scenarios, victims and defenses meant."""


Ledger = Mapping[Place, tuple[Fact, ...]]
"""The facts of every cell, by the names of its attack, scenario, victim and defense."""


def ledger(told: Any) -> Ledger:
    """What a run noted; empty for older runs, and for what is no ledger."""
    if not isinstance(told, Mapping):
        return {}
    try:
        facts = [_fact(each) for each in told["facts"]]
        return {_place(cell): tuple(facts[number] for number in cell["facts"]) for cell in told["cells"]}
    except (KeyError, TypeError, IndexError):
        return {}


def lines(found: Ledger) -> list[Line]:
    """Each fact once, oracles first, then the attacker's, then the defender's, what holds for most cells first.

    One that holds for no block of cells has a line for each attack, or each attack and victim.
    """
    places: dict[Fact, list[Place]] = {}
    for place, facts in found.items():
        for fact in dict.fromkeys(facts):
            places.setdefault(fact, []).append(place)
    order = sorted(places, key=lambda fact: (not fact.oracle, fact.who, -len(places[fact])))
    return [Line(fact=fact, holds=text) for fact in order for text in _blocks(places[fact], list(found))]


def _blocks(places: Sequence[Place], every: Sequence[Place], split: int = 0) -> list[str]:
    """Where a fact holds, in as few blocks (names of each axis, all combined) as splitting by axis finds."""
    names = [list(dict.fromkeys(place[k] for place in places)) for k in range(len(AXES))]
    if math.prod(map(len, names)) == len(set(places)) or split == len(AXES):
        return [_words(names, every)]
    axis = _SPLITS[split]
    parts = [[place for place in places if place[axis] == name] for name in names[axis]]
    return [text for part in parts for text in _blocks(part, every, split + 1)]


_SPLITS = (0, 2, 3, 1)
"""Axes in the order in which blocks are split: most facts depend on attack and victim."""


def _words(names: Sequence[Sequence[str]], every: Sequence[Place]) -> str:
    told = []
    for k, axis in enumerate(AXES):
        if len(names[k]) < len({place[k] for place in every}):
            few, rest = names[k][:_MOST], len(names[k]) - _MOST
            told.append(
                f"{axis}{'s' if len(names[k]) > 1 else ''} {', '.join(few)}" + (f" and {rest} more" * (rest > 0))
            )
    return "; ".join(told) or _ALL


def _fact(each: Mapping[str, Any]) -> Fact:
    texts = {name: str(each[name]) for name in ("who", "what", "value", "where")}
    return Fact(**texts, oracle=bool(each["oracle"]))


def _place(cell: Mapping[str, Any]) -> Place:
    return (str(cell["attack"]), str(cell["scenario"]), str(cell["victim"]), str(cell["defense"]))
