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

try:
    import fcntl
except ImportError:  # Windows, where two runs in one folder are not kept apart
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
_TABLES = {"meta", "results", "failures"}
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE results (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, row TEXT NOT NULL, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE failures (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, message TEXT NOT NULL, trace TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO meta VALUES ('format', '{FORMAT}');
COMMIT;
"""  # noqa: S608 (the number is ours)


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
        self._lock = _Lock(self.folder / "store.lock")
        with _sentences(self.path):
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.take()
            self._base = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    def _prepare(self, create: bool) -> None:
        """Make the tables where there are none yet, and see that they are ours and of our format."""
        with _sentences(self.path):
            tables = {name for (name,) in self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if create and not tables:
                self._base.execute("PRAGMA journal_mode=WAL")
                self._base.executescript(_SCHEMA)
            elif not tables:
                raise StoreError(f"'{self.path}' is empty: no run was begun there; start one with  mithridate run")
            elif not tables >= _TABLES:
                raise StoreError(f"'{self.path}' is another program's database; choose another folder")
            self._base.execute("PRAGMA synchronous=NORMAL")
        version = self.meta().get("format")
        if version != FORMAT:
            raise StoreError(
                f"'{self.path}' has format {version}, but this release reads format {FORMAT}; use a matching release"
            )

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
            return [{**_mapping(row), "key": key, "kind": which} for key, which, row in found]

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
            self._base.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:  # on a full disk SQLite has rolled back already
                self._base.execute("ROLLBACK")
            raise


class _Lock:
    """Keeps a second run out of a folder. The system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> None:
        """Hold the lock until :meth:`release`. Raises :class:`StoreError` where another run holds it."""
        if fcntl is None:
            return
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise StoreError(
                f"'{self._path.parent}' is in use by another run; wait for it, or choose another --out"
            ) from None
        except OSError:  # a network file system without locks
            self.release()

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


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
    except sqlite3.Error as error:
        raise StoreError(_sentence(path, error)) from error
    except ValueError as error:
        raise StoreError(f"'{path}' holds a damaged row ({error}); restore it from a copy") from error
    except OSError as error:
        raise StoreError(f"cannot use '{path}': {error.strerror or error}; choose another folder with --out") from error


def _sentence(path: Path, error: sqlite3.Error) -> str:
    """What an error of SQLite means to a user; https://www.sqlite.org/rescode.html."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the details
    if code == sqlite3.SQLITE_FULL:
        return f"the disk is full: '{path}' could not be written; free space and run again"
    if code == sqlite3.SQLITE_IOERR:
        return f"'{path}' could not be written ({error}): the disk is full or failing; free space and run again"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"'{path}' cannot be written; choose another folder with --out"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"'{path}' is in use by another run; wait for it, or choose another --out"
    return f"'{path}' is damaged ({error}); move the folder away, or restore store.sqlite from a copy"


def _mapping(row: str) -> dict[str, Any]:
    found = json.loads(row)
    if not isinstance(found, dict):
        raise ValueError(f"a row is no mapping: {row[:40]}")
    return found
