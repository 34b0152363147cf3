"""The threat-model ledger: for each cell of a grid, who knew and assumed what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mithridate.attack import Attack
from mithridate.facts import NO_ATTACKER_FACTS, Fact, attacker
from mithridate.goal import Backdoor, Degrade, GoalSpec, Misclassify
from mithridate.job import Job
from mithridate.knowledge import Box
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
    return (*_of_attacker(experiment, cell), *_of_stack(experiment, cell.defense))


def _of_attacker(experiment: Experiment, cell: Job) -> list[Fact]:
    """What holds whatever the victim wears; of a maker whom nobody here knows, no more than that."""
    attack, threat = experiment.attacks[cell.attack], experiment.scenarios()[cell.scenario]
    if _is_unknown(attack):
        return list(attack.facts())
    found = [_rows(threat, experiment.training_rows), *_target(experiment, threat.goal), _network(experiment, cell)]
    return [*found, *_training(experiment, cell), *attack.facts()]


def _of_stack(experiment: Experiment, number: int) -> list[Fact]:
    """Whether the attacker reckons with what the victim wears, and the facts of that."""
    stack = experiment.stacks()[number].defenses
    unknown = [_is_unknown(each) for each in experiment.attacks]
    known = "known: its surrogates train inside it" if experiment.adaptive else "not known"
    known += "; of poison that comes from elsewhere, nobody knows" if any(unknown) else ""
    first = [attacker("defense", known, where="adaptive")] if stack and not all(unknown) else []
    return [*first, *(fact for defense in stack for fact in defense.facts())]


def is_oracle(experiment: Experiment, job: Job) -> bool:
    """Whether a victim's number rests on what nobody could know: told to what it wears, or to who poisoned it."""
    stack = experiment.stacks()[job.defense].defenses
    facts = [fact for defense in stack for fact in defense.facts()]
    facts += [] if job.kind == "clean" else experiment.attacks[job.attack].facts()
    return any(defense.oracle for defense in stack) or any(fact.oracle for fact in facts)


def told(experiment: Experiment) -> dict[str, Any]:
    """The ledger of all cells as JSON knows it, under the names that rows give their parts.

    ``{"facts": [...], "attackers": [{"attack", "scenario", "victim", "facts": [0, 3]}], "stacks": [{"defense",
    "facts"}]}``: each fact once, and its number where it holds. A cell has those of its attacker and of its stack.
    """
    numbers: dict[Fact, int] = {}

    def numbered(facts: Sequence[Fact]) -> list[int]:
        return [numbers.setdefault(fact, len(numbers)) for fact in facts]

    scenarios, victims = experiment.scenarios(), experiment.victim_names()
    known: dict[tuple[Any, ...], list[int]] = {}  # of scenarios, facts tell no more than which rows are known
    attackers = []
    for cell in _attackers(experiment):
        place = (cell.attack, cell.crew, cell.victim, scenarios[cell.scenario].knows)
        if place not in known:
            known[place] = numbered(_of_attacker(experiment, cell))
        names = {"attack": experiment.attack_name(cell), "victim": victims[cell.victim]}
        attackers.append({**names, "scenario": experiment.scenario_names()[cell.scenario], "facts": known[place]})
    stacks = [
        {"defense": name, "facts": numbered(_of_stack(experiment, number))}
        for number, name in enumerate(experiment.defense_names())
    ]
    return {"facts": [plain(fact) for fact in numbers], "attackers": attackers, "stacks": stacks}


def _is_unknown(attack: Attack) -> bool:
    """Whether an attack says that nobody here knows what its maker knew: then neither does the experiment."""
    return any(fact.what == "everything" for fact in attack.facts()) and attack.facts() != NO_ATTACKER_FACTS


def _attackers(experiment: Experiment) -> list[Job]:
    """Each attack with each crew, in each scenario, against each victim."""
    scenarios, victims = range(len(experiment.scenarios())), range(len(experiment.victims))
    return [
        Job(kind="attack", attack=attack, crew=crew, scenario=scenario, victim=victim)
        for (attack, crew), scenario, victim in itertools.product(experiment.attackers(), scenarios, victims)
    ]


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


def _training(experiment: Experiment, cell: Job) -> list[Fact]:
    """Whether its surrogates train as the victim does."""
    if not experiment.attacks[cell.attack].needs_surrogate:
        return []
    everybody, victim = experiment.crew(), fingerprint(experiment.victims[cell.victim])
    crew = experiment.attacks[cell.attack].crew([everybody[number] for number in experiment.members(cell)])
    same = any(fingerprint(each) == victim for each in crew)
    known = "the victim's own settings" if same else "others than the victim's: its surrogates train in another way"
    return [attacker("victim training", known, where="surrogates")]
