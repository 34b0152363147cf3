"""SQLite as the run folder uses it: errors as sentences, and transactions that are whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mithridate.errors import StoreError

PATIENCE = 30.0
"""Seconds that one writer waits for another."""


_UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def connect(path: Path, *, across_threads: bool = False, reading: bool = False) -> sqlite3.Connection:
    """A connection in which every statement is a transaction of its own unless :func:`transaction` says otherwise.

    ``reading``: where nothing can be written (SQLite keeps notes beside a database even to read it), open it as one
    that nobody changes. Raises :class:`StoreError` where such a one has a log that is not merged yet.
    """
    try:
        return _connection(path, across_threads, probe=reading)
    except sqlite3.OperationalError as error:
        if not reading or _code(error) not in _UNWRITABLE or not path.is_file():
            raise
    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and log.stat().st_size:
        raise StoreError(
            f"'{path}' cannot be read where nothing can be written: its log {log.name} is not merged yet; copy the run "
            f"folder to where you may write, and read it there"
        )
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def _connection(path: Path, across_threads: bool, *, probe: bool) -> sqlite3.Connection:
    """A connection; with ``probe``, one from which something was read."""
    base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=not across_threads)
    try:
        base.execute("PRAGMA synchronous=NORMAL")
        if probe:
            base.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        base.close()
        raise
    return base


@contextmanager
def transaction(base: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside, or nothing of it; inside another one, a part of that."""
    if base.in_transaction:
        yield
        return
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    except BaseException:
        if base.in_transaction:  # on a full disk SQLite has rolled back already
            base.execute("ROLLBACK")
        raise


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and the file system into :class:`StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_sentence(path, error)) from error
    except ValueError as error:
        raise StoreError(f"'{path}' holds a damaged row ({error}); {mend(path)}") from error
    except OSError as error:
        raise StoreError(f"cannot use '{path}': {error.strerror or error}; choose another folder with --out") from error


def mend(path: Path) -> str:
    """What to do about damage, as the end of a sentence."""
    return f"mend the run folder with  mithridate repair {path.parent}"


def _code(error: sqlite3.Error) -> int:
    """What kind of error it is, without the details."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _sentence(path: Path, error: sqlite3.Error) -> str:
    """What an error of SQLite means to a user; https://www.sqlite.org/rescode.html."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return f"the disk is full: '{path}' could not be written; free space and run again"
    if code == sqlite3.SQLITE_IOERR:
        return f"'{path}' could not be written ({error}): the disk is full or failing; free space and run again"
    if code in _UNWRITABLE:
        return f"'{path}' cannot be written; choose another folder with --out"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"'{path}' is in use by another run; wait for it, or choose another --out"
    return f"'{path}' is damaged ({error}); {mend(path)}"
