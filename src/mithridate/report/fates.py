"""What became of the jobs of a run that are not done: which failed, and where in the grid, which were not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.jobqueue import Entry
from mithridate.report.load import Run
from mithridate.report.values import items, mapping, whole
from mithridate.store import Store

Place = tuple[str, str, str, str]
"""Attack, scenario, victim, defense; the last two are empty for a poison, which every victim and defense waits for."""


@dataclass(frozen=True, kw_only=True)
class Fates:
    """Jobs that gave no row."""

    failed: Mapping[Place, int]
    """Crafts and poisoned networks that failed, by their place in the grid, as far as that is known.

    So are those that were not run because one that they need failed, but for networks whose poison is counted here.
    """
    lost: int
    """Jobs that were not run, because one that they need failed."""
    unrun: int
    """Jobs that wait, or are under way."""


def fates(run: Run) -> Fates:
    """What the queue of the run folder says; nothing where it has none. Raises :class:`StoreError`."""
    with Store(run.folder) as store:
        progress = store.progress()
        ended = list(store.queue.entries(("failed", "lost")))
    crafted = {craft.key: (craft.attack, craft.scenario) for craft in run.crafts}
    poisons = {entry.key for entry in ended if entry.kind == "craft"}
    counted = [entry for entry in ended if entry.state == "failed" or not poisons & _needs(entry)]
    places = [place for entry in counted if (place := _place(run, entry, crafted))]
    return Fates(
        failed=Counter(places),
        lost=progress.total("lost"),
        unrun=progress.total("waiting", "running"),
    )


def _place(run: Run, entry: Entry, crafted: Mapping[str, tuple[str, str]]) -> Place | None:
    """Where in the grid a job belongs; None for controls, and where the names are not known."""
    if entry.kind not in ("craft", "attack"):
        return None
    job = mapping(entry.job)
    poison = next((crafted[key] for key in map(str, items(job.get("needs"))) if key in crafted), None)
    if poison is None:
        attack = _attack(run, whole(job.get("attack")) or 0, whole(job.get("crew")) or 0)
        scenario = _name(run.grid.names.get("scenario", ()), job.get("scenario"))
        if attack is None or scenario is None:
            return None
        poison = (attack, scenario)
    if entry.kind == "craft":
        return (*poison, "", "")
    victim, defense = (_name(run.grid.names.get(part, ()), job.get(part)) for part in ("victim", "defense"))
    return (*poison, victim, defense) if victim is not None and defense is not None else None


def _needs(entry: Entry) -> set[str]:
    """The keys of the jobs that a job needs."""
    return set(map(str, items(mapping(entry.job).get("needs"))))


def attackers(run: Run) -> list[list[str]]:
    """What tables call each attack, with each of its crews; one that trains no surrogate has one crew."""
    crews = list(mapping(run.experiment.get("crews")))
    groups: dict[str, list[str]] = {}
    for name in run.grid.names.get("attack", ()):
        ends = [f" (crew {each})" for each in crews if name.endswith(f" (crew {each})")] if len(crews) > 1 else []
        groups.setdefault(name.removesuffix(ends[0]) if ends else name, []).append(name)
    return list(groups.values())


def _attack(run: Run, number: int, crew: int) -> str | None:
    """What tables call an attack with a crew, by their numbers."""
    groups = attackers(run)
    return _name(groups[number], crew) if 0 <= number < len(groups) else None


def _name(names: Sequence[str], number: Any) -> str | None:
    place = whole(number) or 0
    return names[place] if 0 <= place < len(names) else None
