"""The defenses of a run for the page: a table for each attack, what each defense is worth, figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report import appraisal, defense_panels, dropped
from mithridate.report.beside import Beside, beside
from mithridate.report.combinations import Cell, accuracy, planned, same_attack, success
from mithridate.report.comparison import Comparison, comparisons
from mithridate.report.defense_panels import Removals
from mithridate.report.dropped import Wall
from mithridate.report.effects import Effect, drops, effect
from mithridate.report.figures import Figure
from mithridate.report.load import Run
from mithridate.stats import Estimate

_MOST = 12
"""Tables on the page; a run may vary its threat model in many ways."""
_BRIEF = 6
"""Defenses named in the verdict; the others stand in their own section."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One defense in the table; estimates are None where nothing was run."""

    cell: Cell
    name: str
    """Short, because a control stands under its defense, and an oracle is stamped."""
    control: bool
    oracle: bool
    drops: bool
    success: Estimate | None
    planned: int | None
    """Poisoned networks that the experiment plans, where some are left."""
    published: tuple[Beside, ...]
    base: Estimate | None
    accuracy: Estimate | None
    effect: Effect


@dataclass(frozen=True, kw_only=True)
class Table:
    """All defenses that met one attack in one scenario with one victim."""

    attack: str
    scenario: str
    victim: str
    box: str | None
    """What the attacker knows of the victim, where that was recorded."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Account:
    """What one defense is worth, in words."""

    name: str
    oracle: bool
    good: bool
    """Whether something is to its credit that a defender could have."""
    headline: str
    sentences: tuple[str, ...]
    others: tuple[str, ...]
    """What it is compared with."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one defense removed, drawn and shown."""

    name: str
    removals: Removals | None
    wall: Wall | None


@dataclass(frozen=True, kw_only=True)
class Defenses:
    """Everything that the page says about defenses; figures and words are about the combination of the verdict."""

    tables: tuple[Table, ...]
    left_out: int
    """Tables without a place on the page."""
    accounts: tuple[Account, ...]
    brief: int
    """How many of the accounts the verdict names."""
    figures: tuple[Figure, ...]
    evidence: tuple[Evidence, ...]


def defenses(run: Run, found: Sequence[Cell], cell: Cell | None) -> Defenses | None:
    """What the page says about defenses; None in a run that knows no defense."""
    if all(each.defense == "none" for each in found):
        return None
    first = [cell] if cell and run.degradation else []  # elsewhere the verdict's table is the first anyhow
    groups = {(each.attack, each.scenario, each.victim): same_attack(found, each) for each in [*first, *found]}
    kept = [_table(run, place, group) for place, group in list(groups.items())[:_MOST]]
    compared = comparisons(found, cell) if cell else []
    same = same_attack(found, cell) if cell else []
    measure = run.degradation.heading if run.degradation else "Success"
    return Defenses(
        tables=tuple(kept),
        left_out=len(groups) - len(kept),
        accounts=tuple(_account(each, measure) for each in compared),
        brief=_BRIEF,
        figures=tuple(defense_panels.overview(same, compared, measure)),
        evidence=_evidence(run, compared),
    )


def short(cell: Cell) -> tuple[str, bool]:
    """The name of a defense without its stamp, a control's without the defense that it stands under; the stamp."""
    name = cell.defense
    if len(cell.control_of) == 1:
        name = name.partition(" (like ")[0]
    single = name.removesuffix(" (oracle)")
    return (single if "(oracle)" not in single else name), cell.oracle


def _table(run: Run, place: tuple[str, str, str], group: Sequence[Cell]) -> Table:
    plain = next((each for each in group if each.defense == "none" and each.poisoned), None)
    rows = tuple(_row(run, each, plain, drops(each, group)) for each in group)
    box = next((each.box for each in group if each.box), None)
    return Table(attack=place[0], scenario=place[1], victim=place[2], box=box, rows=rows)


def _row(run: Run, cell: Cell, plain: Cell | None, dropping: bool) -> Row:
    name, oracle = short(cell)
    return Row(
        cell=cell,
        name=name,
        control=bool(cell.control_of),
        oracle=oracle,
        drops=dropping,
        success=success(cell.poisoned),
        planned=planned(run, cell),
        published=tuple(beside(run, cell)),
        base=success(cell.clean),
        accuracy=accuracy(cell.poisoned),
        effect=effect(cell, plain),
    )


def _account(comparison: Comparison, measure: str) -> Account:
    name, oracle = short(comparison.cell)
    return Account(
        name=name,
        oracle=oracle,
        good=comparison.good and not oracle,
        headline=appraisal.headline(comparison, measure),
        sentences=tuple(appraisal.sentences(comparison, measure)),
        others=tuple(appraisal.others(comparison)),
    )


def _evidence(run: Run, compared: Sequence[Comparison]) -> tuple[Evidence, ...]:
    """Figures and pictures of every defense that drops rows."""
    dropping = [each.cell for each in compared if each.drops]
    walls = dropped.walls(run, dropping)
    found = [
        Evidence(name=cell.defense, removals=defense_panels.removals(f"d{k}", run, cell), wall=wall)
        for k, (cell, wall) in enumerate(zip(dropping, walls, strict=True))
    ]
    return tuple(each for each in found if each.removals or each.wall)
