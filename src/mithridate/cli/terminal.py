"""What a person sees while jobs run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mithridate.watch import Step

if TYPE_CHECKING:
    from mithridate.executor import Ended
    from mithridate.experiment import Job

_EVERY = 10.0  # seconds between plain lines about one job


def console() -> Console:
    """Standard output; lines are never cut where it is no terminal."""
    return Console(soft_wrap=not sys.stdout.isatty())


def errors_console() -> Console:
    """Standard error."""
    return Console(stderr=True)


class Display(Protocol):
    """Shows a run as it goes."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def step(self, job: Job, step: Step) -> None:
        """A job got further."""

    def ended(self, ended: Ended) -> None:
        """A job ended. Of those that were never run nothing is said: there may be hundreds, for one reason."""


def display(total: int, done: int) -> Display:
    """Bars where standard output is a terminal, lines elsewhere."""
    screen = console()
    return Bars(screen, total, done) if screen.is_terminal else Lines(screen, total, done)


class Bars:
    """One bar for the run, one for each job under way."""

    def __init__(self, screen: Console, total: int, done: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[values]}", style="dim", markup=False),
            console=screen,
        )
        self._all = self._progress.add_task("all jobs", total=total, completed=done, values="")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        self._progress.stop()

    def step(self, job: Job, step: Step) -> None:
        """Move the job's bar; print what a person should read."""
        if step.note:
            self._progress.console.print(f"{job_name(job)}: {step.note}", markup=False, highlight=False)
        text = f"{job_name(job)}: {step.stage}"
        if job.key not in self._tasks:
            self._tasks[job.key] = self._progress.add_task(text, total=step.total, values="")
        self._progress.update(
            self._tasks[job.key], description=text, completed=step.done, total=step.total, values=_numbers(step.values)
        )

    def ended(self, ended: Ended) -> None:
        """Replace the job's bar by a line."""
        task = self._tasks.pop(ended.job.key, None)
        if task is not None:
            self._progress.remove_task(task)
        self._progress.advance(self._all)
        if not ended.lost:
            self._progress.console.print(_end_line(ended), markup=False, highlight=False)


class Lines:
    """A line for each end, and now and then for each job under way."""

    def __init__(self, screen: Console, total: int, done: int) -> None:
        self._screen, self._total, self._done = screen, total, done
        self._last: dict[str, float] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._last.clear()

    def step(self, job: Job, step: Step) -> None:
        """Say where a job is, at most every ten seconds; what a person should read at once."""
        if step.note:
            self._screen.print(f"  {job_name(job)}: {step.note}", markup=False, highlight=False)
        now = time.monotonic()
        if now - self._last.setdefault(job.key, now) < _EVERY:
            return
        self._last[job.key] = now
        text = f"  {job_name(job)}: {step.stage} {step.done}/{step.total}  {_numbers(step.values)}"
        self._screen.print(text, markup=False, highlight=False)

    def ended(self, ended: Ended) -> None:
        """Say that a job ended, and how."""
        self._done += 1
        if not ended.lost:
            text = f"[{self._done}/{self._total}] {_end_line(ended)}"
            self._screen.print(text, markup=False, highlight=False)


def job_name(job: Job) -> str:
    """A job in a few words."""
    words = {
        "pretraining": f"pretrained network {job.run + 1}",
        "surrogate": f"surrogate {job.run + 1}",
        "clean": f"clean victim {job.run + 1}",
        "craft": f"trial {job.trial}",
        "attack": f"trial {job.trial}, victim {job.run + 1}",
        "noise": f"trial {job.trial}, noise control {job.run + 1}",
    }
    scenario = f" (scenario {job.scenario + 1})" if job.scenario else ""
    return words[job.kind] + scenario


def _end_line(ended: Ended) -> str:
    if ended.error:
        return f"{job_name(ended.job)} failed: {ended.error}"
    row = ended.results[0].row
    seconds = f"{row.get('seconds', 0):.1f} s"
    if ended.job.kind == "craft":
        loss = row["trace"].get("loss")
        made = f"crafted, loss {loss[-1]:.3f}" if loss else "of poison"
        return f"{job_name(ended.job)}: {row['rows']} rows {made}, {seconds}"
    if ended.job.kind == "pretraining":
        return f"{job_name(ended.job)}: {row['learner']}, {row['accuracy']:.1%} accurate, {seconds}"
    if ended.job.kind == "surrogate":
        return f"{job_name(ended.job)}: trained, {seconds}"
    if row.get("judged", 0) > len(row["targets"]):  # thousands of rows, of which the row describes a few
        return f"{job_name(ended.job)}: {row['success']:.1%} of {row['judged']} rows wrong as wanted, {seconds}"
    hits = [bool(target["hit"]) for result in ended.results for target in result.row["targets"]]
    said = (
        f"{sum(hits)} of {len(hits)} targets hit" if len(hits) > 1 else ("target hit" if hits[0] else "target missed")
    )
    return f"{job_name(ended.job)}: {said}, {row['clean_accuracy']:.1%} accurate, {seconds}"


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
