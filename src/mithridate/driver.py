"""What the process that runs a campaign writes down: leases while jobs run, rows and files as they end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

from mithridate.database import connect
from mithridate.errors import StoreError
from mithridate.executor import Ended, Report
from mithridate.experiment import Job
from mithridate.jobqueue import Entry, JobQueue
from mithridate.store import Artefact, Failure, Store
from mithridate.watch import Step
from mithridate.work import Result

HEARTBEAT = 3.0
"""Seconds between heartbeats: what ``mithridate status`` shows is that old at most."""


class Driver:
    """Keeps the queue of a store up to date while an executor works. Use as a context manager, once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._leased: set[str] = set()
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
        """``report``, with each job leased at its first step, and the last step kept for the heartbeat."""

        def watch(job: Job, step: Step) -> None:
            self.started(job)
            with self._guard:
                self._steps[job.key] = (step.stage, step.done, step.total)
            report(job, step)

        return watch

    def started(self, job: Job) -> None:
        """Lease a job, unless it is leased already."""
        if job.key not in self._leased:
            self._store.queue.lease(job.key)
            self._leased.add(job.key)

    def record(self, ended: Ended) -> None:
        """Write how a job ended, in one transaction."""
        job = ended.job
        if not ended.lost:
            self.started(job)
        if ended.error:
            self._store.fail(Failure(key=job.key, kind=job.kind, message=ended.error, trace=ended.trace))
            self._store.queue.release(job.key, state="lost" if ended.lost else "failed")
        else:
            # a clean victim is asked again when trials are added: the rows of its first training stay as they are
            there = self._store.there([each.key for each in ended.results]) if job.kind == "clean" else set()
            rows = [(each.key, each.kind, each.row) for each in ended.results if each.key not in there]
            files = [_artefact(self._store.folder, path, job) for path in _files(ended.results)]
            self._store.add_all(rows, artefacts=files, job=job.key)
        self._leased.discard(job.key)
        with self._guard:
            self._steps.pop(job.key, None)

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


def _files(results: Sequence[Result]) -> Iterator[str]:
    """The files that rows depend on, relative to the run folder."""
    for each in results:
        if each.kind == "craft":
            yield from (f"poisons/{each.key}/{name}" for name in ("manifest.json", "poison.safetensors"))
        elif each.row.get("dropped_images"):
            yield str(each.row["dropped_images"])


def _artefact(folder: Path, path: str, job: Job) -> Artefact:
    content = (folder / path).read_bytes()
    return Artefact(path=path, job=job.key, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
