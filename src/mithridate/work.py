"""One job of an experiment performed: a surrogate or victim trained, a poison crafted, and the rows that come of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mithridate import poisonset, registry
from mithridate.attack import Attack
from mithridate.bilevel import Unrollable
from mithridate.boundary import boundary
from mithridate.dataset import Dataset
from mithridate.defense import Truth, protect
from mithridate.detection import detection, keep_pictures
from mithridate.errors import DataError, ShortOfMemoryError
from mithridate.experiment import BARE, Experiment, Job, result_keys
from mithridate.feature_attack import trained_networks
from mithridate.feature_map import feature_map
from mithridate.goal import Aims, Goal
from mithridate.knowledge import Box
from mithridate.learner import Learner, predictions
from mithridate.learners.cached import Cached, training_key
from mithridate.ledger import is_oracle
from mithridate.loading import load
from mithridate.memory import halving, out_of_memory
from mithridate.methods import versions
from mithridate.naming import label, perturbation_name, weights_label
from mithridate.notes import EVERY, Notes
from mithridate.poison import Poison
from mithridate.polytope_view import polytope_view
from mithridate.seeding import Seed
from mithridate.settings import fingerprint, plain
from mithridate.source import Split
from mithridate.training import Training, observed_training, peak_memory
from mithridate.trial import Trial, accuracy, beginnings, calls_of, certified, confusion, judge, noise_like
from mithridate.unrollable_cache import UnrollableCached
from mithridate.watch import Watch, silent

MEMORY = "memory"
"""Folder in a run for trainings that other jobs of it begin with; removed once nothing is left to do."""
MEMORY_BYTES = 4 << 30
NOTES = "notes"
"""Folder in a run for where unfinished jobs stand, a folder for each; removed as they are done."""
SAVE_EVERY = EVERY
"""Seconds between two notes of where a job stands."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row for the store."""

    key: str
    kind: Literal["craft", "victim", "surrogate", "pretraining"]
    row: Mapping[str, Any]
    files: tuple[str, ...] = ()
    """The files that belong to the row (a poison set's, pictures), as paths relative to the run folder."""


def perform(
    experiment: Experiment,
    job: Job,
    *,
    folder: Path,
    device: torch.device,
    watch: Watch = silent,
    save_every: float | None = None,
) -> list[Result]:
    """Do one job and return its rows. Files go to ``folder``; the store is written by the caller alone.

    A job that was interrupted goes on where it stood, at most ``save_every`` seconds (:data:`SAVE_EVERY`) before.
    Raises :class:`ShortOfMemoryError` where memory runs out and nothing that changes no result can be lowered.
    """
    peak: list[int] = []
    data = _moved(data_of(experiment, job), device)
    with peak_memory(device, peak.append):
        try:
            results = _WORK[job.kind](experiment, job, data, folder, watch, save_every or SAVE_EVERY)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise ShortOfMemoryError(_too_large(experiment, job, error)) from error
    _forget(folder / NOTES / job.key)
    return [replace(result, row={**result.row, "peak_memory": peak[0]}) for result in results]


def _forget(notes: Path) -> None:
    """Remove the notes of a job that is done."""
    shutil.rmtree(notes, ignore_errors=True)
    with suppress(OSError):  # those of other jobs lie beside it
        notes.parent.rmdir()


def _too_large(experiment: Experiment, job: Job, error: BaseException) -> str:
    """That a job found no memory, and what to lower."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    fewer = "or run fewer jobs at a time (--workers 1)"
    if job.kind == "craft":
        attack = experiment.attacks[job.attack]
        tried = ", even with micro_batch 1" if _micro_batch(attack) else ""
        return (
            f"crafting with {attack.name} ran out of memory{tried} ({said}); lower threat.budget, take smaller or "
            f"fewer surrogates, {fewer}"
        )
    return f"training ran out of memory ({said}); lower the learner's batch_size, take a smaller network, {fewer}"


def _micro_batch(attack: Attack) -> int:
    """How many rows an attack differentiates at once, which changes no result; 0 where it has no such setting."""
    assert is_dataclass(attack), "settings are dataclasses"
    return next((int(getattr(attack, each.name)) for each in fields(attack) if each.name == "micro_batch"), 0)


def data_of(experiment: Experiment, job: Job) -> Split:
    """The data a job sees: of the source's rows, those of its trial."""
    return experiment.rows(job, load(experiment.data))


def _pretraining(
    experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch, every: float
) -> list[Result]:
    """Pretrain one of the networks that others start from; it is kept in the cache that all runs share."""
    weights, started = experiment.pretrainings()[job.run], time.perf_counter()
    found = weights.network(data.train.device, watch=watch)
    test = load(weights.data).test
    row = {
        "learner": weights_label(weights),
        "data": plain(weights.data),
        "classes": list(test.space.classes),
        "rows": len(load(weights.data).train),
        "accuracy": accuracy(found.model, test.to(data.train.device)),
        "seconds": time.perf_counter() - started + found.reused,
        "reused": found.reused,
    }
    return [Result(key=job.key, kind="pretraining", row=row)]


def _surrogate(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch, every: float) -> list[Result]:
    """Train a shared surrogate, so that crafting finds it in the cache."""
    crew = cached_crew(experiment, folder, job.defense, save_every=every)
    learner, known = crew[job.run], experiment.trial(job).known_rows(data)
    found = observed_training(learner, known, seed=Seed(0), watch=watch, stage="surrogate")
    row = {"surrogate": job.run, "learner": label(experiment.crew()[job.run]), "curve": found.curve}
    row["seconds"] = found.seconds
    return [Result(key=job.key, kind="surrogate", row=row)]


def _craft(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch, every: float) -> list[Result]:
    """Craft one poison and write it as a poison set."""
    trial, started = experiment.trial(job), time.perf_counter()
    goal = _goal(experiment, trial, _worth_attacking(experiment, data, folder))
    everybody = cached_crew(experiment, folder, experiment.faced(job.defense), save_every=every)
    crew = [everybody[number] for number in experiment.members(job)]
    key = fingerprint(job.key, trial.attack, versions(trial.attack), data.train.device.type)
    notes = Notes(folder / NOTES / job.key / "craft.part", key=key, every=every)
    poison, lowered = _crafted(trial, data, goal, crew, watch, notes)
    seconds = time.perf_counter() - started + notes.before
    result = keep(experiment, job, poison, goal=goal, crew=crew, data=data, folder=folder, seconds=seconds)
    return [replace(result, row={**result.row, **lowered})]


def _crafted(
    trial: Trial, data: Split, goal: Goal, crew: Sequence[Learner], watch: Watch, notes: Notes
) -> tuple[Poison, dict[str, int]]:
    """The poison of a trial; where memory was too short for the attack's ``micro_batch``, also the one that fitted."""
    size = _micro_batch(trial.attack)
    if not size:
        return trial.craft(data, goal, surrogates=crew, watch=watch, notes=notes), {}
    size = max(1, min(size, trial.threat.count(trial.known_rows(data))))  # more than there are rows would halve nothing

    def crafted(now: int) -> Poison:
        assert is_dataclass(trial.attack), "settings are dataclasses"
        lowered = trial.attack if now == size else replace(trial.attack, micro_batch=now)
        return replace(trial, attack=lowered).craft(data, goal, surrogates=crew, watch=watch, notes=notes)

    poison, fitting = halving(crafted, size=size, watch=watch)
    return poison, {"micro_batch": fitting} if fitting < size else {}


def keep(
    experiment: Experiment,
    job: Job,
    poison: Poison,
    *,
    goal: Goal,
    crew: Sequence[Learner],
    data: Split,
    folder: Path,
    seconds: float,
) -> Result:
    """Write a released poison as the poison set of a craft job; its row for the store."""
    trial = experiment.trial(job)
    known = trial.known_rows(data)
    details = {"threat": plain(trial.threat), "attack": plain(trial.attack), "seed": trial.seed.value}
    details |= {"surrogates": plain(trial.surrogates), "data": plain(experiment.data), "trial": job.trial}
    poisonset.write(
        folder / "poisons" / job.key,
        poison=poison,
        base=poison.clean(known),
        aims=goal.judged,
        details=details,
        data_digest=data.train.digest(),
    )
    row = {
        **_place(experiment, job, data.train),
        "rows": len(poison.rows),
        "total_share": _share(poison, data.train),
        "seconds": seconds,
        "trace": {name: list(curve) for name, curve in poison.trace.items()},
        "folder": f"poisons/{job.key}",
        "surrogates": list(experiment.members(job)) if trial.attack.needs_surrogate else [],
        "defense": experiment.defense_names()[job.defense] if experiment.adaptive else None,
        "boxes": [_box(experiment, job, victim) for victim in range(len(experiment.victims))],
        "polytope": _polytopes(trial, crew, data, poison, goal.known),
    }
    files = tuple(f"poisons/{job.key}/{name}" for name in (poisonset.MANIFEST, poisonset.TENSORS))
    return Result(key=job.key, kind="craft", row=row, files=files)


def _share(poison: Poison, train: Dataset) -> float:
    """Poisoned rows as a share of all that victims train on, in [0, 1]."""
    appended = ~torch.isin(poison.rows.ids.to(train.device), train.ids)
    return len(poison.rows) / max(len(train) + int(appended.sum()), 1)


def _polytopes(
    trial: Trial, crew: Sequence[Learner], data: Split, poison: Poison, aims: Aims
) -> list[dict[str, Any]] | None:
    """Where the poison as exported lies in each surrogate's feature space, for attacks that work there."""
    if not trial.attack.in_feature_space or not len(poison.rows):
        return None
    names = [label(each) for each in trial.attack.crew(trial.surrogates)]
    networks = trained_networks(trial.attack.crew(crew), data.train, seed=trial.crafting.child("surrogates"))
    return [
        {"network": name, **view}
        for name, model in zip(names, networks, strict=True)
        if (view := polytope_view(model, data.train, poison=poison, aims=aims)) is not None
    ]


def _victim(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch, every: float) -> list[Result]:
    """Train and judge one victim on the poison as exported, or on noise in its place."""
    trial = experiment.trial(job)
    found = poisonset.read(folder / "poisons" / job.needs[0], triggers=registry.triggers())
    poison: Poison = found.poison
    aims = found.aims
    if job.kind == "noise":
        noise_seed = trial.seed.child("noise", job.run)
        base = beginnings(poison, found.base, data.train, seed=noise_seed)
        poison = noise_like(poison, base, threat=trial.threat, seed=noise_seed)
    poisoned = poison.apply(data.train)
    seed = trial.seed.child("victim", job.run)
    learner = _defended(experiment, job, folder, poison.rows.ids, save_every=every)
    training = observed_training(learner, poisoned, seed=seed, watch=watch)
    row = {
        **_place(experiment, job, data.train),
        **_victim_row(experiment, job),
        **_judged(training, [aims], data, job)[0],
        **_removed(training, job, poisoned, poison.rows.ids, folder),
        "map": feature_map(training.model, poisoned, aims=aims, poison_ids=poison.rows.ids) if _shown(job) else None,
        "boundary": boundary(training.model, poisoned, poison_ids=poison.rows.ids) if _shown(job) else None,
    }
    files = (row["dropped_images"],) if row["dropped_images"] else ()
    return [Result(key=job.key, kind="victim", row=row, files=files)]


def _clean(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch, every: float) -> list[Result]:
    """Train one victim on clean data and judge it on the targets of every trial that trains on the same rows.

    Where each trial has rows of its own, it begins as the poisoned victim of the same number does.
    """
    nobody, own = torch.zeros(0, dtype=torch.int64), experiment.resample
    learner = _defended(experiment, job, folder, nobody, save_every=every)
    learner = learner if own else Cached(learner=learner, folder=folder / "networks")
    seed = experiment.trial(job).seed.child("victim", job.run)
    seed = seed if own else Seed(experiment.seed).child("clean victim", job.run)
    training = observed_training(learner, data.train, seed=seed, watch=watch, stage="clean victim")
    same = {
        **_victim_row(experiment, job),
        **_removed(training, job, data.train, nobody, folder),
        "attack": None,
        "scenario": None,
        "training_rows": len(data.train),
        "boundary": None if job.run else boundary(training.model, data.train, poison_ids=nobody),
    }
    numbers, pool = [job.trial] if own else experiment.numbers(), _worth_attacking(experiment, data, folder)
    goals = [_goal(experiment, experiment.trial(replace(job, trial=number)), pool) for number in numbers]
    judged = _judged(training, [goal.judged for goal in goals], data, job)
    rows = [
        {**same, **found, "trial": number, "map": _clean_map(experiment, job, number, training, goal, data)}
        for number, goal, found in zip(numbers, goals, judged, strict=True)
    ]
    keys = result_keys(experiment, job)
    return [Result(key=key, kind="victim", row=row) for key, row in zip(keys, rows, strict=True)]


def _clean_map(
    experiment: Experiment, job: Job, number: int, training: Training, goal: Goal, data: Split
) -> dict[str, Any] | None:
    """Where a trial's target and the rows to be poisoned lie for a clean victim; of the first victims only."""
    if job.run or goal.judged.wanted is None:
        return None
    here = replace(job, kind="craft", trial=number)
    trial = experiment.trial(here)
    if experiment.setups and experiment.training_rows:  # of which the base rows of this trial are a part
        data = _moved(data_of(experiment, here), data.train.device)
    picked = trial.threat.pick(trial.known_rows(data), goal.known, trial.crafting.child("pick"))
    return feature_map(training.model, data.train, aims=goal.judged, poison_ids=picked)


_WORK = {
    "pretraining": _pretraining,
    "surrogate": _surrogate,
    "craft": _craft,
    "attack": _victim,
    "noise": _victim,
    "clean": _clean,
}


def _defended(experiment: Experiment, job: Job, folder: Path, poison_ids: Tensor, *, save_every: float) -> Learner:
    """The victim's learner inside its defenses, the oracles among them told the truth.

    Where there are several stacks, trainings are remembered for a while: a filter's probe is the undefended network of
    the same seed, and a control begins with the training of the defense it controls. Else those of a defense are
    remembered until the job is done, so that it can go on with the one that was interrupted.
    """
    learner, found = experiment.victims[job.victim], experiment.stacks()
    defenses = found[job.defense].defenses
    if len(found) > 1:
        learner = Cached(learner=learner, folder=folder / MEMORY, room=MEMORY_BYTES, save_every=save_every)
    else:
        own = folder / NOTES / job.key
        learner = Cached(learner=learner, folder=own, save_every=save_every, keep=bool(defenses))
    truth = Truth(poison_ids=poison_ids)
    return protect(learner, [defense.told(truth) for defense in defenses])


def _judged(training: Training, aims: Sequence[Aims], data: Split, job: Job) -> list[dict[str, Any]]:
    """What a trained victim did, for its rows: one for each of the aims it is judged on."""
    calls = calls_of(training.model, data.test)
    same = {
        "confusion": confusion(calls, data.test),
        "curve": {name: list(values) for name, values in training.curve.items()},
        "seconds": training.seconds,
        "reused": training.reused,
        "facts": dict(training.facts),
        "certified": certified(training.model, data.test),
        "training": job.key,
    }
    found = [judge(training.model, each, data.test, calls=calls) for each in aims]
    return [
        {**metrics, "targets": list(targets), "judged": len(each), **same}
        for each, (metrics, targets) in zip(aims, found, strict=True)
    ]


def _removed(training: Training, job: Job, data: Dataset, poison_ids: Tensor, folder: Path) -> dict[str, Any]:
    """What the victim's defenses removed, for its row; pictures of the first victims only."""
    pictures = f"dropped/{job.key}.npz"
    kept = _shown(job) and keep_pictures(training.removals, data, poison_ids, folder / pictures)
    return {**detection(training.removals, data, poison_ids), "dropped_images": pictures if kept else None}


def _shown(job: Job) -> bool:
    return job.run == 0 and job.kind == "attack"


def _goal(experiment: Experiment, trial: Trial, pool: Split) -> Goal:
    """The goal of a trial, drawn from what is worth attacking."""
    try:
        return trial.goal(pool)
    except DataError as error:
        if experiment.targets == "any":
            raise
        raise DataError(f"of the test rows that every surrogate calls by their right name: {error}") from error


def _worth_attacking(experiment: Experiment, data: Split, folder: Path) -> Split:
    """The data that goals are drawn from: with ``targets: correct``, test rows that every surrogate gets right."""
    if experiment.targets == "any":
        return data
    known = data.train if experiment.threat.knows == "training-rows" else data.own
    assert known is not None, "an experiment whose attacker has rows of its own cuts them"
    right = torch.ones(len(data.test), dtype=torch.bool, device=data.test.device)
    for learner in cached_crew(experiment, folder):
        model = learner.fit(known, seed=Seed(0)).model
        right &= predictions(model, data.test.all_inputs()).argmax(1) == data.test.labels
    return replace(data, test=data.test.at(right))


def _moved(data: Split, device: torch.device) -> Split:
    if device.type == "cpu":
        return data
    validation, own = (None if part is None else part.to(device) for part in (data.validation, data.own))
    return Split(train=data.train.to(device), test=data.test.to(device), validation=validation, own=own)


def cached_crew(
    experiment: Experiment, folder: Path, stack: int = BARE, *, save_every: float = SAVE_EVERY
) -> list[Learner]:
    """The surrogate learners inside a stack of defenses, each trained once for all trials, or once for each.

    Every ``save_every`` seconds it is noted where a training stands.
    """
    trials_differ = experiment.resample or bool(experiment.training_rows and experiment.setups)  # in their rows
    shared = experiment.share_surrogates and not experiment.resample
    place, room = (folder / MEMORY, MEMORY_BYTES) if trials_differ else (folder / "networks", 0)
    found: list[Learner] = []
    for k, learner in enumerate(experiment.crew(stack)):
        pinned = Seed(experiment.seed).child("surrogate", k) if shared else None
        if isinstance(learner, Unrollable):
            kept: Cached = UnrollableCached(
                learner=learner, folder=place, room=room, pinned=pinned, save_every=save_every
            )
        else:
            kept = Cached(learner=learner, folder=place, room=room, pinned=pinned, save_every=save_every)
        found.append(kept)
    return found


def shared_networks(experiment: Experiment, folder: Path, stack: int) -> list[Path]:
    """Where the surrogates inside a stack are kept, there or not; empty where trials do not share them."""
    found: list[Path] = []
    for k, each in enumerate(cached_crew(experiment, folder, stack)):
        if isinstance(each, Cached) and each.pinned and not each.room and each.learner.remembered:
            job = Job(kind="surrogate", defense=stack, run=k)
            known = experiment.trial(job).known_rows(data_of(experiment, job))
            found.append(each.folder / f"{training_key(each.learner, known, each.pinned, [])}.safetensors")
    return found


def _place(experiment: Experiment, job: Job, train: Dataset) -> dict[str, Any]:
    """Where a row belongs in the tables."""
    threat = experiment.scenarios()[job.scenario]
    return {
        "attack": experiment.attack_name(job),
        "crew": experiment.crew_name(job.attack, job.crew),
        "seed": job.seed,
        "scenario": experiment.scenario_names()[job.scenario],
        "trial": job.trial,
        "budget": threat.budget,
        "radius": perturbation_name(threat),
        "radius_value": getattr(threat.perturbation, "radius", None),
        "training_rows": len(train),
    }


def _box(experiment: Experiment, job: Job, victim: int) -> Box | None:
    return experiment.box(job.attack, victim, scenario=job.scenario, crew=job.crew)


def _victim_row(experiment: Experiment, job: Job) -> dict[str, Any]:
    names, stack = experiment.defense_names(), experiment.stacks()[job.defense]
    return {
        "control": job.kind,
        "defense": names[job.defense],
        "control_of": [names[each] for each in stack.control_of] or None,
        "oracle": is_oracle(experiment, job),
        "victim": experiment.victim_names()[job.victim],
        "box": _box(experiment, job, job.victim) if job.kind != "clean" else None,
        "run": job.run,
    }
