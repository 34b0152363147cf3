"""Our numbers beside the published ones: a line for each, with the side on which our interval lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.beside import Beside, Ours, beside, sources
from mithridate.report.combinations import Cell, success
from mithridate.report.load import Run
from mithridate.report.origins import Published
from mithridate.stats import Estimate


@dataclass(frozen=True, kw_only=True)
class Line:
    """One published number and ours."""

    attack: str
    victim: str
    rate: float
    """Published, in [0, 1]."""
    trials: int | None
    source: str
    note: int
    """Number of the source in the footnotes."""
    estimate: Estimate | None
    """Ours; None where it was not run."""
    ours: Ours


def publications(run: Run, found: Sequence[Cell]) -> list[Line]:
    """Every published number that a run names, in its order, those that nothing of ours answers too."""
    own = [(cell, each) for cell in found for each in beside(run, cell)]
    notes = sources(run)
    lines = []
    for each in run.published:
        cell, ours = next(
            ((cell, b) for cell, b in own if (cell.attack, cell.victim) == (each.attack, each.victim) and _is(b, each)),
            (None, None),
        )
        lines.append(
            Line(
                attack=each.attack,
                victim=each.victim,
                rate=each.rate,
                trials=each.trials,
                source=each.source,
                note=notes.index(each.source) + 1,
                estimate=success(cell.poisoned) if cell else None,
                ours=ours.ours if ours else "not run",
            )
        )
    return lines


def _is(found: Beside, published: Published) -> bool:
    """Whether a number beside a row of ours is this published one."""
    return (found.rate, found.trials, found.source) == (published.rate, published.trials, published.source)
