"""Run an experiment's jobs through an executor into a run folder, skip what is there, and draw the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mithridate import artefacts, stopping
from mithridate.driver import Driver, from_plain
from mithridate.errors import ProblemsError
from mithridate.executor import Ended, Executor, Report
from mithridate.experiment import Experiment
from mithridate.halting import enough
from mithridate.job import Job
from mithridate.jobqueue import State
from mithridate.opening import begin
from mithridate.portable import Portable
from mithridate.preflight import problems
from mithridate.report import writing
from mithridate.store import Store
from mithridate.work import MEMORY

__all__ = ["Plan", "begin", "check", "enough", "finish", "plan", "run"]

UNDONE: tuple[State, ...] = ("waiting", "running", "failed", "lost")


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


def run(
    experiment: Experiment,
    store: Store,
    *,
    executor: Executor,
    device: torch.device,
    report: Report,
    states: Sequence[State] = UNDONE,
    until_width: float | None = None,
) -> Iterator[Ended]:
    """Do what is left, writing each job's rows in one go as it ends; yield each end.

    ``states``: only jobs in these, with what they need. Trainings kept for other jobs to begin with are removed once
    all is done. ``until_width``: trials are added only until the undefended success is known as well as that
    (:mod:`mithridate.stopping`); trying failed jobs of such a run again keeps to its width.

    Raises :class:`StoreError` where a poison to be trained on is not what was crafted.
    """
    work = Portable(experiment=experiment, folder=store.folder, device=str(device))
    left = _left(store, states)
    _check_poisons(store, left)
    if until_width is None and "waiting" not in states:
        until_width = stopping.width(store)
    stopping.started(experiment, store, until_width)
    with Driver(store) as driver:
        for part in stopping.parts(experiment, store, left, until_width):
            while part:
                for ended in executor.map(work, part, report=driver.watching(report), started=driver.started):
                    driver.record(ended)
                    yield ended
                part = [job for job in _left(store, ("waiting",)) if job.key in driver.again]
                driver.again.clear()
    stopping.ended(experiment, store, until_width)
    if not plan(store).left or enough(store):
        shutil.rmtree(store.folder / MEMORY, ignore_errors=True)


def _left(store: Store, states: Sequence[State]) -> list[Job]:
    """The jobs in these states, and those not done that they need, in the order wanted."""
    entries = store.queue.entries(UNDONE if set(states) - {"waiting"} else states)
    jobs = {entry.key: (entry.state, from_plain(entry)) for entry in entries}
    wanted, open_ = set[str](), [key for key, (state, _) in jobs.items() if state in states]
    while open_:
        key = open_.pop()
        if key in jobs and key not in wanted:
            wanted.add(key)
            open_ += jobs[key][1].needs
    return [job for key, (_, job) in jobs.items() if key in wanted]


def _check_poisons(store: Store, left: Sequence[Job]) -> None:
    """Raise :class:`StoreError` where a poison that victims will be trained on has other content than was recorded."""
    needed = {need for job in left if job.kind in ("attack", "noise") for need in job.needs}
    artefacts.refuse(store.folder, artefacts.changed(store.folder, store.artefacts(needed, done=True)))


def finish(folder: Path) -> Path:
    """Write ``summary.json`` and ``report.html``; the page's path."""
    return writing.write(folder)
