"""Run jobs one after another in this process: for a GPU, for debugging, and for the smallest runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mithridate.executor import Ended, Executor, Queue, Report, Started, Work, attempt, unnoticed
from mithridate.experiment import Job
from mithridate.watch import Step, Watch


class Local(Executor):
    """One job at a time, here."""

    def __str__(self) -> str:
        return "one at a time"

    def map(self, work: Work, jobs: Sequence[Job], *, report: Report, started: Started = unnoticed) -> Iterator[Ended]:
        """Run the jobs in order."""
        queue = Queue(jobs)
        while (job := queue.ready()) is not None:
            started(job, "this process")
            ended = attempt(work, job, _reporter(job, report))
            yield ended
            yield from queue.ended(job, failed=bool(ended.error))


def _reporter(job: Job, report: Report) -> Watch:
    """A watch that says which job its steps belong to."""

    def watch(step: Step) -> None:
        report(job, step)

    return watch
