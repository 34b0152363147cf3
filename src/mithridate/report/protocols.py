"""Under which protocol a number was got: what must be equal before numbers are ranked, and what may differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.report.load import Run
from mithridate.report.values import items, mapping

_VARIED = ("budget", "perturbation")
"""Parts of a threat that the name of a scenario tells; of a perturbation, its radius alone."""
_DECIDE = ("training_rows", "targets", "resample", "crews", "ensemble", "adaptive")
"""Settings that decide what a number is of, beside data, threat, victim and surrogates."""
_TRIALS = ("trials", "first_trial", "seed")
"""Which trials were drawn. They may differ, since every number is told with its sample, but that is said."""
_FREE = {
    "name", "title", "about", "notes", "published", "attacks", "defenses", "victims", "threat", "data", "controls",
    "vary", "vary_trials", "surrogates", "seeds", *_TRIALS, *_DECIDE,
}  # fmt: skip
"""Settings that are no part of the protocol, or that are compared elsewhere."""
_SHORT = 60
"""Letters of a setting in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a number was got under."""

    parts: Mapping[str, str]
    """What must be equal, as JSON by what it is called: data, threat, victim, surrogates and the like."""
    data: str
    scenario: str
    victim: str
    goal: str
    """The goal of the attacker in a few words."""
    run: str
    """What the run is called."""
    others: Mapping[str, str]
    """Further settings of the run, as JSON."""

    @property
    def key(self) -> str:
        """Equal where all parts are."""
        return _text(self.parts)


def protocol(run: Run, label: str, *, digest: str, scenario: str, victim: str) -> Protocol:
    """The protocol of a run's numbers in one scenario on one victim.

    ``label`` is what the run is called, and ``digest`` that of its data (empty where it does not say).
    """
    settings = run.experiment
    data, threat = mapping(settings.get("data")), mapping(settings.get("threat"))
    rest = {name: value for name, value in threat.items() if name not in _VARIED}
    perturbation = mapping(threat.get("perturbation"))
    rest["perturbation"] = {name: value for name, value in perturbation.items() if name != "radius" and value}
    decides = {
        "data": data,
        "the rows of the data": digest,
        "classes": list(run.classes),
        "threat": rest,
        "scenario": scenario,
        "victim": [victim, victim_settings(run, victim)],
        "surrogates": surrogates(run),
    } | {name: settings.get(name) or None for name in _DECIDE}
    others = {name: _text(value) for name, value in settings.items() if name not in _FREE}
    return Protocol(
        parts={name: _text(value) for name, value in decides.items()},
        data=_called(data),
        scenario=scenario,
        victim=victim,
        goal=_called(mapping(threat.get("goal"))),
        run=label,
        others={"trials": _trials(settings)} | others,
    )


def surrogates(run: Run) -> list[Any]:
    """The settings of what attackers train: those of the first victim where none are named."""
    return items(run.experiment.get("surrogates")) or items(run.experiment.get("victims"))[:1]


def differences(found: Sequence[Protocol]) -> list[str]:
    """In what the runs of one group differ beyond data, threat and victim, a sentence for each setting."""
    runs = {each.run: each.others for each in found}
    names = dict.fromkeys(name for others in runs.values() for name in others)
    said = []
    for name in names:
        values: dict[str, list[str]] = {}
        for run, others in runs.items():
            values.setdefault(others.get(name, "not set"), []).append(run)
        if len(values) > 1:
            parts = [f"{_cut(value)} in {', '.join(which)}" for value, which in values.items()]
            said.append(f"{name}: {'; '.join(parts)}")
    return said


def apart(one: Protocol, other: Protocol) -> list[str]:
    """In what two protocols differ that keeps their numbers from one ranking, in words."""
    said = []
    for name, value in one.parts.items():
        its = other.parts.get(name, "null")
        if value != its:
            short = name in _DECIDE and len(value) + len(its) < _SHORT
            said.append(f"{name} ({value} here, {its} there)" if short else name)
    return said


def _trials(settings: Mapping[str, Any]) -> str:
    """Which trials were drawn: 12 from number 0 on, seed 7."""
    count, first, seed = (settings.get(name) for name in _TRIALS)
    return f"{count or 'an unknown number of'} from number {first or 0} on, seed {seed or 0}"


def victim_settings(run: Run, name: str) -> Any:
    """The settings of a victim by its name; None where the run does not tell."""
    names, victims = list(run.grid.names.get("victim", ())), items(run.experiment.get("victims"))
    return victims[names.index(name)] if name in names and names.index(name) < len(victims) else None


def _called(settings: Mapping[str, Any]) -> str:
    """Settings in a few words, by name first: made-up (rows 4000)."""
    more = [f"{name} {_plain(value)}" for name, value in settings.items() if name != "name" and value not in (None, "")]
    name = str(settings.get("name") or "unnamed")
    return f"{name} ({', '.join(more)})" if more else name


def _plain(value: Any) -> str:
    return _cut(value if isinstance(value, str) else _text(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
