"""Adding trials until the undefended success is known well enough: which jobs come next, and whether to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mithridate import halting
from mithridate.experiment import Experiment
from mithridate.job import Job
from mithridate.sequential import blocks, narrow_enough
from mithridate.store import Store


def parts(experiment: Experiment, store: Store, left: Sequence[Job], width: float | None) -> Iterator[list[Job]]:
    """The jobs ``left`` in the parts that are to be run one after another, each when the one before has ended.

    Without ``width`` all at once. With it, a part holds the jobs of a few whole trials (those that all trials share
    come with the first), and no further part follows once the interval of the undefended success is at most ``width``
    wide for every attack: in the base scenario, of the first victim, without defense (or under the first stack, where
    none goes without). That is decided by the rows of the trials so far alone, so it is the same whatever the executor,
    and after an interruption.
    """
    if width is None:
        yield list(left)
        return
    numbers = list(experiment.numbers())
    for k, block in enumerate(blocks(numbers)):
        wanted = [job for job in left if job.trial in block or (k == 0 and _is_shared(experiment, job))]
        wanted = [job for job in wanted if k == 0 or not _is_shared(experiment, job)]
        if wanted:
            yield wanted
        if reached(experiment, store, numbers[: numbers.index(block[-1]) + 1], width):
            return


def reached(experiment: Experiment, store: Store, numbers: Sequence[int], width: float) -> bool:
    """Whether the interval over the trials of these ``numbers`` is at most ``width`` wide for every attack."""
    return narrow_enough(list(_means(experiment, store, numbers).values()), width)


def width(store: Store) -> float | None:
    """How narrow the interval was to be when trials were last added; None for an ordinary run."""
    note = halting.noted(store)
    return float(note["width"]) if note else None


def started(experiment: Experiment, store: Store, width: float | None) -> None:
    """Note at the beginning of a run that trials are, or were, added by what they show, and nothing is decided yet.

    A run with all its trials done before anybody looked stays an ordinary one.
    """
    before, numbers = halting.noted(store), experiment.numbers()
    if before is None and (width is None or not store.queue.count()[1]):
        return
    known: dict[str, Any] = dict(before or {"trials": 0, "most": 0})
    known |= {"width": known.get("width") if width is None else width, "reached": False}
    store.describe(sequential=known | {"most": max(known["most"], len(numbers))})


def ended(experiment: Experiment, store: Store, width: float | None) -> None:
    """Note at the end of a run whether it stopped because the interval was narrow enough, and after how many trials.

    Without ``width`` all is forgotten once every trial that was ever asked for is done, whatever they showed: their
    number was not chosen by looking then.
    """
    known = halting.noted(store)
    if known is None:
        return
    numbers = list(experiment.numbers())
    if width is None:
        if not store.queue.count()[1] and len(numbers) >= known["most"]:
            store.describe(sequential=None)
        return
    for block in blocks(numbers):
        tried = numbers[: numbers.index(block[-1]) + 1]
        if reached(experiment, store, tried, width):
            done = not halting.left(store, len(tried))
            store.describe(sequential={**known, "trials": len(tried), "reached": done})
            return
    store.describe(sequential={**known, "trials": len(numbers), "reached": False})


def _is_shared(experiment: Experiment, job: Job) -> bool:
    """Whether a job belongs to no trial: its result is used by all of them."""
    return job.kind in ("pretraining", "surrogate") or (job.kind == "clean" and not experiment.resample)


def _means(experiment: Experiment, store: Store, numbers: Sequence[int]) -> dict[str, list[float]]:
    """For each attack (with each of its crews), the mean success of the undefended victims of each trial."""
    defenses = experiment.defense_names()
    place = (
        "attack",
        experiment.scenario_names()[0],
        experiment.victim_names()[0],
        "none" if "none" in defenses else defenses[0],
    )
    found: dict[str, dict[int, list[float]]] = {name: {} for name in experiment.attack_names()}
    columns = ("control", "scenario", "victim", "defense", "attack", "trial", "success")
    wanted = set(numbers)
    for *where, attack, trial, success in store.scalars(columns, kind="victim"):
        if tuple(where) == place and trial in wanted and success is not None:
            found.setdefault(attack, {}).setdefault(trial, []).append(success)
    return {name: [sum(each) / len(each) for _, each in sorted(by_trial.items())] for name, by_trial in found.items()}
