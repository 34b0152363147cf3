"""The run folder: results in SQLite, one transaction each, and poison sets beside it. Knows no torch."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mithridate import remains, schema
from mithridate.atomic import write_atomically
from mithridate.database import connect, sentences, transaction
from mithridate.errors import StoreError
from mithridate.folder_lock import FolderLock
from mithridate.jobqueue import JobQueue, Progress
from mithridate.rowtext import checksum, scalars_of, whole
from mithridate.schema import COLUMNS, FORMAT

__all__ = ["COLUMNS", "FORMAT", "Artefact", "Failure", "Store", "write_atomically"]

_INSERT = f"""
INSERT INTO results (key, kind, job, planned, {", ".join(COLUMNS)}) VALUES (?, ?, ?, 1{", ?" * len(COLUMNS)})
ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, job = excluded.job, planned = 1, created = CURRENT_TIMESTAMP,
{", ".join(f"{name} = excluded.{name}" for name in COLUMNS)} RETURNING id
"""  # noqa: S608 (the names are ours)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job that ended in an error."""

    key: str
    kind: str
    message: str
    trace: str
    attempts: int = 1
    """How often it was tried."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A file that rows depend on."""

    path: str
    """Relative to the run folder, with forward slashes."""
    job: str
    """Key of the job that made it."""
    sha256: str
    bytes: int


class Store:
    """A run folder opened for reading and writing. Use as a context manager.

    ``store.sqlite`` holds the tables of :mod:`mithridate.schema`: ``meta`` (what the run is: settings, environment,
    command), ``results`` (the scalars of each row, under the hash of everything that decides it) with the rows as JSON
    in ``details``, ``jobs`` (the queue), ``artefacts`` (files that rows depend on), ``failures``, and ``superseded``
    (rows of methods that have changed since, never read). Poison sets lie in ``poisons/<key>/``. Every write is one
    transaction; a run killed at any point can be opened again. One process writes.
    """

    def __init__(self, folder: Path | str, *, create: bool = False) -> None:
        """Open the run in ``folder``. Raises :class:`StoreError` where it is absent, damaged or cannot be written."""
        self.folder = Path(folder)
        self.path = self.folder / "store.sqlite"
        if not self.path.is_file() or (create and not self.path.stat().st_size):
            remains.refuse(self.folder)
        if not create and not self.path.is_file():
            raise StoreError(f"there is no run in '{self.folder}' (no store.sqlite); start one with  mithridate run")
        self._lock = FolderLock(self.folder / "store.lock")
        with sentences(self.path):
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.take()
            try:
                self._base = connect(self.path, reading=not create)
            except BaseException:
                self._lock.release()
                raise
        self.queue = JobQueue(self._base, self.path)
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    def _prepare(self, create: bool) -> None:
        """Make the tables where there are none yet, and see that they are ours and of our format."""
        with sentences(self.path):
            if create and not schema.tables(self._base):
                schema.create(self._base)
            schema.check(self._base, self.path)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was added is kept."""
        self._base.close()
        self._lock.release()

    @property
    def locked(self) -> bool:
        """Whether no other process can hold this folder; False where it was only opened, or knows no locks."""
        return self._lock.held

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is written inside is kept as a whole, or, where an error leaves it, not at all."""
        try:
            with transaction(self._base):
                yield
        except sqlite3.Error:
            with sentences(self.path):
                raise

    def describe(self, **values: Any) -> None:
        """Write JSON-able facts about the whole run (``experiment=``, ``environment=``, ``command=``)."""
        with sentences(self.path), transaction(self._base):
            for name, value in values.items():
                text = json.dumps(value, sort_keys=True)
                self._base.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, text))

    def meta(self) -> dict[str, Any]:
        """All facts about the run."""
        with sentences(self.path):
            return {name: json.loads(value) for name, value in self._base.execute("SELECT name, value FROM meta")}

    def add(self, key: str, kind: str, row: Mapping[str, Any]) -> None:
        """Record one row, in one transaction. A second one under the same key replaces the first."""
        self.add_all([(key, kind, row)])

    def add_all(
        self,
        rows: Iterable[tuple[str, str, Mapping[str, Any]]],
        *,
        artefacts: Iterable[Artefact] = (),
        job: str | None = None,
    ) -> None:
        """Record the rows ``(key, kind, row)`` of one finished job and the files they depend on, all or none.

        ``job`` is the job that is done by this; without one, a row belongs to the job that its key begins with
        (``<job>`` or ``<job>-<number>``), whose state stays as it is.
        """
        with sentences(self.path), transaction(self._base):
            for key, kind, row in rows:
                self._insert(key, kind, row, job or key.partition("-")[0])
            for each in artefacts:
                values = (each.path, each.job, each.sha256, each.bytes)
                self._base.execute("INSERT OR REPLACE INTO artefacts VALUES (?, ?, ?, ?)", values)
            if job is not None:
                self._base.execute("DELETE FROM failures WHERE key = ?", (job,))
                self._base.execute(
                    "UPDATE jobs SET state = 'done', redo = 0, owner = NULL, leased_until = NULL, ended = ? "
                    "WHERE key = ?",
                    (time.time(), job),
                )

    def _insert(self, key: str, kind: str, row: Mapping[str, Any], job: str) -> None:
        text = json.dumps(row, sort_keys=True)
        check = checksum(key, kind, text)
        (number,) = self._base.execute(_INSERT, (key, kind, job, *scalars_of(row))).fetchone()
        self._base.execute("INSERT OR REPLACE INTO details VALUES (?, ?, ?, ?, ?)", (number, key, kind, text, check))
        self._base.execute("DELETE FROM failures WHERE key = ?", (job,))

    def fail(self, failure: Failure) -> None:
        """Record that a job ended in an error; a later success removes it."""
        with sentences(self.path), transaction(self._base):
            self._base.execute(
                "INSERT OR REPLACE INTO failures (key, kind, message, trace, attempts) VALUES (?, ?, ?, ?, ?)",
                (failure.key, failure.kind, failure.message, failure.trace, failure.attempts),
            )

    def keys(self) -> set[str]:
        """Keys of all rows."""
        with sentences(self.path):
            return {key for (key,) in self._base.execute("SELECT key FROM results")}

    def there(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys under which there is a row."""
        with sentences(self.path):
            query = "SELECT key FROM results WHERE key IN"
            found = [self._base.execute(f"{query} ({', '.join('?' * len(part))})", part) for part in _parts(list(keys))]
            return {key for part in found for (key,) in part}

    def rows(
        self, kind: str | None = None, keys: Collection[str] | None = None, *, planned: bool = False
    ) -> list[dict[str, Any]]:
        """Results in the order they were added, each with its ``key`` and ``kind``; all, or those of one kind.

        ``keys``: only these. ``planned``: only those of the experiment as it now stands (a run made smaller keeps its
        rows).
        """
        query = "SELECT r.key, r.kind, row, checksum FROM results r JOIN details USING (id) "
        query += "WHERE (?1 IS NULL OR r.kind = ?1) AND (planned OR NOT ?2) "
        with sentences(self.path):
            if keys is None:
                found = self._base.execute(f"{query} ORDER BY r.id", (kind, planned)).fetchall()
            else:
                found = [
                    each
                    for part in _parts(list(keys))
                    for each in self._base.execute(
                        f"{query} AND r.key IN ({', '.join('?' * len(part))}) ORDER BY r.id", (kind, planned, *part)
                    )
                ]
            return [{**whole(key, which, row, kept), "key": key, "kind": which} for key, which, row, kept in found]

    def scalars(self, names: Sequence[str], kind: str | None = None) -> Iterator[tuple[Any, ...]]:
        """Some scalars of every planned row (all, or those of one kind), in the order they were added.

        ``names`` are of :data:`COLUMNS`, ``key``, ``kind``, ``job`` or ``id``; None stands where a row lacks one. Rows
        are read as they are asked for, without their JSON.
        """
        unknown = set(names) - {*COLUMNS, "key", "kind", "job", "id"}
        if unknown:
            raise ValueError(f"results have no column {min(unknown)!r}")
        query = f"SELECT {', '.join(names)} FROM results WHERE planned AND (?1 IS NULL OR kind = ?1) ORDER BY id"  # noqa: S608
        with sentences(self.path):
            yield from self._base.execute(query, (kind,))

    def progress(self) -> Progress:
        """Jobs by kind and state, those under way, and how long the last ones took."""
        return self.queue.progress()

    def artefacts(self, jobs: Collection[str] | None = None, *, done: bool = False) -> list[Artefact]:
        """The files that rows depend on: all, or those of some jobs; ``done``: only of planned jobs that are done.

        Those of a job that is to be done again stay here meanwhile, to be held against what comes back.
        """
        query = "SELECT path, job, sha256, bytes FROM artefacts WHERE "
        query += "job IN (SELECT key FROM jobs WHERE state = 'done' AND place IS NOT NULL)" if done else "1"
        with sentences(self.path):
            lots = [()] if jobs is None else [tuple(part) for part in _parts(list(jobs))]
            found = []
            for part in lots:
                among = f" AND job IN ({', '.join('?' * len(part))})" if part else ""
                found += self._base.execute(f"{query}{among} ORDER BY path", part).fetchall()
        return [Artefact(path=path, job=job, sha256=digest, bytes=size) for path, job, digest, size in found]

    def supersede(self, jobs: Collection[str], *, why: str) -> int:
        """Put the rows of some jobs aside (kept, never read) and the jobs back to waiting; the number of rows."""
        moved = 0
        with sentences(self.path), transaction(self._base):
            for part in _parts(list(jobs)):
                these = f"job IN ({', '.join('?' * len(part))})"
                moved += self._base.execute(
                    "INSERT INTO superseded (key, kind, job, row, created, why) "  # noqa: S608 (marks alone)
                    f"SELECT r.key, r.kind, job, row, created, ? FROM results r JOIN details USING (id) WHERE {these}",
                    (why, *part),
                ).rowcount
                self._base.execute(f"DELETE FROM details WHERE id IN (SELECT id FROM results WHERE {these})", part)  # noqa: S608
                self._base.execute(f"DELETE FROM results WHERE {these}", part)  # noqa: S608
                self._base.executemany(
                    "UPDATE jobs SET state = 'waiting', ended = NULL WHERE key = ?", [(key,) for key in part]
                )
        return moved

    def failures(self) -> list[Failure]:
        """Planned jobs that ended in an error and have not succeeded since."""
        with sentences(self.path):
            found = self._base.execute(
                f"SELECT key, kind, message, trace, attempts FROM {schema.PLANNED_FAILURES} ORDER BY number"  # noqa: S608
            )
            names = ("key", "kind", "message", "trace", "attempts")
            return [Failure(**dict(zip(names, each, strict=True))) for each in found]

    def poison_folder(self, key: str) -> Path:
        """Where the poison set of a craft job lies."""
        return self.folder / "poisons" / key


def _parts(keys: list[str]) -> Iterator[list[str]]:
    """The keys in lots that one statement takes."""
    for start in range(0, len(keys), 500):
        yield keys[start : start + 500]
