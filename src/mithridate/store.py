"""The run folder: results in SQLite, one transaction each, and poison sets beside it. Knows no torch."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mithridate.errors import StoreError

FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, row TEXT NOT NULL, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, message TEXT NOT NULL, trace TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
"""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job that ended in an error."""

    key: str
    kind: str
    message: str
    trace: str


class Store:
    """A run folder opened for reading and writing. Use as a context manager.

    ``store.sqlite`` holds three tables: ``meta`` (what the run is: settings, environment, command), ``results`` (one
    JSON row for each finished job, under the hash of everything that decides it) and ``failures``. Poison sets lie in
    ``poisons/<key>/``. Every write is one transaction; a run killed at any point can be opened again.
    """

    def __init__(self, folder: Path | str, *, create: bool = False) -> None:
        """Open the run in ``folder``. Raises :class:`StoreError` where it is absent, damaged or cannot be written."""
        self.folder = Path(folder)
        self.path = self.folder / "store.sqlite"
        if not create and not self.path.is_file():
            raise StoreError(f"there is no run in '{self.folder}' (no store.sqlite); start one with  mithridate run")
        with _sentences(self.path):
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.executescript(_SCHEMA)
        version = self.meta().setdefault("format", FORMAT)
        if version != FORMAT:
            self.close()
            raise StoreError(
                f"'{self.path}' has format {version}, but this release reads format {FORMAT}; use a matching release"
            )
        if create:
            self.describe(format=FORMAT)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was added is kept."""
        self._base.close()

    def describe(self, **values: Any) -> None:
        """Write JSON-able facts about the whole run (``experiment=``, ``environment=``, ``command=``)."""
        with _sentences(self.path), self._transaction():
            for name, value in values.items():
                text = json.dumps(value, sort_keys=True)
                self._base.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, text))

    def meta(self) -> dict[str, Any]:
        """All facts about the run."""
        with _sentences(self.path):
            return {name: json.loads(value) for name, value in self._base.execute("SELECT name, value FROM meta")}

    def add(self, key: str, kind: str, row: Mapping[str, Any]) -> None:
        """Record one row, in one transaction. A second one under the same key replaces the first."""
        self.add_all([(key, kind, row)])

    def add_all(self, rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Record the rows ``(key, kind, row)`` of one finished job, all or none."""
        with _sentences(self.path), self._transaction():
            for key, kind, row in rows:
                self._base.execute(
                    "INSERT OR REPLACE INTO results (key, kind, row) VALUES (?, ?, ?)",
                    (key, kind, json.dumps(row, sort_keys=True)),
                )
                self._base.execute("DELETE FROM failures WHERE key = ?", (key.partition("-")[0],))

    def fail(self, failure: Failure) -> None:
        """Record that a job ended in an error; a later success removes it."""
        with _sentences(self.path), self._transaction():
            self._base.execute(
                "INSERT OR REPLACE INTO failures (key, kind, message, trace) VALUES (?, ?, ?, ?)",
                (failure.key, failure.kind, failure.message, failure.trace),
            )

    def keys(self) -> set[str]:
        """Keys of all finished jobs."""
        with _sentences(self.path):
            return {key for (key,) in self._base.execute("SELECT key FROM results")}

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Results in the order they were added, each with its ``key`` and ``kind``; all, or those of one kind."""
        query = "SELECT key, kind, row FROM results WHERE ?1 IS NULL OR kind = ?1 ORDER BY rowid"
        with _sentences(self.path):
            found = self._base.execute(query, (kind,)).fetchall()
            return [{**json.loads(row), "key": key, "kind": which} for key, which, row in found]

    def failures(self) -> list[Failure]:
        """Jobs that ended in an error and have not succeeded since."""
        with _sentences(self.path):
            found = self._base.execute("SELECT key, kind, message, trace FROM failures ORDER BY rowid")
            return [Failure(key=key, kind=kind, message=text, trace=trace) for key, kind, text, trace in found]

    def poison_folder(self, key: str) -> Path:
        """Where the poison set of a craft job lies."""
        return self.folder / "poisons" / key

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part. Raises :class:`StoreError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise StoreError(
            f"cannot write '{path}': {error.strerror or error}; free space or choose another --out"
        ) from error


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and the file system into sentences."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise StoreError(f"the disk is full: '{path}' could not be written; free space and run again") from error
        if "readonly" in text or "unable to open" in text:
            raise StoreError(f"'{path}' cannot be written; choose another folder with --out") from error
        if "locked" in text or "busy" in text:
            raise StoreError(f"'{path}' is in use by another run; wait for it, or choose another --out") from error
        raise StoreError(
            f"'{path}' is damaged ({text}); move the folder away, or restore store.sqlite from a copy"
        ) from error
    except json.JSONDecodeError as error:
        raise StoreError(f"'{path}' holds a damaged row ({error}); restore it from a copy") from error
    except OSError as error:
        raise StoreError(f"cannot use '{path}': {error.strerror or error}; choose another folder with --out") from error
