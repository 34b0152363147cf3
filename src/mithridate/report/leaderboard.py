"""The leaderboard over several run folders: what attacks and defenses got, ranked only where that means something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mithridate.errors import MithridateError, StoreError
from mithridate.report.combinations import cells
from mithridate.report.load import read
from mithridate.report.protocols import Protocol, differences
from mithridate.report.standings import Fact, facts
from mithridate.report.tables import summary
from mithridate.report.words import plural

_MOST = 1500
"""Lines on the page."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One line of a ranking."""

    fact: Fact
    place: int | None
    """1 and how many are clearly better; None where it is not ranked."""
    unclear: bool
    """Whether it is not clearly different from the line above."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Attacks without a defense, or the defenses against one attack."""

    attack: str
    """Empty for the attacks themselves."""
    places: tuple[Place, ...]
    notes: tuple[str, ...]
    """What keeps these lines from being compared as they stand."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Everything under one protocol: the same data, threat and victim."""

    protocol: Protocol
    attacks: Ranking
    defenses: tuple[Ranking, ...]
    notes: tuple[str, ...]
    """In what else the runs differ."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One run folder."""

    name: str
    """The end of the path of its folder."""
    title: str
    date: str
    version: str
    jobs: str
    """As in: 30 of 200 jobs; empty where all are done."""
    trials: str


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The whole page."""

    groups: tuple[Group, ...]
    entrants: tuple[Entrant, ...]
    problems: tuple[str, ...]
    """A sentence for each folder that could not be read."""
    left_out: int
    """Lines without a place on the page."""


def leaderboard(folders: Sequence[Path]) -> Leaderboard:
    """Read all folders; those that cannot be read are told in a sentence.

    Raises :class:`StoreError` where none can be read, with the sentence about each.
    """
    found: list[Fact] = []
    entrants: list[Entrant] = []
    problems: list[str] = []
    for folder, label in _labels(folders).items():
        try:
            entrant, its = _read(folder, label)
        except MithridateError as error:
            problems.append(str(error))
            continue
        entrants.append(entrant)
        found += its
        if not its:
            problems.append(f"'{label}' has no judged network yet; go on with its run")
    if not entrants:
        raise StoreError("there is nothing to show: " + "; ".join(problems or ["no folder was named"]))
    shown = found[:_MOST]
    by_protocol: dict[str, list[Fact]] = {}
    for fact in shown:
        by_protocol.setdefault(fact.protocol.key, []).append(fact)
    return Leaderboard(
        groups=tuple(_group(group) for group in by_protocol.values()),
        entrants=tuple(entrants),
        problems=tuple(problems),
        left_out=len(found) - len(shown),
    )


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Every folder once, and as much of the end of its path as tells it from the others."""
    paths: dict[Path, Path] = {}
    for each in folders:
        paths.setdefault(Path(each).resolve(), Path(each))
    names = {}
    for path, given in paths.items():
        parts = 1
        while parts < len(path.parts) and sum(other.parts[-parts:] == path.parts[-parts:] for other in paths) > 1:
            parts += 1
        names[given] = "/".join(path.parts[-parts:])
    return names


def _read(folder: Path, label: str) -> tuple[Entrant, list[Fact]]:
    run = read(folder)
    found = facts(run, label, cells(run), summary(run)["rows"])
    unfinished = run.planned is not None and run.done < run.planned
    first = found[0] if found else None
    entrant = Entrant(
        name=label,
        title=run.title,
        date=first.date if first else "",
        version=str(run.environment.get("mithridate") or "unknown"),
        jobs=f"{run.done} of {plural(run.planned or 0, 'job')}" if unfinished else "",
        trials=str(run.experiment.get("trials") or "unknown"),
    )
    return entrant, found


def _group(found: Sequence[Fact]) -> Group:
    plain = [fact for fact in found if fact.defense == "none"]
    defended: dict[str, list[Fact]] = {}
    for fact in found:
        if fact.defense != "none":
            defended.setdefault(fact.attack, []).append(fact)
    strongest = {fact.attack: k for k, fact in reversed(list(enumerate(_sorted(plain, best_high=True))))}
    attacks = sorted(defended, key=lambda attack: strongest.get(attack, len(strongest)))
    return Group(
        protocol=found[0].protocol,
        attacks=_ranking("", plain),
        defenses=tuple(_ranking(attack, defended[attack]) for attack in attacks),
        notes=tuple(differences([fact.protocol for fact in found])),
    )


def _ranking(attack: str, found: Sequence[Fact]) -> Ranking:
    """The ranked first, then those that earn no place: an oracle, and defenses of an attack that did not land."""
    ranked = _sorted([fact for fact in found if fact.ranked], best_high=not attack)
    others = _sorted([fact for fact in found if not fact.ranked], best_high=not attack)
    better = _above if not attack else _below
    places = [
        Place(
            fact=fact,
            place=1 + sum(better(other, fact) for other in ranked),
            unclear=k > 0 and not better(ranked[k - 1], fact),
        )
        for k, fact in enumerate(ranked)
    ]
    places += [Place(fact=fact, place=None, unclear=False) for fact in others]
    return Ranking(attack=attack, places=tuple(places), notes=tuple(_settings_differ(found)))


def _sorted(found: Sequence[Fact], *, best_high: bool) -> list[Fact]:
    sign = -1 if best_high else 1
    return sorted(found, key=lambda fact: (sign * fact.mean, fact.defense, fact.run))


def _above(one: Fact, two: Fact) -> bool:
    """Whether the whole interval of one lies above that of two. Without an interval nothing is clear."""
    return one.low > two.high and one.trials > 1 and two.trials > 1


def _below(one: Fact, two: Fact) -> bool:
    return _above(two, one)


def _settings_differ(found: Sequence[Fact]) -> list[str]:
    """Attacks that are called the same in several runs but have other settings there."""
    settings: dict[str, dict[str, list[str]]] = {}
    for fact in found:
        runs = settings.setdefault(fact.attack, {}).setdefault(fact.attack_settings, [])
        runs += [fact.run] if fact.run not in runs else []
    return [
        f"{attack} has other settings in {' than in '.join(', '.join(runs) for runs in by.values())}: "
        "these lines are about different attacks of one name"
        for attack, by in settings.items()
        if len(by) > 1
    ]
