"""What an attacker or a defender knows or takes for granted: one line of a threat-model ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Who = Literal["attacker", "defender"]

What = Literal[
    "training rows",
    "validation rows",
    "labels",
    "target",
    "victim network",
    "victim training",
    "defense",
    "poison rate",
    "poisoned rows",
    "which rows are poisoned",
    "trusted rows",
    "everything",
]
"""Of what: the rows that victims train on, those held out for the attacker, the target, the victim's network and how it
is trained, the defense it wears; how much is poisoned, what poison is taken to look like, which rows are poison; rows
that somebody vouches for."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that one side knows or assumes."""

    who: Who
    what: What
    value: str
    """What of it, in plain words."""
    oracle: bool = False
    """Whether nobody could know it outside an experiment; a number that rests on it is stamped."""
    where: str = ""
    """Where that is said: a section of the paper, a setting."""


def attacker(what: What, value: str, *, where: str = "") -> Fact:
    """Something that the attacker knows or assumes."""
    return Fact(who="attacker", what=what, value=value, where=where)


def defender(what: What, value: str, *, where: str = "", oracle: bool = False) -> Fact:
    """Something that the defender knows or assumes."""
    return Fact(who="defender", what=what, value=value, where=where, oracle=oracle)


UNDECLARED = (
    "not declared: the method does not say what it assumes",
    "its class has no 'assumes'",
)
"""Value and place of the fact that stands for a method whose author declared none."""

NO_ATTACKER_FACTS = (attacker("everything", UNDECLARED[0], where=UNDECLARED[1]),)
NO_DEFENDER_FACTS = (defender("everything", UNDECLARED[0], where=UNDECLARED[1]),)
TRUE_RATE = defender("poison rate", "the true number of poisoned rows", where="expected: true", oracle=True)
TRUE_ROWS = defender("which rows are poisoned", "all of them", oracle=True)


def assumed_rate(expected: float, *, where: str) -> Fact:
    """A share of poisoned rows that a defender takes for granted."""
    return defender("poison rate", f"assumed: {100 * expected:.3g} % of the rows", where=where)
