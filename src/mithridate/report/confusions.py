"""Which class is called which, on clean data and under poison: mean counts over victims as shares of the true class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.combinations import Cell
from mithridate.report.degrading import Degradation
from mithridate.report.load import Control, Run, Victim
from mithridate.report.words import fine, plural, quoted

Matrix = tuple[tuple[float, ...], ...]
_MOST = 3
"""Confusions named in words."""
_LEAST = 0.005
"""The least rise of a confusion that is named, as a share of its true class."""
_DARKEST = 48
"""Colour of a full class, in % of the full one."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One true class and what it was called."""

    text: str
    """The share in %, whole; empty where it rounds to 0."""
    title: str
    right: bool
    wished: bool
    """Whether it is what an error-specific attack wants."""
    shade: float
    """How dark it is, in % of the full colour."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One confusion matrix for the page: rows are true classes, columns what they were called."""

    control: Control
    title: str
    rows: tuple[tuple[str, tuple[Place, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """What was mistaken for what, clean against poisoned; no grid where nothing was kept."""

    grids: tuple[Grid, ...]
    names: tuple[str, ...]
    risen: tuple[str, ...]
    """The confusions that rose most, in words."""


def confusions(run: Run, cell: Cell, goal: Degradation) -> Confusions | None:
    """The matrices of the clean and the poisoned victims of one combination; None where no poisoned one was kept."""
    clean, poisoned = _mean(cell.clean), _mean(cell.poisoned)
    if not poisoned:
        return None
    if len(clean) != len(poisoned):
        clean = ()
    names = tuple(run.class_name(k) for k in range(len(poisoned)))
    sides: list[tuple[Control, str, Matrix, Sequence[Victim]]] = [
        ("clean", "Trained on clean data", clean, cell.clean),
        ("attack", f"Trained with poison by {cell.attack}", poisoned, cell.poisoned),
    ]
    return Confusions(
        grids=tuple(
            Grid(control=control, title=f"{title}, {_sample(victims)}", rows=_rows(names, counts, goal))
            for control, title, counts, victims in sides
            if counts
        ),
        names=names,
        risen=_risen(names, clean, poisoned),
    )


def _mean(victims: Sequence[Victim]) -> Matrix:
    """Mean counts, each training once; empty where none were kept or they differ in size."""
    kept = list({victim.training: victim.confusion for victim in victims if victim.confusion}.values())
    if not kept or len({len(each) for each in kept}) > 1:
        return ()
    size = range(len(kept[0]))
    return tuple(tuple(sum(each[i][j] for each in kept) / len(kept) for j in size) for i in size)


def _sample(victims: Sequence[Victim]) -> str:
    return f"mean of {plural(len({victim.training for victim in victims if victim.confusion}), 'victim')}"


def _rows(names: Sequence[str], counts: Matrix, goal: Degradation) -> tuple[tuple[str, tuple[Place, ...]], ...]:
    return tuple(
        (name, tuple(_place(names, counts, i, j, goal) for j in range(len(names)))) for i, name in enumerate(names)
    )


def _place(names: Sequence[str], counts: Matrix, i: int, j: int, goal: Degradation) -> Place:
    total, share = sum(counts[i]), _share(counts, i, j)
    what = f"{quoted(names[i])} called {quoted(names[j])}"
    return Place(
        text=f"{100 * share:.0f}" if 100 * share >= 0.5 else "",
        title=f"{what}: {fine(share)}, {counts[i][j]:.4g} of {total:.4g} rows",
        right=i == j,
        wished=(i, j) == (goal.source, goal.intended),
        shade=_DARKEST * share**0.6,  # so that small confusions are seen beside whole classes
    )


def _share(counts: Matrix, i: int, j: int) -> float:
    total = sum(counts[i])
    return counts[i][j] / total if total else 0.0


def _risen(names: Sequence[str], clean: Matrix, poisoned: Matrix) -> tuple[str, ...]:
    """The confusions whose share of the true class rose most."""
    if not clean:
        return ()
    size = range(len(names))
    rises = [(_share(poisoned, i, j) - _share(clean, i, j), i, j) for i in size for j in size if i != j]
    return tuple(
        f"{quoted(names[i])} called {quoted(names[j])}, {fine(_share(clean, i, j))} to {fine(_share(poisoned, i, j))}"
        for rise, i, j in sorted(rises, key=lambda each: -each[0])[:_MOST]
        if rise >= _LEAST
    )
