"""Run jobs on a Ray cluster: one of several machines, or one started here for the run.

No file system needs to be shared: data, poison and surrogates go to the nodes through Ray's object store, what jobs
made comes back the same way, and the driver alone writes the run folder. Ray begins jobs anew whose node was lost.

Every node needs this package and torch in the driver's versions, whatever provides methods from outside the package,
and, at the same place, the files that settings name but for data: weights, poison of others, set-ups.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

from mithridate import runtime
from mithridate.errors import MissingExtraError, MithridateError
from mithridate.executor import ATTEMPTS, Ended, Executor, Queue, Report, Started, Work, unnoticed
from mithridate.executors.mailbox import Mailbox
from mithridate.executors.node import Done, on_node, parcel
from mithridate.executors.stock import Stock
from mithridate.experiment import Job
from mithridate.watch import Step

_LOOK = 0.5  # seconds between looks at what nodes say
_COUNT = 5.0  # seconds between counts of the cluster's processors
_GRACE = 5.0  # seconds that jobs have to stop before they are killed
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Cluster(Executor):
    """As many jobs at a time as a Ray cluster has room for."""

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus_per_job: float = 1,
        gpus_per_job: float = 0,
        workers: int | None = None,
    ) -> None:
        """``address`` of a running cluster (``auto``: the one of this machine), or None for one that is started here.

        At most ``workers`` jobs at a time; None: as many as have ``cpus_per_job`` and ``gpus_per_job``. Raises
        :class:`MissingExtraError` where Ray is not installed.
        """
        self.address, self.workers = address, workers
        self.needs = {"CPU": cpus_per_job, "GPU": gpus_per_job}
        self._ray: Any = _ray()

    def __str__(self) -> str:
        return f"on the Ray cluster at {self.address}" if self.address else "on a local Ray, started for this run"

    def map(self, work: Work, jobs: Sequence[Job], *, report: Report, started: Started = unnoticed) -> Iterator[Ended]:
        """Run the jobs; on an interrupt they are cancelled and the interrupt goes on.

        Raises :class:`MithridateError` where there is no such cluster, where none of its nodes has what a job needs, or
        where they have other versions.
        """
        if not jobs:
            return
        with self._connected():
            run = _Run(self._ray, work, jobs, report, started, needs=self.needs, most=self.workers)
            try:
                yield from run.ends()
            finally:
                run.cancel()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Be connected to the cluster inside the block; one that this process is connected to already is used."""
        ray = self._ray
        if ray.is_initialized():
            yield
            return
        cores = int((self.workers or runtime.cores()) * max(self.needs["CPU"], 1))
        local = {} if self.address else {"num_cpus": cores, "include_dashboard": False}
        with _handlers_kept():
            try:
                ray.init(self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise MithridateError(
                    f"no Ray cluster answers at '{self.address or 'local'}' ({_line(error)}); begin one with "
                    "'ray start --head', or leave --address out"
                ) from error
        try:
            yield
        finally:
            ray.shutdown()


class _Run:
    """One call of :meth:`Cluster.map`."""

    def __init__(
        self,
        ray: Any,
        work: Work,
        jobs: Sequence[Job],
        report: Report,
        started: Started,
        *,
        needs: dict[str, float],
        most: int | None,
    ) -> None:
        self._ray, self._report, self._started, self._needs, self._most = ray, report, started, needs, most
        self._queue, self._stock = Queue(jobs), Stock(ray, work, jobs)
        self._running: dict[Any, tuple[Job, Any]] = {}  # by the reference of what comes back; and that of what is left
        self._begun: dict[str, list[str]] = {}  # where each running job was begun, by its key
        self._by_key: dict[str, Job] = {}
        self._room, self._counted, self._heard = 0, 0.0, 0.0
        self._parcel = ray.put(parcel(work))
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._task = ray.remote(on_node).options(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            num_returns=2,
            max_retries=ATTEMPTS - 1,
            retry_exceptions=False,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": _ONE_THREAD},
        )

    def ends(self) -> Iterator[Ended]:
        """The ends of all jobs."""
        while True:
            while len(self._running) < self._slots() and (job := self._queue.ready()) is not None:
                self._submit(job)
            if not self._running:
                return
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK)
            self._listen()
            for reference in ready:
                job, left = self._running.pop(reference)
                ended = self._ended(job, reference, left)
                yield ended
                lost = self._queue.ended(job, failed=bool(ended.error))
                yield from lost
                self._stock.over([job, *(each.job for each in lost)])

    def cancel(self) -> None:
        """Stop what still runs, and wait until it has stopped."""
        for force in (False, True):
            for reference in self._running:
                self._ray.cancel(reference, force=force)
            if self._running:
                done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_GRACE)
                self._running = {key: each for key, each in self._running.items() if key not in done}
        with suppress(Exception):  # the cluster may be gone
            self._ray.kill(self._mailbox)

    def _submit(self, job: Job) -> None:
        reference, left = self._task.remote([self._parcel], job, self._stock.given(job), self._mailbox)
        self._running[reference] = job, left
        self._by_key[job.key] = job

    def _slots(self) -> int:
        """How many jobs to have with the cluster: those it has room for, and a few that wait for room."""
        if not self._counted or time.monotonic() - self._counted > _COUNT:
            there = self._ray.cluster_resources()
            self._room = int(min(there.get(name, 0) // need for name, need in self._needs.items() if need))
            if not self._room and not self._counted:
                wanted = " and ".join(f"{need:g} {name}" for name, need in self._needs.items() if need)
                raise MithridateError(f"no node of the Ray cluster has the {wanted} that a job needs; add one that has")
            self._counted = time.monotonic()
        return min(self._room + max(2, self._room // 4), self._most or self._room * 2 + 2)

    def _listen(self) -> None:
        """Pass on what nodes have said, if the last time is a while ago."""
        if time.monotonic() - self._heard < _LOOK:
            return
        self._heard = time.monotonic()
        for key, said in self._ray.get(self._mailbox.take.remote()):
            if (job := self._by_key.get(key)) is None:
                continue  # ended by now
            if isinstance(said, Step):
                self._report(job, said)
            else:
                self._begin(job, said)

    def _begin(self, job: Job, where: str) -> None:
        places = self._begun.setdefault(job.key, [])
        places.append(where)
        self._started(job, where)
        if len(places) > 1:
            note = f"a node or its worker died amid a job, which is begun again (attempt {len(places)} of {ATTEMPTS})"
            self._report(job, Step("begun again", 0, 1, note=note))

    def _ended(self, job: Job, reference: Any, left: Any) -> Ended:
        """How a job ended, its files written to the run folder."""
        del self._by_key[job.key]
        try:
            done: Done = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, MithridateError):
                raise cause from error
            return Ended(job=job, error=f"{type(cause).__name__}: {_line(cause)}", trace=str(error))
        except self._ray.exceptions.RayError as error:
            return self._given_up(job, error)
        places = self._begun.pop(job.key, [])
        if not places:
            self._started(job, done.ended.where)
        self._stock.take(job, done.files, left if done.left else None)
        return replace(done.ended, attempts=max(1, len(places)))

    def _given_up(self, job: Job, error: Exception) -> Ended:
        places = self._begun.pop(job.key, [])
        text = (
            f"its worker process or its node died {ATTEMPTS} times ({type(error).__name__}), most likely for lack of "
            "memory; give jobs more room (fewer at a time, --workers), or lower what they need"
        )
        return Ended(job=job, error=text, trace=str(error), attempts=max(1, len(places)), where="".join(places[-1:]))


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless a person asks for it
    os.environ.setdefault("RAY_task_oom_retries", str(ATTEMPTS - 1))  # else without end, where we start the cluster
    try:
        return import_module("ray")
    except ImportError:
        raise MissingExtraError("running jobs on a Ray cluster", "ray") from None


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep what this process does on SIGTERM, which Ray sets anew."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
