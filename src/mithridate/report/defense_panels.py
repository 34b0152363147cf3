"""Which figures the defenses of a run call for: safety and its price, what was removed, certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from mithridate.report import drawings
from mithridate.report.combinations import Cell
from mithridate.report.comparison import Comparison
from mithridate.report.drawings import Steps
from mithridate.report.effects import average, mean
from mithridate.report.figures import Figure
from mithridate.report.load import Run, Victim
from mithridate.report.remembering import once
from mithridate.report.tradeoff import tradeoff
from mithridate.report.treatment import Certificate, Round, ratio
from mithridate.report.words import percent, plural

_MOST_LINES = 30
"""Networks in one figure."""
_MOST_CLASSES = 14
"""Classes in one figure: those of which most was removed."""
_MOST_CERTIFICATES = 4
"""Defenses whose certificate is drawn."""


@dataclass(frozen=True, kw_only=True)
class Removals:
    """What one defense removed; None where there is nothing to draw."""

    rounds: Figure | None
    classes: Figure | None


def overview(same: Sequence[Cell], compared: Sequence[Comparison], measure: str = "Success") -> list[Figure]:
    """Figures about all defenses at once, then the certificates. ``measure`` is what the rates are of."""
    found = [tradeoff(same, measure), _found([each for each in compared if each.drops])]
    return [each for each in found if each] + _certificates(same)


def removals(name: str, run: Run, cell: Cell) -> Removals | None:
    """When and of which classes a defense removed rows from the poisoned training sets."""
    victims = [victim for victim in once(cell.poisoned) if victim.treatment.rounds][:_MOST_LINES]
    if not victims:
        return None
    return Removals(rounds=_rounds(f"{name}r", victims), classes=_classes(f"{name}c", run, victims))


def _found(dropping: Sequence[Comparison]) -> Figure | None:
    known = [
        (each.cell.defense.removesuffix(" (oracle)"), each.effect.recall, each.effect.clean_drop, each.effect.share)
        for each in dropping
        if None not in (each.effect.recall, each.effect.clean_drop, each.effect.share)
    ]
    if not known:
        return None
    names, recalls, cleans, shares = (list(column) for column in zip(*known, strict=True))
    said = [f"{n}: {percent(r)} of the poison, {percent(c, 1)} of the clean rows" for n, r, c, _ in known]
    return Figure(
        svg=drawings.found("found", names, recalls, cleans, shares, f"Dot plot of removed rows. {'; '.join(said)}"),
        title="What was removed",
        caption="Dot: share of the poison. Diamond: share of the clean rows. Tick: poison in as many random rows.",
    )


def _rounds(name: str, victims: Sequence[Victim]) -> Figure | None:
    """Only where there are several: a single round is a point of the overview."""
    poison, clean, every = (_all(victims, share) for share in (_poison_share, _clean_share, _share))
    if not poison or not clean or not every or len({epoch for line in poison for epoch in line.epochs}) < 2:
        return None
    chance, recall, lost = (drawings.mean_steps(lines) for lines in (every, poison, clean))
    last = max(recall.epochs)
    end = max([last + 1, *(len(values) for victim in victims for values in victim.curve.values())])
    label = (
        f"Line chart over the epochs, {plural(len(victims), 'network')}, last round after epoch {last}: in the end "
        f"{percent(recall.at(end))} of the poison and {percent(lost.at(end), 1)} of the clean rows are removed; "
        f"as many random rows would hold {percent(chance.at(end), 1)} of the poison"
    )
    svg = drawings.rounds(name, poison, clean, chance, end=end, label=label)
    return Figure(svg=svg, title="Round by round", caption=f"{plural(len(victims), 'network')}; the mean is bold.")


def _all(victims: Sequence[Victim], share: Callable[[Victim, Sequence[Round]], float | None]) -> list[Steps]:
    """The rising share of every network of which it is known."""
    found = []
    for victim in victims:
        ordered = sorted(victim.treatment.rounds, key=lambda each: each.epoch)
        values = [share(victim, ordered[: k + 1]) for k in range(len(ordered))]
        known = tuple(value for value in values if value is not None)
        if len(known) == len(ordered):
            found.append(Steps(epochs=tuple(each.epoch for each in ordered), shares=tuple(accumulate(known, max))))
    return found


def _poison_share(victim: Victim, done: Sequence[Round]) -> float | None:
    return ratio(sum(each.poison for each in done), victim.treatment.poison_rows)


def _clean_share(victim: Victim, done: Sequence[Round]) -> float | None:
    rows, poison = victim.treatment.training_rows, victim.treatment.poison_rows
    left = None if rows is None or poison is None else rows - poison
    return ratio(sum(each.rows - each.poison for each in done), left)


def _share(victim: Victim, done: Sequence[Round]) -> float | None:
    return ratio(sum(each.rows for each in done), victim.treatment.training_rows)


def _classes(name: str, run: Run, victims: Sequence[Victim]) -> Figure | None:
    """The classes of which most was removed, in the order of their numbers where all have room."""
    count = max(len(victim.treatment.class_rows) for victim in victims)
    shares = {label: [s for victim in victims if (s := _of_class(victim, label)) is not None] for label in range(count)}
    known = [label for label, values in shares.items() if values]
    if not known:
        return None
    shown = sorted(sorted(known, key=lambda label: -(mean(shares[label]) or 0))[:_MOST_CLASSES])
    means = [f"{run.class_name(label)} {percent(mean(shares[label]), 1)}" for label in shown]
    rest = f" The {len(shown)} classes of {len(known)} that lost most." if len(shown) < len(known) else ""
    return Figure(
        svg=drawings.classes(
            name,
            [run.class_name(label) for label in shown],
            [shares[label] for label in shown],
            label=f"Bar chart of the share of each class removed: {', '.join(means)}",
        ),
        title="Class by class",
        caption=f"Bars are means, dots single networks. Trials may poison different classes.{rest}",
    )


def _of_class(victim: Victim, label: int) -> float | None:
    rows, found = victim.treatment.class_rows, [each.by_class for each in victim.treatment.rounds]
    if label >= len(rows) or any(label >= len(counts) for counts in found):
        return None
    return ratio(sum(counts[label] for counts in found), rows[label])


def _certificates(same: Sequence[Cell]) -> list[Figure]:
    drawn: list[Figure] = []
    for cell in same:
        victims = [victim for victim in once(cell.poisoned) if victim.treatment.certificate][:_MOST_LINES]
        lines = [each for v in victims if (each := v.treatment.certificate)]
        if lines and len(drawn) < _MOST_CERTIFICATES:
            drawn.append(_certificate(f"certified{len(drawn)}", cell, lines))
    return drawn


def _certificate(name: str, cell: Cell, found: Sequence[Certificate]) -> Figure:
    mean = average(found)
    said = "; ".join(f"{percent(mean.accuracy[k])} at {radius}" for k, radius in _some(mean.radius))
    lines = [(each.radius, each.accuracy) for each in found]
    label = f"Line chart of certified accuracy over rows inserted or removed: {said}"
    radii = [target.radius for victim in cell.poisoned for target in victim.targets if target.radius is not None]
    rows = "test rows" if cell.graded else "test images"
    targets = f" Targets: {median(radii):g} rows in the middle, from {min(radii)} to {max(radii)}." if radii else ""
    return Figure(
        svg=drawings.certificates(name, lines, mean=(mean.radius, mean.accuracy), label=label),
        title=f"Certified by {cell.defense}",
        caption=f"Share of {rows} that are called right, and provably stay so whichever rows a poisoner inserts "
        f"or removes, up to that many in all; a changed image counts as two.{targets}",
    )


def _some(radius: Sequence[int]) -> list[tuple[int, int]]:
    """A few places of a series, the first and the last among them."""
    step = max(1, len(radius) // 4)
    return [(k, radius[k]) for k in sorted({*range(0, len(radius), step), len(radius) - 1})]
