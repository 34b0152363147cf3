"""Whether the trials of two runs are the same, so that their results compare trial by trial, and what else differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate.report.load import Run, read
from mithridate.report.protocols import surrogates, victim_settings
from mithridate.report.settings import differing
from mithridate.report.standings import attack_settings, defense_settings
from mithridate.report.values import items, mapping
from mithridate.store import Store

_DRAWS = ("seed", "setups", "training_rows", "resample", "targets")
"""Settings that decide which target and which rows a trial of a number draws."""
_UNSAID = {"seed": 0, "setups": "", "training_rows": 0, "resample": False, "targets": "any"}
"""What they are where a run does not say."""
_LONG = 160
"""Letters of the settings that differ, in each run."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run, with what its folder says of it."""

    run: Run
    digest: str | None
    """Of its data."""
    methods: Mapping[str, Any]
    """Versions of its methods."""
    left: int
    """Jobs that are not done."""


@dataclass(frozen=True, kw_only=True)
class Sameness:
    """What two runs share."""

    unpaired: tuple[str, ...]
    """Why trials of one number are not the same in both; empty where they are."""
    other: tuple[str, ...]
    """What else differs between the runs, which a reader must know."""


def opened(folder: Path) -> Opened:
    """Read a run. Raises :class:`StoreError`."""
    run = read(folder)
    with Store(folder) as store:
        meta, (_, left) = store.meta(), store.queue.count()
    digest = meta.get("data_digest")
    return Opened(run=run, digest=str(digest) if digest else None, methods=mapping(meta.get("methods")), left=left)


def sameness(first: Opened, second: Opened) -> Sameness:
    """What two runs share: by their settings, and by the targets that their networks were judged on."""
    one, two = first.run.experiment, second.run.experiment
    apart = ["they have other data"] if first.digest != second.digest else []
    ours, theirs = mapping(one.get("threat")), mapping(two.get("threat"))
    if ours.get("goal") != theirs.get("goal"):
        apart.append("the poisoner has another goal")
    for name in _DRAWS:
        values = [each.get(name, _UNSAID[name]) for each in (one, two)]
        if values[0] != values[1]:
            apart.append(f"{name} is {values[0]!r} in one and {values[1]!r} in the other")
    if not apart and _other_targets(first.run, second.run):
        apart.append("trials of the same number have other targets")
    other = [
        f"threat.{name} differs" for name in sorted({*ours, *theirs} - {"goal"}) if ours.get(name) != theirs.get(name)
    ]
    other += _settings(first.run, second.run)
    shared = first.methods.keys() & second.methods.keys()
    other += [f"the code of {name} differs" for name in sorted(shared) if first.methods[name] != second.methods[name]]
    return Sameness(unpaired=tuple(apart), other=tuple(other))


def _settings(first: Run, second: Run) -> Iterator[str]:
    """What is called the same in both but has other settings, and which."""
    told = {
        "attack": lambda run, name: json.loads(attack_settings(run, name)),
        "defense": lambda run, name: json.loads(defense_settings(run, name)),
        "victim": victim_settings,
    }
    for part, of in told.items():
        theirs = _names(second, part)
        for name in _names(first, part):
            sides = (of(first, name), of(second, name)) if name in theirs else (None, None)
            if all(sides) and sides[0] != sides[1]:
                yield f"{part} {name} has other settings ({_apart(*sides)})"
    crews = surrogates(first), surrogates(second)
    if all(crews) and crews[0] != crews[1]:
        yield f"the surrogates have other settings ({_apart(*crews)})"


def _names(run: Run, part: str) -> list[str]:
    """What tables call the parts of an experiment; of older runs, the kinds of attacks."""
    found = list(run.grid.names.get(part, ()))
    kinds = [str(mapping(each).get("name")) for each in items(run.experiment.get("attacks"))]
    return found or (kinds if part == "attack" else [])


def _apart(one: Any, two: Any) -> str:
    """The settings that differ, in each run."""
    said = [each if len(each) <= _LONG else f"{each[: _LONG - 1]}…" for each in differing([one, two])]
    return f"{said[0] or 'nothing'} in the first, {said[1] or 'nothing'} in the second"


def _other_targets(first: Run, second: Run) -> bool:
    """Whether any trial that both have was judged on other targets, where those were kept."""
    known = [
        {
            victim.trial: tuple(target.id for target in victim.targets)
            for victim in run.victims
            if victim.control == "attack" and victim.targets and victim.whole
        }
        for run in (first, second)
    ]
    return any(known[0][trial] != known[1][trial] for trial in known[0].keys() & known[1].keys())
