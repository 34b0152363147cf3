"""An executor runs jobs somewhere, each after those it needs, and hands back what they return as they end."""

from __future__ import annotations

import heapq
import traceback
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mithridate.errors import MithridateError
from mithridate.experiment import Job, JobKind
from mithridate.watch import Step, Watch
from mithridate.work import Result

Work = Callable[[Job, Watch], list[Result]]
"""What is done with a job: it returns rows, and reports steps while it works. Must pickle for other processes."""
Report = Callable[[Job, Step], None]
Started = Callable[[Job, str], None]
"""Called in the driver's process when a job is begun, and where (``worker 2``, ``node 10.0.0.7``); again at each
further attempt."""

ATTEMPTS = 3
"""How often a job is begun whose worker dies each time; then it has failed."""


def unnoticed(job: Job, where: str) -> None:
    """Take no notice of jobs that begin."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that ended: with rows, or with an error and its traceback."""

    job: Job
    results: tuple[Result, ...] = ()
    error: str = ""
    trace: str = ""
    lost: bool = False
    """Whether it was never run, because a job it needs failed or was lost itself."""
    attempts: int = 1
    """How often it was begun: more than once where workers or nodes died; 0 where it was never run."""
    where: str = ""
    """Where it ended, as told to ``started``."""


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
    def map(self, work: Work, jobs: Sequence[Job], *, report: Report, started: Started = unnoticed) -> Iterator[Ended]:
        """Run all jobs, each once the jobs it needs have succeeded; yield each as it ends.

        ``jobs`` come in the order they are wanted; needs that are not among them count as met. A job whose need failed
        is not run and ends with an error that says so. A job whose worker dies is begun again, :data:`ATTEMPTS` times
        in all, and ends with an error then.
        """


class Queue:
    """Which jobs may start: those whose needs are met, in the order given. Each call costs O(log n)."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)
        own = {job.key for job in jobs}
        open_needs = [{need for need in job.needs if need in own} for job in jobs]
        self._missing = [len(needs) for needs in open_needs]
        self._needed_by: dict[str, list[int]] = defaultdict(list)  # places, ascending
        for place, needs in enumerate(open_needs):
            for need in needs:
                self._needed_by[need].append(place)
        self._ready = [place for place, missing in enumerate(self._missing) if not missing]  # ascending: a heap
        self._gone: set[int] = set()  # places handed out or lost
        self._taken: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._jobs) - len(self._gone)

    def ready(self) -> Job | None:
        """The first job that may start now, taken off the queue; None where all that wait need others first."""
        if not self._ready:
            return None
        place = heapq.heappop(self._ready)
        job = self._jobs[place]
        self._gone.add(place)
        self._taken[job.key] = place
        return job

    def again(self, job: Job) -> None:
        """Put a job that was taken off the queue back in its place."""
        place = self._taken.pop(job.key)
        self._gone.discard(place)
        heapq.heappush(self._ready, place)

    def ended(self, job: Job, *, failed: bool) -> list[Ended]:
        """Record an end; the jobs that can now never run, as ended with an error."""
        self._taken.pop(job.key, None)
        if failed:
            return self._without(job, f"not run: the {_KINDS[job.kind]} job it needs failed")
        for place in self._needed_by.pop(job.key, ()):
            self._missing[place] -= 1
            if not self._missing[place] and place not in self._gone:
                heapq.heappush(self._ready, place)
        return []

    def _without(self, job: Job, error: str) -> list[Ended]:
        """The waiting jobs that need one which has no result, and those that need these; all for the same reason."""
        places = [place for place in self._needed_by.pop(job.key, ()) if place not in self._gone]
        self._gone.update(places)
        lost = [self._jobs[place] for place in places]
        found = [Ended(job=each, error=error, lost=True, attempts=0) for each in lost]
        for each in lost:
            found += self._without(each, error)
        return found


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
