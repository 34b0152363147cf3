"""Run jobs in worker processes of one thread each: on a CPU faster than one process with many threads.

A worker that dies (killed, or out of memory) takes nothing but its own job with it, which is begun again in a fresh
one. On GPUs each worker has one of its own, or shares it with as many others as are asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from mithridate import runtime
from mithridate.executor import ATTEMPTS, Ended, Executor, Queue, Report, Started, Work, unnoticed
from mithridate.executors.worker import End, Worker
from mithridate.experiment import Job
from mithridate.watch import Step

_GRACE = 10.0  # seconds that workers have to stop before they are killed
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_LOOK = 2.0  # seconds between looks at the memory left, where workers say nothing
_SPARE = 1.1  # what a job needed before and a little, since jobs of a kind differ


class Processes(Executor):
    """Several jobs at a time, each in a process of its own with one computing thread."""

    def __init__(self, workers: int, *, gpus: Sequence[str] = ()) -> None:
        """As many ``workers`` as given, or one for each of ``gpus``, named as CUDA_VISIBLE_DEVICES does.

        A GPU that is named several times has as many workers.
        """
        self.gpus = tuple(gpus)
        self.workers = len(self.gpus) or max(1, workers)

    def __str__(self) -> str:
        there = len(set(self.gpus))
        if there == len(self.gpus):
            return f"{self.workers} at a time" + (", each on a GPU of its own" if there else "")
        return f"{self.workers} at a time, on {there} GPU{'s' * (there != 1)}"

    def map(self, work: Work, jobs: Sequence[Job], *, report: Report, started: Started = unnoticed) -> Iterator[Ended]:
        """Run the jobs; on an interrupt the workers stop at their next report and the interrupt goes on.

        A further job is begun only while memory is left for it, as far as earlier jobs of its kind tell.
        """
        crew = _Crew(work, report, started, count=min(self.workers, len(jobs)), gpus=self.gpus)
        queue = Queue(jobs)
        try:
            while True:
                crew.begin(queue)
                if not crew.busy:
                    return
                for ended in crew.ended(queue):
                    yield ended
                    yield from queue.ended(ended.job, failed=bool(ended.error))
        finally:
            crew.stop()


class _Crew:
    """The workers of one run."""

    def __init__(self, work: Work, report: Report, started: Started, *, count: int, gpus: Sequence[str]) -> None:
        self._work, self._report, self._started, self._gpus = work, report, started, gpus
        self._workers: list[Worker | None] = [None] * count  # a process is started when it is first needed
        self._attempts: Counter[str] = Counter()
        self._peaks: dict[str, int] = {}  # the most memory that a worker held after a job of a kind, in bytes
        self._said = False  # that memory is short

    @property
    def _running(self) -> list[str]:
        """The keys of the jobs under way."""
        return [each.job.key for each in self.busy if each.job]

    @property
    def busy(self) -> list[Worker]:
        """The workers that have a job."""
        return [each for each in self._workers if each and each.job]

    def begin(self, queue: Queue) -> None:
        """Give the first jobs that may start to idle workers, while there is memory for them."""
        for number, worker in enumerate(self._workers):
            if worker and worker.job:
                continue
            job = queue.ready()
            if job is None:
                return
            if self.busy and not self._may_join(job, worker):
                queue.again(job)
                return
            worker = worker or self._hired(number)
            self._attempts[job.key] += 1
            self._started(job, str(worker))  # first: whoever is told may look at what lies there before the job
            worker.give(job)

    def ended(self, queue: Queue) -> list[Ended]:
        """Wait until something is said; the jobs that have ended. Those of dead workers go back to the queue."""
        ready = wait([each for worker in self.busy for each in worker.watched], timeout=_LOOK)
        found: list[Ended] = []
        for worker in self.busy:
            if set(worker.watched) & set(ready):
                found += self._heard(worker, queue)
        return found

    def stop(self) -> None:
        """End all workers: at their next report, or after a while."""
        hired = [worker for worker in self._workers if worker]
        for worker in hired:
            worker.ask_to_stop()
        last = time.monotonic() + _GRACE
        for worker in hired:
            worker.end(max(0.0, last - time.monotonic()))

    def _heard(self, worker: Worker, queue: Queue) -> list[Ended]:
        job = worker.job
        assert job is not None, "only of workers with a job"
        for said in worker.said():
            if isinstance(said, Step):
                self._report(job, said)
            elif isinstance(said, End):
                worker.job = None
                self._peaks[job.kind] = max(said.peak, self._peaks.get(job.kind, 0))
                return [replace(said.ended, attempts=self._attempts.pop(job.key), where=str(worker))]
            else:
                return self._died(worker, job, queue)
        return []

    def _died(self, worker: Worker, job: Job, queue: Queue) -> list[Ended]:
        """Put the job of a dead worker back, unless it was begun often enough."""
        worker.end(_GRACE)
        self._workers[worker.number] = None
        count = self._attempts[job.key]
        if count < ATTEMPTS:
            note = f"a worker process died amid a job, which is begun again (attempt {count + 1} of {ATTEMPTS})"
            self._report(job, Step("begun again", 0, 1, note=note))
            queue.again(job)
            return []
        text = (
            f"its worker process died {count} times, the last time with no other beside it, most likely for lack of "
            "memory; lower what the job needs (a smaller network, a smaller batch_size), or run it on a larger machine"
        )
        return [Ended(job=job, error=text, attempts=self._attempts.pop(job.key), where=str(worker))]

    def _may_join(self, job: Job, worker: Worker | None) -> bool:
        """Whether a job may begin beside those that run: with memory left for it, and no last attempt among them.

        A last attempt is made alone, with all the memory there is.
        """
        last = self._attempts[job.key] == ATTEMPTS - 1
        return (
            not last and not any(self._attempts[key] == ATTEMPTS for key in self._running) and self._fits(job, worker)
        )

    def _fits(self, job: Job, worker: Worker | None) -> bool:
        """Whether memory is left for a job, by what earlier ones of its kind took and those that run may still take."""
        need = self._growth(job, worker) + sum(self._growth(each.job, each) for each in self.busy if each.job)
        fits = need * _SPARE <= runtime.available_memory()
        if not fits and not self._said:
            self._said = True
            text = f"memory is short: {len(self.busy)} of {len(self._workers)} jobs at a time, until more is free"
            self._report(job, Step("waiting for memory", 0, 1, note=text))
        return fits

    def _growth(self, job: Job, worker: Worker | None) -> int:
        """How many bytes a job's worker may still take, by what jobs of its kind took before."""
        return max(0, self._peaks.get(job.kind, 0) - (worker.memory() if worker else 0))

    def _hired(self, number: int) -> Worker:
        gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[number]} if self._gpus else {}
        found = Worker(number, self._work, {**_ONE_THREAD, **gpu})
        self._workers[number] = found
        return found
