"""Experiments that make no sense whatever their data: empty or enormous grids, things named twice, settings at odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mithridate.errors import ConfigError
from mithridate.goal import Misclassify
from mithridate.learners.sgd import SGD
from mithridate.listing import sizes
from mithridate.settings import fingerprint

if TYPE_CHECKING:
    from mithridate.experiment import Experiment

MOST_JOBS = 1_000_000
"""Jobs in one experiment: listing them takes most of a minute by then, and running them would take years."""


def refuse_contradictions(experiment: Experiment) -> None:
    """Raise :class:`ConfigError` for an experiment that cannot be meant."""
    if not _is_folder_name(experiment.name):
        raise ConfigError(
            f"name must be fit for a folder (1 to 100 characters, no slashes), but it is '{experiment.name[:100]}'"
        )
    for what, least in (("trials", 1), ("runs", 1), ("seeds", 1), ("ensemble", 0), ("first_trial", 0)):
        _check_least(what, getattr(experiment, what), least)
    for what in ("vary_trials", "training_rows"):
        _check_least(what, getattr(experiment, what), 0)
    for what in ("attacks", "victims", "defenses"):
        _check_different(what, getattr(experiment, what))
    _check_surrogates(experiment)
    _check_crews(experiment)
    _check_size(experiment)
    _check_rows(experiment)
    for each in experiment.published:
        if not 0 <= each.victim < len(experiment.victims):
            raise ConfigError(f"published names victim {each.victim}, but there are {len(experiment.victims)} (from 0)")


def _check_size(experiment: Experiment) -> None:
    """Refuse a grid that is too large to list."""
    total = sizes(experiment).total()
    if total > MOST_JOBS:
        raise ConfigError(
            f"the grid has {total} jobs, but at most {MOST_JOBS} can be run together; "
            "lower trials, seeds, runs or controls, or vary less"
        )


def _check_rows(experiment: Experiment) -> None:
    """Refuse rows and targets that are to be drawn and fixed at once, and attackers who are told the truth."""
    goal = experiment.threat.goal
    if experiment.resample and (experiment.setups or experiment.threat.base_ids):
        raise ConfigError(
            "resample draws the training rows of each trial, but setups or threat.base_ids fix some; choose one"
        )
    drawn_for_each = experiment.setups or experiment.resample or not experiment.share_surrogates
    if experiment.targets == "correct" and drawn_for_each:
        raise ConfigError(
            "targets can be 'correct' only where trials share surrogates and training rows and are no fixed set-ups"
        )
    if experiment.targets == "correct" and isinstance(goal, Misclassify) and goal.ids:
        raise ConfigError("targets can be 'correct' only where they are drawn, but threat.goal.ids fixes them")
    if experiment.adaptive and any(defense.oracle for stack in experiment.defenses for defense in stack):
        raise ConfigError("an adaptive attacker cannot wear a defense that is told the truth (expected: true)")


def _check_surrogates(experiment: Experiment) -> None:
    """Refuse an ensemble that cannot be listed, or that repeats what cannot differ."""
    if experiment.ensemble > MOST_JOBS:
        raise ConfigError(
            f"the grid has at least {experiment.ensemble} jobs, one for each network of the ensemble, but at most "
            f"{MOST_JOBS} can be run together; lower ensemble"
        )
    kinds = experiment.surrogates or experiment.victims[:1]
    alike = all(isinstance(each, SGD) and each.start.frozen for each in kinds)
    if experiment.ensemble > len(kinds) and alike and all(each.in_feature_space for each in experiment.attacks):
        raise ConfigError(
            f"an ensemble of {experiment.ensemble} over {len(kinds)} surrogates repeats frozen features, which adds "
            "nothing; name as many surrogates as it has, each with weights of its own"
        )


def _check_crews(experiment: Experiment) -> None:
    """Refuse crews of surrogates that do not exist, and two that would craft the same."""
    if not experiment.crews:
        return
    count, seen = len(experiment.crew()), dict[Any, str]()
    if not any(attack.needs_surrogate for attack in experiment.attacks):
        raise ConfigError("crews name sets of surrogates, but none of the attacks trains any; leave crews out")
    for name, members in experiment.crews.items():
        if not (name.strip() and name.isprintable() and len(name) <= 40):
            raise ConfigError(f"a crew needs a name of 1 to 40 printable characters, but one is called '{name[:40]}'")
        if not members:
            raise ConfigError(f"crew '{name}' must name at least one surrogate, by number from 0 to {count - 1}")
        strange = next((each for each in members if not 0 <= each < count), None)
        if strange is not None:
            raise ConfigError(
                f"crew '{name}' names surrogate {strange}, but there {'is' if count == 1 else 'are'} {count} (from 0)"
            )
        if len(set(members)) < len(members):
            raise ConfigError(f"crew '{name}' names a surrogate twice; name each once")
        same = seen.setdefault(_identity(experiment, members), name)
        if same != name:
            raise ConfigError(f"crews '{same}' and '{name}' are the same surrogates; leave one out")


def _identity(experiment: Experiment, members: Sequence[int]) -> Any:
    """What makes a crew: its numbers; where surrogates are trained anew for each trial, their settings alone."""
    if experiment.share_surrogates and not experiment.resample:
        return tuple(sorted(members))
    crew = experiment.crew()
    return tuple(sorted(fingerprint(crew[number]) for number in members))


def _check_least(what: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{what} must be at least {least}, but it is {value}")


def _is_folder_name(name: str) -> bool:
    return 0 < len(name) <= 100 and name.isprintable() and name.strip(". ") != "" and not set(name) & set("/\\")


def _check_different(what: str, kinds: Sequence[Any]) -> None:
    """Refuse none, and equal ones: their jobs would be the same."""
    keys = [fingerprint(each) for each in kinds]
    if not keys:
        raise ConfigError(f"{what} must name at least one")
    for k, key in enumerate(keys):
        if key in keys[:k]:
            raise ConfigError(f"{what} must all be different, but numbers {keys.index(key)} and {k} are equal")
