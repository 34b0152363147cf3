"""Open a run folder for an experiment: see that old and new rows compare, and have its queue filled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mithridate import artefacts, keys, ledger, listing, methods, stacks
from mithridate import experiment as experiment_module
from mithridate import job as job_module
from mithridate.driver import as_plain
from mithridate.errors import ChangedMethodsError, StoreError
from mithridate.experiment import Experiment
from mithridate.job import Job, result_keys
from mithridate.jobqueue import Entry
from mithridate.loading import data_digest, load
from mithridate.settings import METHOD, fingerprint, plain
from mithridate.store import Store, write_atomically
from mithridate.work import NOTES

Changed = Literal["ask", "keep", "redo"]
"""What to do where the code of a method has changed since its rows were computed: refuse with a sentence, go on beside
the old rows, or put these aside and compute them again."""


def begin(
    experiment: Experiment,
    folder: Path,
    *,
    command: str,
    environment: dict[str, Any],
    resume: bool = True,
    changed: Changed = "ask",
) -> Store:
    """The run folder, described and ready.

    Raises :class:`StoreError` where another experiment or another run is there, where a file that rows depend on is
    missing or changed, and without ``resume`` where there is anything at all; :class:`ChangedMethodsError` where
    methods have changed and ``changed`` does not say what to do.
    """
    if not resume:
        _refuse_used(folder)
    store = Store(folder, create=True)
    try:
        before = store.meta()
        _check_alone(store)
        _check_same(before, experiment, folder)
        differing = _differing(before, experiment)
        if differing and changed == "ask":
            raise ChangedMethodsError(folder, differing)
        if changed == "redo":  # and what was kept beside newer rows earlier
            differing = sorted({*differing, *map(str, before.get("mixed", []))})
        with store.at_once():  # refused, it leaves the queue as it was
            fill(experiment, store)
            artefacts.refuse(folder, artefacts.at_start(folder, store.artefacts(done=True)))
            mixed = _settled(experiment, store, before, differing, changed)
            earlier = before.get("environments", [])
            notes = [*experiment.notes, *_protocol(experiment), *_machines(earlier, environment), *_mixed(mixed)]
            store.describe(
                method=METHOD,
                data_digest=data_digest(experiment.data),
                experiment=plain(experiment),
                environment=environment,
                command=command,
                classes=list(load(experiment.data).train.space.classes),
                names=_names(experiment),
                jobs=store.queue.count()[0],
                notes=notes,
                published=experiment.published_beside(),
                ledger=ledger.told(experiment),
                environments=[*earlier, *([] if environment in earlier else [environment])],
                methods={**before.get("methods", {}), **_versions(experiment)},
                mixed=mixed,
            )
        write_atomically(folder / "experiment.json", _json(plain(experiment)))
    except BaseException:
        store.close()
        raise
    return store


def fill(experiment: Experiment, store: Store) -> None:
    """Have the queue hold the experiment's jobs: as it was left, unless anything that decides them has changed."""
    lists = methods.code_of(experiment_module, job_module, keys, listing, stacks)
    digest = data_digest(experiment.data)
    order = _names(experiment)  # by which jobs are numbered: fingerprints do not tell that of mappings (vary, crews)
    settings = identity(plain(experiment), size=True)
    decides = fingerprint(METHOD, lists, digest, settings, order, _strangers(experiment))
    if store.meta().get("plan") == decides:
        store.queue.release()  # what a run that is gone had begun
        return
    store.queue.fill(
        Entry(key=job.key, kind=job.kind, job=as_plain(job), rows=tuple(result_keys(experiment, job)))
        for job in experiment.jobs()
    )
    store.describe(plan=decides)


def identity(settings: Mapping[str, Any], *, size: bool = False) -> dict[str, Any]:
    """The settings that must agree for a run to go on: all but its words and (unless ``size``) its size."""
    free = {"about", "notes"}
    free |= set() if size else {"trials", "runs", "seeds", "controls", "defenses", "vary", "vary_trials"}
    return {key: value for key, value in settings.items() if key not in free}


def _refuse_used(folder: Path) -> None:
    """Refuse a folder that holds anything."""
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(
            f"'{folder}' is not empty, but --no-resume begins in an empty folder and removes nothing; choose another "
            "with --out, or remove it yourself"
        )


def _check_alone(store: Store) -> None:
    """Where the file system knows no locks, refuse a folder whose jobs were alive a moment ago."""
    job = None if store.locked else store.queue.alive()
    if job is not None:
        raise StoreError(
            f"'{store.folder}' is in use by another run (its job {job.key} is computed by {job.owner}); wait for "
            "it, or choose another --out; if that run is gone, try again in a minute"
        )


def _check_same(before: Mapping[str, Any], experiment: Experiment, folder: Path) -> None:
    """Raise :class:`StoreError` where what lies in a run folder would not compare with new results."""
    other = f"choose another folder with --out, or remove '{folder}'"
    if "experiment" in before and identity(before["experiment"]) != identity(plain(experiment)):
        raise StoreError(f"'{folder}' holds the run '{before['experiment'].get('name')}' with other settings; {other}")
    if before.get("data_digest", data_digest(experiment.data)) != data_digest(experiment.data):
        raise StoreError(f"the data have changed since the run in '{folder}' was begun; restore them, or {other}")
    if before.get("method", METHOD) != METHOD:
        raise StoreError(f"'{folder}' was made by a release whose results do not compare with this one's; {other}")


def _versions(experiment: Experiment) -> dict[str, str]:
    """The versions of all methods that decide results, by name."""
    return methods.versions(experiment, [stack.defenses for stack in experiment.stacks()])


def _strangers(experiment: Experiment) -> dict[str, str]:
    return methods.outside(experiment, [stack.defenses for stack in experiment.stacks()])


def _differing(before: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """The methods of this package whose code has changed since the run was begun.

    The versions of other people's methods are part of the keys of what they decide, so that nothing mixes; and a run
    begun before versions were kept is taken as it is.
    """
    then, now, strangers = before.get("methods", {}), _versions(experiment), _strangers(experiment)
    both = [name for name in now if name in then and name not in strangers]
    return [name for name in both if then[name] != now[name] and methods.UNKNOWN not in (then[name], now[name])]


def _settled(
    experiment: Experiment, store: Store, before: Mapping[str, Any], differing: list[str], changed: Changed
) -> list[str]:
    """Do as was said about methods that have changed; the names of those of which rows of two versions stand mixed."""
    mixed = [str(name) for name in before.get("mixed", [])]
    if not differing:
        return mixed
    # notes of jobs that began with other code; that of networks and of trainings under way is part of their names
    shutil.rmtree(store.folder / NOTES, ignore_errors=True)
    if changed == "keep":
        return sorted({*mixed, *differing})
    redo = _users(experiment, set(differing)) | store.queue.unplanned()
    redo |= store.queue.dependents(redo)
    store.supersede(redo, why=f"the code of {_and(differing)} changed")
    return [name for name in mixed if name not in differing]


def _users(experiment: Experiment, names: set[str]) -> set[str]:
    """Keys of the jobs that use any of these methods themselves."""
    uses = _uses(experiment)
    return {job.key for job in experiment.jobs() if names & uses(job)}


def _uses(experiment: Experiment) -> Callable[[Job], frozenset[str]]:
    """A function that says which methods decide a job's result, those of the jobs it needs aside."""

    @cache
    def parts(kind: str, *numbers: int) -> frozenset[str]:
        names = ("scenario", "attack", "crew", "victim", "defense", "run")
        job = Job(kind=kind, **dict(zip(names, numbers, strict=True)))  # type: ignore[arg-type]
        return frozenset(methods.used(*_decides(experiment, job)))

    def uses(job: Job) -> frozenset[str]:
        run = job.run if job.kind in ("pretraining", "surrogate") else 0
        return parts(job.kind, job.scenario, job.attack, job.crew, job.victim, job.defense, run)

    return uses


def _decides(experiment: Experiment, job: Job) -> list[Any]:
    """The settings that a job works by."""
    if job.kind == "pretraining":
        return [experiment.pretrainings()[job.run]]
    if job.kind == "surrogate":
        return [experiment.crew(job.defense)[job.run]]
    if job.kind == "clean":
        chosen = [] if experiment.targets == "any" else [experiment.crew()]
        goal = experiment.threat.goal
        return [experiment.victims[job.victim], experiment.stacks()[job.defense].defenses, goal, chosen]
    found: list[Any] = [experiment.attacks[job.attack], experiment.scenarios()[job.scenario]]
    found.append(experiment.crew(experiment.faced(job.defense)))
    if job.kind == "craft":
        return found
    return [*found, experiment.victims[job.victim], experiment.stacks()[job.defense].defenses]


def _names(experiment: Experiment) -> dict[str, list[str]]:
    """What rows call the parts of the grid, in its order, which that of the rows (as jobs end) does not tell."""
    return {
        "attack": experiment.attack_names(),
        "scenario": experiment.scenario_names(),
        "victim": experiment.victim_names(),
        "defense": experiment.defense_names(),
    }


def _mixed(names: list[str]) -> list[str]:
    """A note for the reader where rows of two versions of a method stand side by side."""
    if not names:
        return []
    return [f"Rows of more than one version of {_and(names)} are mixed here: the code changed during the run."]


def _protocol(experiment: Experiment) -> list[str]:
    """A note on the protocol that a run follows, or on where it leaves it."""
    if experiment.protocol is None:
        return []
    name, left = f"{experiment.protocol.name}, version {experiment.protocol.version}", experiment.deviations()
    if not left:
        return [f"Protocol: {name}, as published (data, threat, victims, set-ups and number of trials)."]
    return [f"Not the protocol {name}, whose numbers these do not compare with. Changed: {'; '.join(left)}."]


def _machines(earlier: list[dict[str, Any]], now: dict[str, Any]) -> list[str]:
    """A note for the reader where a run was computed under different conditions."""
    others = [each for each in earlier if each != now]
    if not others:
        return []
    changed = sorted({key for each in others for key in now if each.get(key) != now[key]})
    return [f"This run was computed in several environments, which differ in: {', '.join(changed)}."]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False) + "\n"
