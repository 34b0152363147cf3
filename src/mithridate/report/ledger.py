"""Who knew what: the threat-model ledger of a run, and its lines for the page, each fact once with where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ATTACKER, _STACK = ("attack", "scenario", "victim"), ("defense",)
_SPLITS = ("attack", "victim", "scenario")
"""Axes in the order in which places are split into blocks: most facts depend on attack and victim."""
_ALL = "every cell"
_MOST = 6
"""Names of an axis told in a line; of more, the first and how many others."""


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


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The facts of every cell: those of its attacker and those of its stack. Empty for older runs."""

    attackers: Mapping[tuple[str, ...], tuple[Fact, ...]] = field(default_factory=dict)
    """By the names of attack, scenario and victim."""
    stacks: Mapping[tuple[str, ...], tuple[Fact, ...]] = field(default_factory=dict)
    """By the name of the stack of defenses."""

    def of(self, attack: str, scenario: str, victim: str, defense: str) -> tuple[Fact, ...]:
        """Who knew and assumed what in a cell."""
        return (*self.attackers.get((attack, scenario, victim), ()), *self.stacks.get((defense,), ()))


def ledger(told: Any) -> Ledger:
    """What a run noted; empty for older runs, and for what is no ledger."""
    if not isinstance(told, Mapping):
        return Ledger()
    try:
        facts = [_fact(each) for each in told["facts"]]
        attackers, stacks = (
            {
                tuple(str(each[name]) for name in names): tuple(facts[number] for number in each["facts"])
                for each in told[part]
            }
            for part, names in (("attackers", _ATTACKER), ("stacks", _STACK))
        )
    except (KeyError, TypeError, IndexError):
        return Ledger()
    return Ledger(attackers=attackers, stacks=stacks)


def lines(found: Ledger) -> list[Line]:
    """Each fact once, oracles first, then the attacker's, then the defender's, what holds for most first.

    One that holds for no block of cells has a line for each attack, or each attack and victim.
    """
    told = [*_held(found.attackers, _ATTACKER), *_held(found.stacks, _STACK)]
    told.sort(key=lambda each: (not each[0].fact.oracle, each[0].fact.who, each[1]))
    return [line for line, _ in told]


def _held(found: Mapping[tuple[str, ...], tuple[Fact, ...]], axes: Sequence[str]) -> list[tuple[Line, float]]:
    """A line for each fact and block of places, and minus the share of the places that the fact holds for."""
    places: dict[Fact, list[tuple[str, ...]]] = {}
    for place, facts in found.items():
        for fact in dict.fromkeys(facts):
            places.setdefault(fact, []).append(place)
    whole = {axis: len({place[k] for place in found}) for k, axis in enumerate(axes)}
    return [
        (Line(fact=fact, holds=_words(block, whole)), -len(held) / len(found))
        for fact, held in places.items()
        for block in _blocks([dict(zip(axes, place, strict=True)) for place in held], _SPLITS)
    ]


def _blocks(places: Sequence[Mapping[str, str]], splits: Sequence[str]) -> list[dict[str, list[str]]]:
    """Places as blocks (names on each axis, all combined): one if they are one, else those of each part by an axis."""
    names = {axis: list(dict.fromkeys(place[axis] for place in places)) for axis in places[0]}
    if math.prod(map(len, names.values())) == len(places) or not splits:
        return [names]
    first, *rest = splits
    parts = [[place for place in places if place[first] == name] for name in names[first]]
    return [block for part in parts for block in _blocks(part, rest)]


def _words(names: Mapping[str, Sequence[str]], whole: Mapping[str, int]) -> str:
    told = []
    for axis, here in names.items():
        if len(here) < whole[axis]:
            rest = f" and {len(here) - _MOST} more" * (len(here) > _MOST)
            told.append(f"{axis}{'s' * (len(here) > 1)} {', '.join(here[:_MOST])}{rest}")
    return "; ".join(told) or _ALL


def _fact(each: Mapping[str, Any]) -> Fact:
    texts = {name: str(each[name]) for name in ("who", "what", "value", "where")}
    return Fact(**texts, oracle=bool(each["oracle"]))
