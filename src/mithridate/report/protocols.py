"""Under which protocol a number was got: data, threat and victim, which must be equal before numbers are ranked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.report.load import Run
from mithridate.report.values import items, mapping

_VARIED = ("budget", "perturbation")
"""Parts of a threat that the name of a scenario tells."""
_FREE = {
    "name", "title", "about", "notes", "published", "attacks", "defenses", "victims", "threat", "data", "controls",
    "trials", "vary", "vary_trials", "crews", "seeds",
}  # fmt: skip
"""Settings that are no part of the protocol, that are compared elsewhere, or that the sample of a number tells."""
_SHORT = 60
"""Letters of a setting in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a number was got under."""

    key: str
    """Equal where data, threat and victim are."""
    data: str
    scenario: str
    victim: str
    goal: str
    """The goal of the attacker in a few words."""
    run: str
    """What the run is called."""
    others: Mapping[str, str]
    """Further settings of the run, as JSON."""


def protocol(run: Run, label: str, *, scenario: str, victim: str) -> Protocol:
    """The protocol of a run's numbers in one scenario on one victim; ``label`` is what the run is called."""
    settings = run.experiment
    data, threat = mapping(settings.get("data")), mapping(settings.get("threat"))
    rest = {name: value for name, value in threat.items() if name not in _VARIED}
    decides = [data, rest, scenario, victim, _victim(run, victim), list(run.classes)]
    return Protocol(
        key=_text(decides),
        data=_called(data),
        scenario=scenario,
        victim=victim,
        goal=_called(mapping(threat.get("goal"))),
        run=label,
        others={name: _text(value) for name, value in settings.items() if name not in _FREE},
    )


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


def _victim(run: Run, name: str) -> Any:
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
