"""The leaderboard over several run folders: what attacks and defenses got, ranked only where that means something."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mithridate.errors import MithridateError, StoreError
from mithridate.report.combinations import cells
from mithridate.report.load import read
from mithridate.report.protocols import Protocol, apart, differences
from mithridate.report.settings import differing
from mithridate.report.standings import Fact, facts, is_unfinished
from mithridate.report.stopped import notice
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


@dataclass(frozen=True, kw_only=True)
class Group:
    """Everything under one protocol: the same data, threat, victim, surrogates and what else decides a number."""

    protocol: Protocol
    attacks: Ranking
    defenses: tuple[Ranking, ...]
    notes: tuple[str, ...]
    """In what else the runs differ."""
    apart: tuple[str, ...] = ()
    """Why these numbers are not ranked with those of a group that has the same data, scenario and victim by name."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One run folder."""

    name: str
    """The end of the path of its folder."""
    title: str
    date: str
    version: str
    jobs: str
    """As in: 30 of 200 jobs; empty where all are done, or the run stopped on purpose."""
    stopped: str
    """Why the run has no more trials, where it stopped on purpose."""
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
    by_protocol: dict[str, list[Fact]] = {}
    for fact in found:
        by_protocol.setdefault(fact.protocol.key, []).append(fact)
    groups = _cut(_set_apart([_group(_told_apart(group)) for group in by_protocol.values()]))
    return Leaderboard(
        groups=tuple(groups),
        entrants=tuple(entrants),
        problems=tuple(problems),
        left_out=max(0, len(found) - _MOST),
    )


def _set_apart(groups: Sequence[Group]) -> list[Group]:
    """Groups that are called the same, each with what sets it apart from those before it."""
    found: list[Group] = []
    for group in groups:
        own = group.protocol
        said = [
            f"those of {its.run}: {', '.join(apart(own, its))}"
            for its in (each.protocol for each in found)
            if (own.data, own.scenario, own.victim) == (its.data, its.scenario, its.victim)
        ]
        found.append(replace(group, apart=tuple(said)))
    return found


def _cut(groups: Iterable[Group]) -> list[Group]:
    """The first lines of all groups, as many as the page has room for; every place is as it was."""
    room, kept = _MOST, []

    def cut(ranking: Ranking) -> Ranking:
        nonlocal room
        places = ranking.places[: max(0, room)]
        room -= len(places)
        return replace(ranking, places=places)

    for group in groups:
        attacks, defenses = cut(group.attacks), tuple(cut(each) for each in group.defenses)
        shown = tuple(each for each in defenses if each.places)
        kept += [replace(group, attacks=attacks, defenses=shown)] if attacks.places or shown else []
    return kept


def _told_apart(found: Sequence[Fact]) -> list[Fact]:
    """Attacks and defenses that have one name and other settings, each under a name with the settings that differ."""
    attacks = _names(found, lambda fact: (fact.attack, fact.attack_settings))
    defenses = _names(found, lambda fact: (fact.defense, fact.defense_settings))
    return [
        replace(
            fact,
            attack=attacks[fact.attack, fact.attack_settings],
            defense=defenses[fact.defense, fact.defense_settings],
        )
        for fact in found
    ]


def _names(found: Sequence[Fact], of: Callable[[Fact], tuple[str, str]]) -> dict[tuple[str, str], str]:
    """For each name with settings, the name alone, or where it has others too, with the settings that differ."""
    by_name: dict[str, list[str]] = {}
    for name, settings in dict.fromkeys(map(of, found)):
        by_name.setdefault(name, []).append(settings)
    names = {}
    for name, several in by_name.items():
        words = differing([json.loads(each) for each in several])
        bare, oracle = name.removesuffix(" (oracle)"), " (oracle)" * name.endswith(" (oracle)")
        for each, said in zip(several, words, strict=True):
            known = said if each not in ("null", "[]") else "settings not known"
            names[name, each] = f"{bare} ({known}){oracle}" if len(several) > 1 else name
    return names


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
    first = found[0] if found else None
    entrant = Entrant(
        name=label,
        title=run.title,
        date=first.date if first else "",
        version=str(run.environment.get("mithridate") or "unknown"),
        jobs=f"{run.done} of {plural(run.planned or 0, 'job')}" if is_unfinished(run) else "",
        stopped=notice(run),
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
    many = [fact for fact in ranked if fact.trials > 1]
    lows, highs = sorted(fact.low for fact in many), sorted(fact.high for fact in many)

    def before(fact: Fact) -> int:
        """How many are clearly better."""
        if fact.trials < 2:
            return 0
        return bisect_left(highs, fact.low) if attack else len(lows) - bisect_right(lows, fact.high)

    places = [
        Place(fact=fact, place=1 + before(fact), unclear=k > 0 and not better(ranked[k - 1], fact))
        for k, fact in enumerate(ranked)
    ]
    places += [Place(fact=fact, place=None, unclear=False) for fact in others]
    return Ranking(attack=attack, places=tuple(places))


def _sorted(found: Sequence[Fact], *, best_high: bool) -> list[Fact]:
    sign = -1 if best_high else 1
    return sorted(found, key=lambda fact: (sign * fact.mean, fact.defense, fact.run))


def _above(one: Fact, two: Fact) -> bool:
    """Whether the whole interval of one lies above that of two. Without an interval nothing is clear."""
    return one.low > two.high and one.trials > 1 and two.trials > 1


def _below(one: Fact, two: Fact) -> bool:
    return _above(two, one)
