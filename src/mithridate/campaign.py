"""Run an experiment's jobs through an executor into a run folder, skip what is there, and draw the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mithridate.driver import Driver, as_plain, from_plain
from mithridate.errors import ProblemsError, StoreError
from mithridate.executor import Ended, Executor, Report
from mithridate.experiment import Experiment, Job, result_keys
from mithridate.jobqueue import Entry
from mithridate.loading import data_digest, load
from mithridate.portable import Portable
from mithridate.preflight import problems
from mithridate.report import page, tables
from mithridate.settings import METHOD, fingerprint, plain
from mithridate.store import Store, write_atomically
from mithridate.work import MEMORY

LISTING = 1
"""Raised whenever the same settings list other jobs, or in another order: queues are then filled anew."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is left to do of an experiment in a run folder."""

    jobs: int
    """All jobs."""
    left: int
    """Those that are not done."""


def plan(store: Store) -> Plan:
    """All jobs of the queue that :func:`begin` filled, and those left."""
    jobs, left = store.queue.count()
    return Plan(jobs=jobs, left=left)


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
        _fill(experiment, store)
        store.describe(
            method=METHOD,
            data_digest=data_digest(experiment.data),
            experiment=plain(experiment),
            environment=environment,
            command=command,
            classes=list(load(experiment.data).train.space.classes),
            names=_names(experiment),
            jobs=store.queue.count()[0],
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


def _fill(experiment: Experiment, store: Store) -> None:
    """Have the queue hold the experiment's jobs: as it was left, unless anything that decides them has changed."""
    decides = fingerprint(LISTING, METHOD, data_digest(experiment.data), _identity(plain(experiment), size=True))
    if store.meta().get("plan") == decides:
        store.queue.release()  # what a run that is gone had begun
        return
    store.queue.fill(
        Entry(key=job.key, kind=job.kind, job=as_plain(job), rows=tuple(result_keys(experiment, job)))
        for job in experiment.jobs()
    )
    store.describe(plan=decides)


def run(
    experiment: Experiment, store: Store, *, executor: Executor, device: torch.device, report: Report
) -> Iterator[Ended]:
    """Do what is left, writing each job's rows in one go as it ends; yield each end.

    Trainings kept for other jobs to begin with are removed once all is done.
    """
    work = Portable(experiment=experiment, folder=store.folder, device=str(device))
    left = [from_plain(entry) for entry in store.queue.entries(("waiting", "running", "failed", "lost"))]
    with Driver(store) as driver:
        for ended in executor.map(work, left, report=driver.watching(report)):
            driver.record(ended)
            yield ended
    if not plan(store).left:
        shutil.rmtree(store.folder / MEMORY, ignore_errors=True)


def finish(folder: Path) -> Path:
    """Write ``summary.json`` and ``report.html``; the page's path."""
    tables.write_summary(folder)
    return page.write(folder)


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


def _identity(settings: dict[str, Any], *, size: bool = False) -> dict[str, Any]:
    """The settings that must agree for a run to go on: all but its words and (unless ``size``) its size."""
    free = {"about", "notes"}
    free |= set() if size else {"trials", "runs", "controls", "defenses", "vary", "vary_trials"}
    return {key: value for key, value in settings.items() if key not in free}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False) + "\n"
