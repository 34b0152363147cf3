"""Runs side by side in words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mithridate.report.comparing import Beside, Pair, discordant
from mithridate.report.words import chance, fine, interval, listed, plural, points


def head(found: Beside) -> list[str]:
    """Which runs, and what a reader must know before the numbers."""
    lines = [f"{found.second} (second) less {found.first} (first)"]
    if found.sameness.unpaired:
        lines.append(
            f"Not the same trials: {listed(found.sameness.unpaired)}. They are compared as two unpaired samples, "
            "and the difference may be that of the trials."
        )
    if found.sameness.other:
        lines.append(f"Besides what the table says, {listed(found.sameness.other)}.")
    lines += [f"Compared under other names: {listed(found.renamed)}."] if found.renamed else []
    left = [f"{plural(count, 'job')} of the {name}" for count, name in zip(found.left, _NAMES, strict=True) if count]
    lines += [f"Not done yet: {listed(left)}."] if left else []
    lines += [f"The {name} run: {said}." for said, name in zip(found.stopped, _NAMES, strict=True) if said]
    if any(found.looked):
        which = listed([f"the {name} run" for looked, name in zip(found.looked, _NAMES, strict=True) if looked])
        lines.append(
            f"The number of trials of {which} was chosen by looking at results: rates there have intervals that allow "
            "for that, while tests and intervals of differences are those of as many trials fixed in advance."
        )
    lines += [f"{plural(found.alone, 'cell')} only one of them has."] if found.alone else []
    if not found.pairs:
        lines.append("They have no cell with results over the same trials, so there is nothing to compare.")
    return lines


_NAMES = ("first", "second")


def cell(pair: Pair) -> str:
    """Where a pair stands in the grid of the second run, stamped where a number of either run is an oracle's."""
    own = pair.second
    told = any(each.oracle for each in (pair.first, own)) and "(oracle)" not in own.defense
    return f"{own.attack}, {own.scenario}, {own.victim}, {own.defense}{' (oracle)' * told}"


def sentence(pair: Pair) -> str:
    """As in: 10 % [..] against 45 % [..]: -35 points [..], McNemar p = 0.02, 20 trials: clearly lower."""
    found = pair.difference
    digits = 1 if pair.first.graded else 0
    rates = [f"{fine(each.mean)} [{interval(each, digits)}]" for each in (pair.two, pair.one)]
    adjusted = f" adjusted for {found.family} comparisons" if found.family > 1 else ""
    sample = plural(found.trials, "trial")
    if pair.bootstrap is None:
        sample = f"{pair.two.trials} and {plural(pair.one.trials, 'trial')}"
    text = (
        f"{rates[0]} against {rates[1]}: {points(found, digits)}, "
        f"{pair.test}: {chance(found.chance)}{adjusted}, {sample}: {_said(pair)}."
    )
    if pair.unlanded:
        where = listed([f"the {_NAMES[place]} run" for place in pair.unlanded])
        text += f" No credit to the defense in {where}, where the attack has not clearly landed without it."
    return text


def _said(pair: Pair) -> str:
    if not pair.clear:
        return "no clear difference"
    return "clearly lower" if pair.difference.mean < 0 else "clearly higher"


def of_attacks(pairs: Sequence[Pair]) -> list[str]:
    """The attacks of one run against each other, a line or two for each pair."""
    if not pairs:
        return ["This run has no two attacks with results over the same trials, so there is nothing to compare."]
    lines = ["The attacks of this run without a defense, over the same trials"]
    for pair in pairs:
        split = discordant(pair)
        alone = f" Hit by one alone: {split.second_only} against {split.first_only} trials." if split else ""
        where = f"{pair.second.scenario}, {pair.second.victim}"
        one, two = (f"{each.attack}{' (oracle)' * each.oracle}" for each in (pair.first, pair.second))
        lines.append(f"- {two} against {one}, {where}\n  {sentence(pair)}{alone}")
    return lines


def as_json(found: Beside) -> dict[str, Any]:
    """Two runs as JSON-able values."""
    return {
        "first": str(found.first),
        "second": str(found.second),
        "paired": not found.sameness.unpaired,
        "not_the_same_trials": list(found.sameness.unpaired),
        "trials_chosen_by_looking": list(found.looked),
        "other_differences": list(found.sameness.other),
        "renamed": list(found.renamed),
        "jobs_left": list(found.left),
        "stopped": [said or None for said in found.stopped],
        "cells_of_one_alone": found.alone,
        "pairs": [as_row(pair) for pair in found.pairs],
    }


def as_row(pair: Pair) -> dict[str, Any]:
    """One pair as JSON-able values."""
    found, own = pair.difference, pair.second
    return {
        "attack": own.attack,
        "scenario": own.scenario,
        "victim": own.victim,
        "defense": own.defense,
        "first": _rate(pair, 0),
        "second": _rate(pair, 1),
        "difference": {"mean": found.mean, "low": found.low, "high": found.high},
        "bootstrap": asdict(pair.bootstrap) if pair.bootstrap else None,
        "test": pair.test,
        "p": found.chance,
        "adjusted_for": found.family,
        "trials": found.trials,
        "clear": pair.clear,
        "landed": [place not in pair.unlanded for place in (0, 1)],
        "sentence": sentence(pair).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-"),
    }


def _rate(pair: Pair, place: int) -> dict[str, float]:
    found, its = (pair.one, pair.two)[place], (pair.first, pair.second)[place]
    sample = {"trials": found.trials, "victims": found.victims}
    return {"mean": found.mean, "low": found.low, "high": found.high} | sample | {"oracle": its.oracle}
