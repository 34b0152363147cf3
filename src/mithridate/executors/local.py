"""Run jobs one after another in this process: for a GPU, for debugging, and for the smallest runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mithridate.executor import Ended, Executor, Queue, Report, Work, attempt
from mithridate.experiment import Job
from mithridate.watch import Step, Watch


class Local(Executor):
    """One job at a time, here."""

    def __str__(self) -> str:
        return "one at a time"

    def map(self, work: Work, jobs: Sequence[Job], *, report: Report) -> Iterator[Ended]:
        """Run the jobs in order."""
        queue = Queue(jobs)
        while (job := queue.ready()) is not None:
            ended = attempt(work, job, _reporter(job, report))
            yield ended
            yield from queue.ended(job, failed=bool(ended.error))


def _reporter(job: Job, report: Report) -> Watch:
    """A watch that says which job its steps belong to."""

    def watch(step: Step) -> None:
        report(job, step)

    return watch
