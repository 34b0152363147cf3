"""What tables call the parts of an experiment: learners, scenarios, perturbations."""

from __future__ import annotations

from mithridate.learner import Learner
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import Trained
from mithridate.threat import ThreatModel


def label(learner: Learner) -> str:
    """A short name of a learner for tables: its title, if it has one.

    Else its network, what it starts from unless from scratch, and its epochs.
    """
    title = getattr(learner, "title", None)
    if isinstance(title, str):
        return title
    model, epochs = getattr(learner, "model", None), getattr(learner, "epochs", None)
    if model is None:
        return learner.name
    start = [learner.start.name] if isinstance(learner, SGD) and learner.start.source() is not None else []
    return ", ".join([str(model.name), *start, *([f"{epochs} epochs"] if epochs else [])])


def with_crew(attack: str, crew: str | None) -> str:
    """An attack and the surrogates it crafts with: ``gradient-matching (crew four)``; else its name alone."""
    return attack if crew is None else f"{attack} (crew {crew})"


def weights_label(weights: Trained) -> str:
    """A short name of a pretraining: its network, its data, its seed."""
    return f"{label(weights.learner)}, on {weights.data.name}, seed {weights.seed}"


def scenario_name(threat: ThreatModel) -> str:
    """A threat model in a few words, for tables. The budget is as asked for: it pays for a whole number of rows."""
    return f"{threat.budget * 100:.3g} % of rows, {perturbation_name(threat)}"


def perturbation_name(threat: ThreatModel) -> str:
    """A perturbation in a few words: ``linf 8/255``."""
    radius = getattr(threat.perturbation, "radius", None)
    if radius is None:
        return threat.perturbation.name
    levels = radius * 255
    text = f"{levels:.3g}/255" if threat.perturbation.name == "linf" else f"{radius:.3g}"
    return f"{threat.perturbation.name} {text}"
