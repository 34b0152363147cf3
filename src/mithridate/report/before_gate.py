"""Which cells of a run stand before its gate."""

from __future__ import annotations

from collections.abc import Sequence

from mithridate.errors import ConfigError
from mithridate.report.combinations import Cell
from mithridate.report.degrading import baseline
from mithridate.report.load import Run


def before_gate(run: Run, every: Sequence[Cell], attack: str | None, defense: str | None) -> list[Cell]:
    """The defended cells, or the undefended ones where there is no defense; ``attack`` and ``defense`` choose by name.

    Controls, attacks that are mere baselines, and defenses that use what no defender can know are among them only where
    they are named. An attack that was told what no attacker can know always is, since it hits the more.

    Raises :class:`ConfigError` where there is none: a gate over nothing would pass.
    """
    if not every:
        raise ConfigError("this run holds no result yet; run it first")
    for what, name in (("attack", attack), ("defense", defense)):
        there = list(dict.fromkeys(getattr(each, what) for each in every))
        if name is not None and name not in there:
            raise ConfigError(f"there is no {what} '{name}' in this run; there are: {', '.join(there)}")
    fitting = [each for each in every if attack in (None, each.attack)]
    if defense is not None:
        return [each for each in fitting if each.defense == defense]
    ordinary = [each for each in fitting if not each.control_of and not is_told(run, each)]
    if not ordinary:
        named = ", ".join(dict.fromkeys(each.defense for each in fitting))
        raise ConfigError(
            f"no ordinary defense was run that could stand before the gate; name one with --defense: {named}"
        )
    own = [each for each in ordinary if attack is not None or not baseline(each.attack)]
    ordinary = own or ordinary
    return [each for each in ordinary if each.defense != "none"] or ordinary


def is_told(run: Run, cell: Cell) -> bool:
    """Whether its defense uses what no defender can know. Older runs tell oracles of attack and defense not apart."""
    if cell.defense == "none" or not cell.oracle:
        return False
    facts = run.ledger.stacks.get((cell.defense,))
    return facts is None or "(oracle)" in cell.defense or any(fact.oracle for fact in facts)
