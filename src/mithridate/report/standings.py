"""The numbers of a run as a leaderboard needs them: each with its sample, price, stamps and where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mithridate.report.combinations import Cell
from mithridate.report.fates import attackers
from mithridate.report.load import Run
from mithridate.report.protocols import Protocol, protocol
from mithridate.report.stopped import notice, stopped
from mithridate.report.values import items, mapping
from mithridate.report.verdict import Standing, standing
from mithridate.store import Store

WORTH = {
    "beyond": "credited: clearly below no defense and its controls",
    "lower": "credited: clearly below no defense",
    "dropping": "not clearly below its controls: it may be the dropping alone",
    "unequal": "a control dropped another number of rows",
    "uncontrolled": "its controls were not run: it may be the dropping alone",
    "none": "not clearly below no defense",
    "worse": "clearly above no defense",
    "unlanded": "no credit: without a defense the attack did not clearly land",
    "missing": "nothing to compare with",
}
"""What a defense is worth, in a few words."""
STANDINGS: dict[Standing, str] = {
    "landed": "landed: clearly above its controls",
    "unclear": "may have landed: the intervals overlap",
    "missed": "did not land",
    "uncontrolled": "no clean network to compare with",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One number of one run."""

    protocol: Protocol
    attack: str
    attack_settings: str
    """As JSON."""
    defense: str
    defense_settings: str
    """Of its stack, as JSON; ``null`` where the run does not tell, and for controls."""
    mean: float
    """Success in [0, 1], or the mean error where ``graded``."""
    low: float
    high: float
    trials: int
    victims: int
    graded: bool
    accuracy: float | None
    """On clean test data, with the poison in; in [0, 1]."""
    seconds: float | None
    """A network."""
    times: float | None
    """That over an undefended network."""
    oracle: bool
    worth: str
    """What it is worth, in words."""
    credited: bool
    ranked: bool
    """Whether it may have a place: an oracle may not, nor a defense where the attack did not land."""
    box: str | None
    knows: tuple[str, ...]
    """Who knew what, where the run says it."""
    run: str
    title: str
    date: str
    version: str
    unfinished: bool
    stopped: str = ""
    """Why the run has no more trials, where it stopped on purpose; such a one is not unfinished."""


def facts(run: Run, label: str, found: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Every row of the summary of a run that is no control.

    ``label`` is what the run is called, ``found`` are its combinations and ``rows`` those of its summary.
    """
    stood = {
        (cell.attack, cell.scenario, cell.victim): standing(cell)
        for cell in found
        if cell.defense == "none" and cell.poisoned
    }
    protocols: dict[tuple[str, str], Protocol] = {}
    digest, date, unfinished = *_of_store(run), is_unfinished(run)
    made = []
    for row in rows:
        where = (row["scenario"], row["victim"])
        if row["control_of"]:
            continue
        if where not in protocols:
            protocols[where] = protocol(run, label, digest=digest, scenario=where[0], victim=where[1])
        landed = stood.get((row["attack"], *where))
        made.append(_fact(run, row, protocols[where], landed, date, unfinished))
    return made


def is_unfinished(run: Run) -> bool:
    """Whether planned jobs are not done; those that a run which stopped on purpose does without are not missing."""
    return run.planned is not None and run.done < run.planned and not stopped(run)


def _fact(
    run: Run, row: Mapping[str, Any], under: Protocol, landed: Standing | None, date: str, unfinished: bool
) -> Fact:
    plain, worth = row["defense"] == "none", mapping(row["comparison"]).get("worth")
    success = row["success"]
    said = STANDINGS[landed] if plain and landed else WORTH.get(str(worth), "")
    return Fact(
        protocol=under,
        attack=row["attack"],
        attack_settings=attack_settings(run, row["attack"]),
        defense=row["defense"],
        defense_settings=defense_settings(run, row["defense"]),
        mean=success["mean"],
        low=success["low"],
        high=success["high"],
        trials=row["trials"],
        victims=row["victims"],
        graded=run.degradation is not None,
        accuracy=(row["clean_accuracy"] or {}).get("mean"),
        seconds=row["seconds_per_victim"],
        times=None if plain else row["times_undefended"],
        oracle=bool(row["oracle"]),
        worth=said,
        credited=worth in ("beyond", "lower") and not row["oracle"],
        ranked=not row["oracle"] and (plain or landed == "landed"),
        box=row["box"],
        knows=_knows(row.get("ledger")),
        run=under.run,
        title=run.title,
        date=date,
        version=str(run.environment.get("mithridate") or "unknown"),
        unfinished=unfinished,
        stopped=notice(run),
    )


def attack_settings(run: Run, name: str) -> str:
    """The settings of an attack by its name; those of none where the run does not tell."""
    settings, groups = items(run.experiment.get("attacks")), attackers(run)
    if len(settings) == len(groups):
        return json.dumps([each for each, names in zip(settings, groups, strict=True) if name in names], sort_keys=True)
    bare = name.partition(" (crew")[0]
    own = [each for each in map(mapping, settings) if each.get("name") == bare]
    return json.dumps(own, sort_keys=True)


def defense_settings(run: Run, name: str) -> str:
    """The settings of a stack by its name; controls come after those that the experiment asks for."""
    asked = dict(zip(run.grid.names.get("defense", ()), items(run.experiment.get("defenses")), strict=False))
    return json.dumps(asked.get(name), sort_keys=True)


def _of_store(run: Run) -> tuple[str, str]:
    """The digest of the data, and the day on which the last job ended, or else the store was last written."""
    with Store(run.folder) as store:
        recent = store.progress().recent
        when = recent[0][2] if recent else store.path.stat().st_mtime
        digest = str(store.meta().get("data_digest") or "")
    return digest, datetime.fromtimestamp(when, UTC).date().isoformat()


def _knows(ledger: Any) -> tuple[str, ...]:
    """Who knew what, a line each."""
    return tuple(_line(fact) for fact in map(mapping, items(ledger)))


def _line(fact: Mapping[str, Any]) -> str:
    oracle = " (oracle)" if fact.get("oracle") else ""
    return f"{fact.get('who', 'unknown')}{oracle}, {fact.get('what', '')}: {fact.get('value', '')}"
