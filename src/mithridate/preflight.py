"""Everything that would stop an experiment, found before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mithridate.attack import problems as attack_problems
from mithridate.dataset import Dataset
from mithridate.defense import protect
from mithridate.errors import DataError, MithridateError, ProblemsError
from mithridate.experiment import BARE, Experiment, Job
from mithridate.feature_attack import FeatureAttack
from mithridate.goal import Misclassify
from mithridate.learner import Learner
from mithridate.loading import load
from mithridate.ops.layers import PENULTIMATE, recording
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.threat import ThreatModel


def problems(experiment: Experiment) -> list[str]:
    """Everything that would stop the experiment, found without training anything; empty where nothing does."""
    try:
        scenarios = experiment.scenarios()
    except ProblemsError as error:
        return [f"vary: {each}" for each in error.problems]
    except MithridateError as error:
        return [f"vary: {error}"]
    attacks = _attack_problems(experiment, scenarios)
    try:
        data = load(experiment.data)
    except MithridateError as error:
        return [*attacks, f"data: {error}"]
    found = list(dict.fromkeys([*attacks, *_misfits(experiment, scenarios, data)]))
    networks = _network_problems(experiment, data) + _defense_problems(experiment, data)
    found += networks or (_layer_problems(experiment, data) if not found else [])
    return found + _protocol_problems(experiment) + _trial_problems(experiment, scenarios, data)


def _attack_problems(experiment: Experiment, scenarios: Sequence[ThreatModel]) -> list[str]:
    """Attacks that cannot do what a scenario asks, the same sentence once."""
    found = [
        f"attacks[{k}]: {each}"
        for k, crew in experiment.attackers()
        for threat in scenarios
        for each in attack_problems(experiment.attacks[k], threat, surrogates=_crew(experiment, k, crew))
    ]
    return list(dict.fromkeys(found))


def _misfits(experiment: Experiment, scenarios: Sequence[ThreatModel], data: Split) -> list[str]:
    """Attacks that cannot craft on this data with their surrogates, inside the defenses they reckon with."""
    faced = dict.fromkeys(map(experiment.faced, range(len(experiment.stacks()))))
    try:
        crews = [(k, _crew(experiment, k, crew, stack)) for k, crew in experiment.attackers() for stack in faced]
    except MithridateError:
        return []  # a stack that cannot be worn, which is told of the defenses
    return [
        f"attacks[{k}]: {each}"
        for k, crew in crews
        for threat in scenarios
        for each in experiment.attacks[k].misfits(threat, data.train.space, crew)
    ]


def _crew(experiment: Experiment, attack: int, crew: int, stack: int = BARE) -> list[Learner]:
    """The surrogates that an attack crafts with, inside a stack."""
    everybody = experiment.crew(stack)
    return [everybody[number] for number in experiment.members(Job(kind="craft", attack=attack, crew=crew))]


def _network_problems(experiment: Experiment, data: Split) -> list[str]:
    """Networks that do not fit the data."""
    found = []
    for where, learners in (("victims", experiment.victims), ("surrogates", experiment.surrogates)):
        for k, learner in enumerate(learners):
            place = f"{where}[{k}].model" if getattr(learner, "model", None) is not None else f"{where}[{k}]"
            found += [f"{place}: {each}" for each in learner.problems(data.train.space)]
    return found


def _layer_problems(experiment: Experiment, data: Split) -> list[str]:
    """Layers that the networks an attacker crafts with do not have, the same sentence once."""
    found: dict[str, None] = {}
    faced = dict.fromkeys(experiment.faced(stack) for stack in range(len(experiment.stacks())))
    for k, attack in enumerate(experiment.attacks):
        if not isinstance(attack, FeatureAttack) or attack.layers == (PENULTIMATE,):
            continue
        for stack in faced:
            try:
                for learner in attack.crew(experiment.crew(stack)):
                    _record(learner, attack.layers, data.train)
            except MithridateError as error:
                found[f"attacks[{k}].layers: {error}"] = None
    return list(found)


def _record(learner: Learner, layers: Sequence[str], data: Dataset) -> None:
    """Record layers of a fresh network once. Raises :class:`ConfigError` or :class:`ModelError` where it cannot be."""
    model = learner.build(data.space, Seed(0)).eval()
    device = next((each.device for each in model.parameters()), data.device)
    with recording(model, layers) as recorder, torch.no_grad():
        try:
            recorder(data.at(torch.arange(min(2, len(data)))).all_inputs().to(device))
        except MithridateError:
            raise
        except Exception:
            return


def _protocol_problems(experiment: Experiment) -> list[str]:
    """A protocol that does not exist."""
    try:
        experiment.deviations()
    except MithridateError as error:
        return [f"protocol: {error}"]
    return []


def _defense_problems(experiment: Experiment, data: Split) -> list[str]:
    """Defenses that do not fit the data, or that no network survives, the same sentence once."""
    found: dict[str, None] = {}
    sound = [each for each in experiment.victims if not each.problems(data.train.space)]  # others are told of already
    for k, stack in enumerate(experiment.defenses):
        for defense in stack:
            for each in defense.problems(data.train.space):
                found[f"defenses[{k}]: {each}"] = None
        for learner in sound if stack else ():
            try:
                protect(learner, stack).build(data.train.space, Seed(0))
            except MithridateError as error:
                found[f"defenses[{k}]: {error}"] = None
    return list(found)


def _trial_problems(experiment: Experiment, scenarios: Sequence[ThreatModel], data: Split) -> list[str]:
    """Goals and poison rows that cannot be drawn, the same sentence once."""
    found: dict[str, None] = {}
    for scenario in range(len(scenarios)):
        for number in experiment.numbers(scenario):
            job = Job(kind="craft", scenario=scenario, trial=number)
            try:
                trial = experiment.trial(job)
                agree = _disagreements(trial.threat, data) if experiment.setups else []
            except MithridateError as error:
                found[f"setups: {error}"] = None
                continue
            try:
                seen = data if agree else experiment.rows(job, data)
            except MithridateError as error:
                found[f"training_rows: {error}"] = None
                continue
            for each in agree or trial.rows_problems(seen):
                found[f"threat: {each}"] = None
    return list(found)


def _disagreements(threat: ThreatModel, data: Split) -> list[str]:
    """Where the labels of the data are not those of a fixed trial: then the rows are not the ones meant."""
    assert isinstance(threat.goal, Misclassify)
    try:
        targets = data.test.rows(torch.tensor(threat.goal.ids))
        bases = data.train.rows(torch.tensor(threat.base_ids))
    except DataError as error:
        return [f"the set-ups name rows that this data lacks ({error}); they are made for full CIFAR-10"]
    found = []
    if targets.labels.tolist() != [threat.goal.target]:
        found.append(f"target {threat.goal.ids[0]} has another label than the set-up says; is this CIFAR-10 in order?")
    if set(bases.labels.tolist()) != {threat.goal.intended}:
        found.append("base rows have other labels than the set-up says; is this CIFAR-10 in order?")
    return found
