"""Everything that the page shows of attacks that degrade, and of no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report import confusions, error_curves, moved, transfer
from mithridate.report.boundaries import Boundary
from mithridate.report.combinations import Cell, peak_memory, planned, seconds
from mithridate.report.confusions import Confusions
from mithridate.report.degrading import Degradation
from mithridate.report.error_curves import Curves
from mithridate.report.error_drawings import plane
from mithridate.report.figures import Figure
from mithridate.report.load import Run, Victim
from mithridate.report.means import average, gap
from mithridate.report.moved import Moved
from mithridate.report.transfer import Transfer
from mithridate.report.words import plural
from mithridate.stats import Difference, Estimate

_MOST_PLANES = 4
"""Victims whose classes are drawn over a plane."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One combination in the table of all; estimates are None where nothing was run."""

    cell: Cell
    rate: Estimate | None
    base: Estimate | None
    """On clean data, with the same defense."""
    noise: Estimate | None
    rise: Difference | None
    """Over clean data, paired by trial."""
    error: Estimate | None
    """Error-specific: over the whole test set."""
    planned: int | None
    seconds: float
    peak_memory: int | None


@dataclass(frozen=True, kw_only=True)
class Planes:
    """What one victim calls every place of a plane, trained on clean and on poisoned data."""

    victim: str
    trial: int
    clean: Figure | None
    poisoned: Figure


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """The panels; figures and words are about the combination of the verdict unless they say otherwise."""

    curves: Curves | None
    transfers: tuple[Transfer, ...]
    rows: tuple[Row, ...]
    noise: bool
    """Whether noise controls were run."""
    confusions: Confusions | None
    planes: tuple[Planes, ...]
    moved: tuple[Moved, ...]


def degraded(run: Run, found: Sequence[Cell], cell: Cell, goal: Degradation) -> Degraded:
    """The panels around the combination ``cell`` of the verdict."""
    return Degraded(
        curves=error_curves.error_curves(found, cell, goal),
        transfers=tuple(transfer.transfers(run, found, cell)),
        rows=tuple(_row(run, each, goal) for each in found),
        noise=any(each.noise for each in found),
        confusions=confusions.confusions(run, cell, goal),
        planes=tuple(_planes(run, found, cell)),
        moved=tuple(moved.moved(run, found, cell)),
    )


def _row(run: Run, cell: Cell, goal: Degradation) -> Row:
    return Row(
        cell=cell,
        rate=average(cell.poisoned),
        base=average(cell.clean),
        noise=average(cell.noise),
        rise=gap(cell.poisoned, cell.clean),
        error=average(cell.poisoned, lambda victim: victim.error) if goal.confusion else None,
        planned=planned(run, cell),
        seconds=seconds(cell),
        peak_memory=peak_memory(cell),
    )


def _planes(run: Run, found: Sequence[Cell], cell: Cell) -> list[Planes]:
    """The first drawn trial of each victim of the attack, that of the verdict first."""
    place = (cell.attack, cell.scenario, cell.defense)
    same = [each for each in found if (each.attack, each.scenario, each.defense) == place]
    drawn: list[Planes] = []
    for each in sorted(same, key=lambda other: other.victim != cell.victim):
        poisoned = next((victim for victim in each.poisoned if victim.boundary), None)
        if poisoned is None or poisoned.boundary is None or len(drawn) >= _MOST_PLANES:
            continue
        clean = next((victim for victim in each.clean if victim.boundary and victim.trial == poisoned.trial), None)
        k = len(drawn)
        drawn.append(
            Planes(
                victim=each.victim,
                trial=poisoned.trial,
                clean=_plane(f"b{k}a", run, clean, clean.boundary) if clean and clean.boundary else None,
                poisoned=_plane(f"b{k}b", run, poisoned, poisoned.boundary),
            )
        )
    return drawn


def _plane(name: str, run: Run, victim: Victim, found: Boundary) -> Figure:
    title = "Trained on clean data" if victim.control == "clean" else "Trained with poison"
    poison = sum(spot.poison for spot in found.spots)
    count = 1 + max([k for row in found.classes for k in row] + [spot.label for spot in found.spots])
    names = [run.class_name(k) for k in range(count)]
    rows = f"{plural(len(found.spots), 'row')}, {poison} of them poison"
    svg = plane(name, found, names, label=f"Classes over a plane, {victim.victim}, {title.lower()}: {rows}")
    return Figure(svg=svg, title=title)
