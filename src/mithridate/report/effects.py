"""The effect of a defense in numbers: what it removes and what it costs, on average over poisoned trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mithridate.report.combinations import Cell
from mithridate.report.load import Victim
from mithridate.report.remembering import once, remembered
from mithridate.report.treatment import Certificate, Treatment


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Means over networks; None where it is not known."""

    dropped: float | None
    """Rows removed."""
    share: float | None
    """Of all rows, in [0, 1]."""
    recall: float | None
    """Share of the poisoned rows that were removed, in [0, 1]."""
    clean_drop: float | None
    """Share of the clean rows that were removed, in [0, 1]."""
    seconds: float | None
    """Time one network took, with all that the defense needed for it."""
    times: float | None
    """That time over the time of an undefended network."""
    facts: Mapping[str, float]
    """What the defense reports of itself."""
    described: int
    """Networks that ``facts`` are of: those whose whole row was read."""


def effect(cell: Cell, plain: Cell | None) -> Effect:
    """The effect of the defense of ``cell``; ``plain`` is the same attack without one."""
    found = remembered(cell.poisoned, "effect", lambda: _effect(cell.poisoned))
    time, usual = found.seconds, _seconds(plain) if plain else None
    return replace(found, times=time / usual if time and usual else None)


def _effect(victims: Sequence[Victim]) -> Effect:
    trained = once(victims)
    counts = Counter(id(victim.treatment) for victim in trained)  # equal ones of very many networks are one object
    few = {id(victim.treatment): victim.treatment for victim in trained}

    def over(value: Callable[[Treatment], float | None]) -> float | None:
        known = [(found, counts[place]) for place, each in few.items() if (found := value(each)) is not None]
        return sum(found * count for found, count in known) / sum(count for _, count in known) if known else None

    return Effect(
        dropped=over(lambda each: each.dropped),
        share=over(lambda each: each.share),
        recall=over(lambda each: each.recall),
        clean_drop=over(lambda each: each.clean_drop),
        seconds=mean(victim.seconds or None for victim in trained),
        times=None,
        facts=_facts([victim.treatment for victim in trained if victim.whole]),
        described=sum(victim.whole for victim in trained),
    )


def certified(cell: Cell) -> Certificate | None:
    """Certified accuracy over the radius, the mean over all networks that certify anything."""
    found = [each for victim in once(cell.poisoned) if (each := victim.treatment.certificate)]
    if not found:
        return None
    return average(found)


def average(found: Sequence[Certificate]) -> Certificate:
    """The mean of certificates, each taken as the step function it is, at every radius that one of them lists."""
    radii = sorted({radius for each in found for radius in each.radius})
    means = tuple(sum(each.at(radius) for each in found) / len(found) for radius in radii)
    return Certificate(radius=tuple(radii), accuracy=means)


def drops(cell: Cell, found: Iterable[Cell]) -> bool:
    """Whether a defense removes rows: it has done so, or has a control that removes as many."""
    groups = (cell.poisoned, cell.noise, cell.clean)
    removed = any(_removed(group) for group in groups)
    return removed or any(cell.defense in other.control_of for other in found)


def _removed(victims: Sequence[Victim]) -> bool:
    return remembered(victims, "removed", lambda: any(victim.treatment.dropped for victim in victims))


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _seconds(cell: Cell) -> float | None:
    return effect(cell, None).seconds


def _facts(treatments: Sequence[Treatment]) -> dict[str, float]:
    names = dict.fromkeys(name for each in treatments for name in each.facts)
    found = {name: mean(each.facts.get(name) for each in treatments) for name in names}
    return {name: value for name, value in found.items() if value is not None}
