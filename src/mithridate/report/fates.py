"""What became of the jobs of a run that are not done: which failed, and where in the grid, which were lost or wait."""

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
    """Crafts and poisoned networks that failed or were lost, by their place in the grid, as far as that is known."""
    lost: int
    """Jobs whose worker was lost."""
    unrun: int
    """Jobs that wait, or are under way."""


def fates(run: Run) -> Fates:
    """What the queue of the run folder says; nothing where it has none. Raises :class:`StoreError`."""
    with Store(run.folder) as store:
        progress = store.progress()
        ended = list(store.queue.entries(("failed", "lost")))
    crafted = {craft.key: (craft.attack, craft.scenario) for craft in run.crafts}
    places = [place for entry in ended if (place := _place(run, entry, crafted))]
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
        several = len(mapping(run.experiment.get("crews"))) > 1
        attack = None if several else _name(run.grid.names.get("attack", ()), job.get("attack"))
        scenario = _name(run.grid.names.get("scenario", ()), job.get("scenario"))
        if attack is None or scenario is None:
            return None
        poison = (attack, scenario)
    if entry.kind == "craft":
        return (*poison, "", "")
    victim, defense = (_name(run.grid.names.get(part, ()), job.get(part)) for part in ("victim", "defense"))
    return (*poison, victim, defense) if victim is not None and defense is not None else None


def _name(names: Sequence[str], number: Any) -> str | None:
    place = whole(number) or 0
    return names[place] if 0 <= place < len(names) else None
