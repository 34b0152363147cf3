"""The threat-model ledger: for each cell of a grid, who knew and assumed what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mithridate.facts import Fact, attacker
from mithridate.goal import Backdoor, Degrade, GoalSpec, Misclassify
from mithridate.job import Job
from mithridate.knowledge import Box
from mithridate.learner import Learner
from mithridate.settings import fingerprint, plain
from mithridate.threat import ThreatModel

if TYPE_CHECKING:
    from mithridate.experiment import Experiment

_SHARED: Mapping[Box | None, str] = {
    "white-box": "its weights: one or more surrogates start from the same ones",
    "grey-box": "its architecture, but not its weights",
    "black-box": "neither its architecture nor its weights",
    None: "nothing is used of it",
}


def ledger(experiment: Experiment, cell: Job) -> tuple[Fact, ...]:
    """Who knew and assumed what where an attack (with a crew) meets a victim under a stack in a scenario.

    ``cell`` is any poisoned job of it. Facts of the threat model come first, then the attack's own, then those of each
    defense, innermost first.
    """
    attack, threat = experiment.attacks[cell.attack], experiment.scenarios()[cell.scenario]
    stack = experiment.stacks()[cell.defense].defenses
    found = [_rows(threat, experiment.training_rows), *_target(experiment, threat.goal), _network(experiment, cell)]
    found += [each for each in (_training(experiment, cell), _defense(experiment, cell)) if each is not None]
    found += attack.facts()
    return (*found, *(fact for defense in stack for fact in defense.facts()))


def is_oracle(experiment: Experiment, job: Job) -> bool:
    """Whether a victim's number rests on what nobody could know: told to what it wears, or to who poisoned it."""
    stack = experiment.stacks()[job.defense].defenses
    facts = [fact for defense in stack for fact in defense.facts()]
    facts += [] if job.kind == "clean" else experiment.attacks[job.attack].facts()
    return any(defense.oracle for defense in stack) or any(fact.oracle for fact in facts)


def told(experiment: Experiment) -> dict[str, Any]:
    """The ledger of every cell as JSON knows it: the facts, each once, and for each cell the numbers of its own.

    ``{"facts": [...], "cells": [{"attack", "scenario", "victim", "defense", "facts": [0, 3, ...]}]}``, under the names
    that rows give them.
    """
    facts: dict[Fact, int] = {}
    cells = [
        {**names, "facts": [facts.setdefault(fact, len(facts)) for fact in ledger(experiment, cell)]}
        for names, cell in _cells(experiment)
    ]
    return {"facts": [plain(fact) for fact in facts], "cells": cells}


def _cells(experiment: Experiment) -> list[tuple[dict[str, str], Job]]:
    """Every cell, and what rows call its parts."""
    scenarios, victims, defenses = experiment.scenario_names(), experiment.victim_names(), experiment.defense_names()
    found = []
    for attack, crew in experiment.attackers():
        for s, scenario in enumerate(scenarios):
            for v, victim in enumerate(victims):
                for d, defense in enumerate(defenses):
                    cell = Job(kind="attack", attack=attack, crew=crew, scenario=s, victim=v, defense=d)
                    name = experiment.attack_name(cell)
                    found.append(({"attack": name, "scenario": scenario, "victim": victim, "defense": defense}, cell))
    return found


def _rows(threat: ThreatModel, training_rows: int) -> Fact:
    """The rows that it crafts on."""
    if threat.knows == "training-rows":
        return attacker("training rows", "all that victims train on", where="threat.knows")
    return attacker("training rows", f"none; {training_rows} others from the same source", where="threat.knows")


def _target(experiment: Experiment, goal: GoalSpec) -> list[Fact]:
    """What it knows of the inputs that it is judged on."""
    if isinstance(goal, Degrade):
        return [
            attacker("target", "none of the test rows that victims are judged on", where="threat.goal"),
            attacker("validation rows", "its own, held out of the training rows", where="threat.goal.known"),
        ]
    if isinstance(goal, Backdoor):
        known = f"the trigger and {goal.known} training rows to put it on; none of the test rows it is judged on"
        return [attacker("target", known, where="threat.goal")]
    if not isinstance(goal, Misclassify):
        return []
    views = "views of its targets, but not those that victims are judged on"
    found = [
        attacker("target", views if goal.views else "the very inputs that victims are judged on", where="threat.goal")
    ]
    if experiment.targets == "correct":
        chosen = "drawn among inputs that every surrogate calls by their right name"
        found.append(attacker("target", chosen, where="targets: correct"))
    return found


def _network(experiment: Experiment, cell: Job) -> Fact:
    """What its surrogates share with the victim's network."""
    box = experiment.box(cell.attack, cell.victim, scenario=cell.scenario, crew=cell.crew)
    return attacker("victim network", _SHARED[box], where=box or "")


def _training(experiment: Experiment, cell: Job) -> Fact | None:
    """Whether its surrogates train as the victim does."""
    if not experiment.attacks[cell.attack].needs_surrogate:
        return None
    everybody = experiment.crew()
    crew = experiment.attacks[cell.attack].crew([everybody[number] for number in experiment.members(cell)])
    same = any(_alike(each, experiment.victims[cell.victim]) for each in crew)
    known = "the victim's own settings" if same else "others than the victim's: its surrogates train in another way"
    return attacker("victim training", known, where="surrogates")


def _alike(one: Learner, other: Learner) -> bool:
    return fingerprint(one) == fingerprint(other)


def _defense(experiment: Experiment, cell: Job) -> Fact | None:
    """Whether it reckons with what the victim wears."""
    if not experiment.stacks()[cell.defense].defenses:
        return None
    known = "known: its surrogates train inside it" if experiment.adaptive else "not known"
    return attacker("defense", known, where="adaptive")
