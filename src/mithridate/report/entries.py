"""The grid of a campaign as boards: attacks in lines, defenses in columns, in every place what the poisoner got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mithridate.report.before_gate import is_told
from mithridate.report.combinations import Cell, accuracy, planned, success
from mithridate.report.comparison import Worth, comparisons
from mithridate.report.defenses import short
from mithridate.report.fates import Place
from mithridate.report.load import Run
from mithridate.report.means import gap
from mithridate.report.remembering import successes
from mithridate.report.verdict import Standing, standing
from mithridate.stats import Difference, Estimate


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One place of a board; estimates are None where nothing was run."""

    defense: str
    success: Estimate | None
    rise: Difference | None
    """Over clean data, where success is a mean share of test rows; None elsewhere."""
    accuracy: Estimate | None
    """Clean accuracy with the poison in."""
    by_trial: Mapping[int, float]
    """Share of the networks hit, for each trial that was judged."""
    planned: int | None
    """Poisoned networks that the experiment plans, where some are left."""
    failed: int
    """Jobs that failed, those that craft its poison among them."""
    worth: Worth | None
    """What the defense is worth; None for no defense, for controls, and where nothing was run."""
    oracle: bool


@dataclass(frozen=True, kw_only=True)
class Column:
    """One stack of defenses."""

    defense: str
    name: str
    """Short: a control stands after its defense, and an oracle is stamped."""
    control_of: tuple[str, ...]
    oracle: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """One attack."""

    attack: str
    standing: Standing | None
    """Whether it landed without a defense; None where it was not run without one."""
    entries: tuple[Entry, ...]
    """One for each column."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All attacks and defenses in one scenario on one victim."""

    scenario: str
    victim: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    trials: tuple[int, ...] = field(default=())
    """The trials that were judged in one place at least, ascending."""


def is_grid(found: Sequence[Cell]) -> bool:
    """Whether a run has at least two attacks, or two defenses that are no controls."""
    attacks = {cell.attack for cell in found}
    asked = {cell.defense for cell in found if cell.defense != "none" and not cell.control_of}
    return len(attacks) > 1 or len(asked) > 1


def boards(
    run: Run, found: Sequence[Cell], cell: Cell | None, failed: Mapping[Place, int] | None = None
) -> list[Board]:
    """One board for each scenario and victim, that of ``cell`` first. ``failed`` counts failed jobs by place."""
    places = list(dict.fromkeys((each.scenario, each.victim) for each in found))
    if cell is not None:
        places.sort(key=lambda place: place != (cell.scenario, cell.victim))
    groups: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for each in found:
        groups.setdefault((each.scenario, each.victim), {}).setdefault(each.attack, []).append(each)
    return [_board(run, place, groups[place], Counter(failed or {})) for place in places]


def _board(run: Run, place: tuple[str, str], by_attack: Mapping[str, list[Cell]], failed: Mapping[Place, int]) -> Board:
    columns = _columns(run, [cell for group in by_attack.values() for cell in group])
    lines = tuple(_line(run, attack, group, columns, failed) for attack, group in by_attack.items())
    trials = sorted({trial for line in lines for entry in line.entries for trial in entry.by_trial})
    return Board(scenario=place[0], victim=place[1], columns=columns, lines=lines, trials=tuple(trials))


def _columns(run: Run, cells: Sequence[Cell]) -> tuple[Column, ...]:
    """Every defense once, in the order of the tables."""
    own: dict[str, list[Cell]] = {}
    for cell in cells:
        own.setdefault(cell.defense, []).append(cell)
    return tuple(
        Column(
            defense=name,
            name=short(found[0])[0],
            control_of=found[0].control_of,
            oracle=all(is_told(run, cell) for cell in found),  # else an attack is the oracle
        )
        for name, found in own.items()
    )


def _line(run: Run, attack: str, group: Sequence[Cell], columns: Sequence[Column], failed: Mapping[Place, int]) -> Line:
    own = {cell.defense: cell for cell in group}
    plain = own.get("none")
    worth = {each.cell.defense: each.worth for each in comparisons(group, group[0])}
    return Line(
        attack=attack,
        standing=standing(plain) if plain is not None and plain.poisoned else None,
        entries=tuple(_entry(run, own[each.defense], worth.get(each.defense), failed) for each in columns),
    )


def _entry(run: Run, cell: Cell, worth: Worth | None, failed: Mapping[Place, int]) -> Entry:
    return Entry(
        defense=cell.defense,
        success=success(cell.poisoned),
        rise=gap(cell.poisoned, cell.clean) if cell.graded and cell.poisoned else None,
        accuracy=accuracy(cell.poisoned),
        by_trial={trial: sum(values) / len(values) for trial, values in successes(cell.poisoned).items()},
        planned=planned(run, cell),
        failed=sum(
            failed.get((cell.attack, cell.scenario, *which), 0) for which in (("", ""), (cell.victim, cell.defense))
        ),
        worth=worth,
        oracle=cell.oracle,
    )
