"""What the process that runs a campaign writes down: leases while jobs run, rows and files as they end."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import cached_property
from types import TracebackType
from typing import Any

from mithridate.artefacts import described
from mithridate.database import connect
from mithridate.errors import StoreError
from mithridate.executor import Ended, Report
from mithridate.experiment import Job
from mithridate.jobqueue import Entry, JobQueue
from mithridate.store import Artefact, Failure, Store
from mithridate.watch import Step

HEARTBEAT = 3.0
"""Seconds between heartbeats: what ``mithridate status`` shows is that old at most."""


_FULL = ("No space left on device", "Disk quota exceeded", "the disk is full")


class Driver:
    """Keeps the queue of a store up to date while an executor works. Use as a context manager, once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.again: set[str] = set()
        """Jobs whose rows were put aside, because a poison came out otherwise than before."""
        self._leased: set[str] = set()
        self._found: dict[str, dict[str, str]] = {}
        """Hashes of poisons that lay there when their craft was begun again, where none were recorded."""
        self._steps: dict[str, tuple[str, int, int]] = {}
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> Driver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._leased:
            with suppress(StoreError):  # a full disk: the next start takes the leases back
                self._store.queue.release()

    def watching(self, report: Report) -> Report:
        """``report``, with the last step of each job kept for the heartbeat."""

        def watch(job: Job, step: Step) -> None:
            with self._guard:
                self._steps[job.key] = (step.stage, step.done, step.total)
            report(job, step)

        return watch

    def started(self, job: Job, where: str = "") -> None:
        """Lease a job that is begun, or begun once more; executors call this."""
        if job.kind == "craft" and job.key in self._unrecorded and job.key not in self._found:
            self._found[job.key] = self._hashes(job)
        self._store.queue.lease(job.key, where)
        self._leased.add(job.key)

    def record(self, ended: Ended) -> None:
        """Write how a job ended, in one transaction. Raises :class:`StoreError` where the disk is full.

        A poison that was crafted again and came out otherwise puts the rows aside that the old one led to:
        ``again`` then names the jobs that wait once more.
        """
        job, queue = ended.job, self._store.queue
        if not ended.lost and job.key not in self._leased:
            self._found.setdefault(job.key, {})  # what lay there before is not known any more
            self.started(job)
        if ended.error:
            if any(word in ended.error + ended.trace for word in _FULL):
                raise StoreError(f"the disk is full ({ended.error}); free space and run again: what is done is kept")
            failure = Failure(key=job.key, kind=job.kind, message=ended.error, trace=ended.trace)
            self._store.fail(replace(failure, attempts=queue.attempts(job.key)))
            queue.release(job.key, state="lost" if ended.lost else "failed")
        else:
            # a clean victim is asked again when trials are added: the rows of its first training stay as they are
            there = self._store.there([each.key for each in ended.results]) if job.kind == "clean" else set()
            rows = [(each.key, each.kind, each.row) for each in ended.results if each.key not in there]
            files = [described(self._store.folder, path, job=job.key) for each in ended.results for path in each.files]
            self._put_aside(job, files)
            self._store.add_all(rows, artefacts=files, job=job.key)
        self._leased.discard(job.key)
        with self._guard:
            self._steps.pop(job.key, None)

    def _put_aside(self, job: Job, files: Sequence[Artefact]) -> None:
        """Supersede the rows of the victims of a poison that differs from what it was."""
        if job.kind != "craft":
            return
        before = {each.path: each.sha256 for each in self._store.artefacts([job.key])}
        own = [each for each in files if not each.path.endswith("manifest.json")]  # which names versions of libraries
        if job.key in self._unrecorded:  # victims were trained on it: what nothing tells of counts as another
            before = self._found.get(job.key, {})
        elif not before:
            return
        if all(before.get(each.path) == each.sha256 for each in own):
            return
        victims = self._store.queue.dependents([job.key])
        if self._store.supersede(victims, why=f"the poison {job.key} was lost and came out otherwise"):
            self.again |= victims

    @cached_property
    def _unrecorded(self) -> frozenset[str]:
        """The jobs whose files were not recorded when this began (a repair lost it), though others are done by them."""
        return frozenset(self._store.queue.needed() - {each.job for each in self._store.artefacts()})

    def _hashes(self, job: Job) -> dict[str, str]:
        """The files of a poison set as they lie there now, by path."""
        folder, place = self._store.folder, self._store.poison_folder(job.key)
        paths = [each.relative_to(folder).as_posix() for each in place.glob("*") if each.is_file()]
        return {path: described(folder, path, job=job.key).sha256 for path in paths}

    def _beat(self) -> None:
        """Renew leases until all is over; what cannot be written now is written at the next beat."""
        try:
            base = connect(self._store.path, across_threads=True)
        except Exception:  # the run itself will find out and say so
            return
        try:
            queue = JobQueue(base, self._store.path)
            while not self._over.wait(HEARTBEAT):
                with self._guard:
                    steps = dict(self._steps)
                with suppress(StoreError):
                    queue.beat(steps)
        finally:
            base.close()


def as_plain(job: Job) -> dict[str, Any]:
    """A job as JSON knows it, without its key and without what is at its default."""
    values = {each.name: (getattr(job, each.name), each.default) for each in fields(job) if each.name != "key"}
    return {name: value for name, (value, default) in values.items() if value != default}


def from_plain(entry: Entry) -> Job:
    """The job of an entry in the queue."""
    found: Mapping[str, Any] = entry.job
    return Job(**{**found, "needs": tuple(found.get("needs", ())), "key": entry.key})
