"""Run jobs in worker processes of one thread each: on a CPU faster than one process with many threads."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from mithridate import runtime
from mithridate.errors import MithridateError
from mithridate.executor import Ended, Executor, Queue, Report, Started, Stopped, Work, attempt, unnoticed
from mithridate.experiment import Job
from mithridate.watch import Step, Watch

_POLL = 0.1  # seconds between looks at what the workers report


class Processes(Executor):
    """Several jobs at a time, each in a process of its own with one computing thread."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)

    def __str__(self) -> str:
        return f"{self.workers} at a time"

    def map(self, work: Work, jobs: Sequence[Job], *, report: Report, started: Started = unnoticed) -> Iterator[Ended]:
        """Run the jobs; on an interrupt the workers stop at their next report and the interrupt goes on."""
        context = multiprocessing.get_context("spawn")
        steps: Any = context.Queue()
        stop = context.Event()
        with (
            _one_thread(),
            ProcessPoolExecutor(
                min(self.workers, max(len(jobs), 1)),
                mp_context=context,
                initializer=_start_worker,
                initargs=(steps, stop),
            ) as pool,
        ):
            try:
                yield from self._drive(pool, work, jobs, steps, report, started)
            except BrokenProcessPool as error:
                raise MithridateError(
                    "a worker process died, most likely for lack of memory; what is finished is kept. "
                    "Run again to go on, with fewer workers (--workers 1)"
                ) from error
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _drive(
        self, pool: ProcessPoolExecutor, work: Work, jobs: Sequence[Job], steps: Any, report: Report, started: Started
    ) -> Iterator[Ended]:
        """Keep every worker busy with the first job that may start."""
        waiting, names = Queue(jobs), {job.key: job for job in jobs}
        running: dict[Future[Ended], Job] = {}
        while True:
            while len(running) < self.workers and (job := waiting.ready()) is not None:
                running[pool.submit(_in_worker, work, job)] = job
                started(job, "a worker process")
            if not running:
                return
            done, _ = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
            for key, step in _drained(steps):
                report(names[key], step)
            for future in done:
                job = running.pop(future)
                ended = future.result()
                yield ended
                yield from waiting.ended(job, failed=bool(ended.error))


_worker: dict[str, Any] = {}


def _start_worker(steps: Any, stop: Any) -> None:
    """Set a worker up: one thread, interrupts left to the parent, and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    runtime.use_threads(1)
    _worker.update(steps=steps, stop=stop)


def _follow_parent() -> None:
    """End this process once its parent is gone (killed, or out of memory): the pool would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(work: Work, job: Job) -> Ended:
    return attempt(work, job, _watch(job))


def _watch(job: Job) -> Watch:
    def watch(step: Step) -> None:
        if _worker["stop"].is_set():
            raise Stopped
        _worker["steps"].put((job.key, step))

    return watch


def _drained(steps: Any) -> Iterator[tuple[str, Step]]:
    while True:
        try:
            yield steps.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have processes that start inside the block compute with one thread each, in every library."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
