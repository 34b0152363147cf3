"""An executor runs jobs somewhere, each after those it needs, and hands back what they return as they end."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mithridate.errors import MithridateError
from mithridate.experiment import Job, JobKind
from mithridate.watch import Step, Watch
from mithridate.work import Result

Work = Callable[[Job, Watch], list[Result]]
"""What is done with a job: it returns rows, and reports steps while it works. Must pickle for other processes."""
Report = Callable[[Job, Step], None]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that ended: with rows, or with an error and its traceback."""

    job: Job
    results: tuple[Result, ...] = ()
    error: str = ""
    trace: str = ""
    lost: bool = False
    """Whether it was never run, because a job it needs failed or was lost itself."""


_KINDS: Mapping[JobKind, str] = {
    "pretraining": "pretraining",
    "surrogate": "surrogate",
    "clean": "clean victim",
    "craft": "craft",
    "attack": "poisoned victim",
    "noise": "noise control",
}
"""Kinds of jobs in the words of a sentence."""


class Stopped(Exception):  # noqa: N818 (a signal, no error)
    """Raised inside a job when the run is being stopped."""


class Executor(ABC):
    """Somewhere to run jobs. Kinds live in ``executors/``."""

    @abstractmethod
    def map(self, work: Work, jobs: Sequence[Job], *, report: Report) -> Iterator[Ended]:
        """Run all jobs, each once the jobs it needs have succeeded; yield each as it ends.

        ``jobs`` come in the order they are wanted; needs that are not among them count as met. A job whose need failed
        is not run and ends with an error that says so.
        """


class Queue:
    """Which jobs may start: those whose needs are met, in the order given."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = list(jobs)
        self._open = {job.key for job in jobs}
        self._failed: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def ready(self) -> Job | None:
        """The first job that may start now, taken off the queue; None where all that wait need others first."""
        for k, job in enumerate(self._waiting):
            if not any(need in self._open for need in job.needs):
                return self._waiting.pop(k)
        return None

    def ended(self, job: Job, *, failed: bool) -> list[Ended]:
        """Record an end; the jobs that can now never run, as ended with an error."""
        self._open.discard(job.key)
        return self._without(job, f"not run: the {_KINDS[job.kind]} job it needs failed") if failed else []

    def _without(self, job: Job, error: str) -> list[Ended]:
        """The waiting jobs that need one which has no result, and those that need these; all for the same reason."""
        self._open.discard(job.key)
        lost = [each for each in self._waiting if job.key in each.needs]
        self._waiting = [each for each in self._waiting if job.key not in each.needs]
        found = [Ended(job=each, error=error, lost=True) for each in lost]
        return found + [more for each in lost for more in self._without(each, error)]


def attempt(work: Work, job: Job, watch: Watch) -> Ended:
    """Run one job and catch what goes wrong, so that a campaign can go on."""
    try:
        return Ended(job=job, results=tuple(work(job, watch)))
    except (KeyboardInterrupt, Stopped):
        raise
    except MithridateError as error:
        return Ended(job=job, error=str(error), trace=traceback.format_exc())
    except Exception as error:  # a job may fail in any way; the traceback is kept
        return Ended(job=job, error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
