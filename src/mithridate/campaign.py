"""Run an experiment's jobs through an executor into a run folder, skip what is there, and draw the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mithridate.errors import ProblemsError, StoreError
from mithridate.executor import Ended, Executor, Report
from mithridate.experiment import Experiment, Job, result_keys
from mithridate.loading import data_digest, load
from mithridate.preflight import problems
from mithridate.report import page, tables
from mithridate.settings import METHOD, plain
from mithridate.store import Failure, Store, write_atomically
from mithridate.watch import Watch
from mithridate.work import MEMORY, Result, perform


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is left to do of an experiment in a run folder."""

    jobs: tuple[Job, ...]
    """All jobs, in the order wanted."""
    left: tuple[Job, ...]
    """Those whose rows the store does not hold."""


def plan(experiment: Experiment, store: Store) -> Plan:
    """All jobs, and those left. A craft job counts as done only while its poison set is still there."""
    jobs, there = experiment.jobs(), store.keys()

    def done(job: Job) -> bool:
        kept = job.kind != "craft" or (store.poison_folder(job.key) / "manifest.json").is_file()
        return kept and all(key in there for key in result_keys(experiment, job))

    return Plan(jobs=tuple(jobs), left=tuple(job for job in jobs if not done(job)))


def check(experiment: Experiment) -> None:
    """Raise :class:`ProblemsError` with everything that would stop the experiment."""
    found = problems(experiment)
    if found:
        raise ProblemsError(found)


def begin(experiment: Experiment, folder: Path, *, command: str, environment: dict[str, Any]) -> Store:
    """The run folder, described and ready. Raises :class:`StoreError` where another experiment lies there."""
    store = Store(folder, create=True)
    try:
        _check_same(store.meta(), experiment, folder)
        earlier = store.meta().get("environments", [])
        store.describe(
            method=METHOD,
            data_digest=data_digest(experiment.data),
            experiment=plain(experiment),
            environment=environment,
            command=command,
            classes=list(load(experiment.data).train.space.classes),
            names=_names(experiment),
            jobs=len(experiment.jobs()),
            keys=[key for job in experiment.jobs() for key in result_keys(experiment, job)],
            notes=[*experiment.notes, *_protocol(experiment), *_machines(earlier, environment)],
            published=experiment.published_beside(),
            environments=[*earlier, *([] if environment in earlier else [environment])],
        )
        write_atomically(folder / "experiment.json", _json(plain(experiment)))
    except BaseException:
        store.close()
        raise
    return store


def _names(experiment: Experiment) -> dict[str, list[str]]:
    """What rows call the parts of the grid, in its order, which that of the rows (as jobs end) does not tell."""
    return {
        "attack": experiment.attack_names(),
        "scenario": experiment.scenario_names(),
        "victim": experiment.victim_names(),
        "defense": experiment.defense_names(),
    }


def _check_same(before: Mapping[str, Any], experiment: Experiment, folder: Path) -> None:
    """Raise :class:`StoreError` where what lies in a run folder would not compare with new results."""
    other = f"choose another folder with --out, or remove '{folder}'"
    if "experiment" in before and _identity(before["experiment"]) != _identity(plain(experiment)):
        raise StoreError(f"'{folder}' holds the run '{before['experiment'].get('name')}' with other settings; {other}")
    if before.get("data_digest", data_digest(experiment.data)) != data_digest(experiment.data):
        raise StoreError(f"the data have changed since the run in '{folder}' was begun; restore them, or {other}")
    if before.get("method", METHOD) != METHOD:
        raise StoreError(f"'{folder}' was made by a release whose results do not compare with this one's; {other}")


def run(
    experiment: Experiment, store: Store, *, executor: Executor, device: torch.device, report: Report
) -> Iterator[Ended]:
    """Do what is left, writing each job's rows in one go as it ends; yield each end.

    Trainings kept for other jobs to begin with are removed once all is done.
    """
    work = partial(_perform, experiment, store.folder, str(device))
    for ended in executor.map(work, plan(experiment, store).left, report=report):
        if ended.error:
            store.fail(Failure(key=ended.job.key, kind=ended.job.kind, message=ended.error, trace=ended.trace))
        else:
            # a clean victim is asked again when trials are added: the rows of its first training stay as they are
            there = store.keys() if ended.job.kind == "clean" else set()
            store.add_all([(each.key, each.kind, each.row) for each in ended.results if each.key not in there])
        yield ended
    if not plan(experiment, store).left:
        shutil.rmtree(store.folder / MEMORY, ignore_errors=True)


def finish(folder: Path) -> Path:
    """Write ``summary.json`` and ``report.html``; the page's path."""
    tables.write_summary(folder)
    return page.write(folder)


def _perform(experiment: Experiment, folder: Path, device: str, job: Job, watch: Watch) -> list[Result]:
    """One job, as workers call it."""
    return perform(experiment, job, folder=folder, device=torch.device(device), watch=watch)


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


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that must agree for a run to go on: all but its size and its words."""
    free = {"about", "notes", "trials", "runs", "controls", "defenses", "vary", "vary_trials"}
    return {key: value for key, value in settings.items() if key not in free}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False) + "\n"
