"""The tables of a run folder's database, format 2."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mithridate.errors import StoreError

FORMAT = 2

COLUMNS = (
    "control", "attack", "scenario", "defense", "victim", "box", "trial", "run", "success", "clean_accuracy", "error",
    "judged", "seconds", "reused", "peak_memory", "training", "dropped", "dropped_poison", "poison_rows",
    "training_rows",
)  # fmt: skip
"""Scalars of a row that stand in plain columns beside its JSON, so that they are counted without reading it."""

TABLES = ("meta", "results", "details", "failures", "superseded", "artefacts", "jobs")

PLANNED_FAILURES = """
(SELECT f.rowid AS number, f.* FROM failures f
WHERE key IN (SELECT key FROM jobs WHERE place IS NOT NULL) OR NOT EXISTS (SELECT 1 FROM jobs))
"""
"""The failures of jobs that the experiment as it now stands holds; of all where no jobs were listed."""

# The JSON of a row lies in a table of its own: a million rows are then counted in a fifth of a gigabyte, not in many.
# Key and kind stand beside it once more, so that a damaged table of results can be made again from it.
SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, job TEXT NOT NULL,
    planned INTEGER NOT NULL DEFAULT 1, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    {", ".join(COLUMNS)});
CREATE INDEX results_job ON results (job);
CREATE TABLE details (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, row TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE failures (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, message TEXT NOT NULL, trace TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 1, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE superseded (
    key TEXT NOT NULL, kind TEXT NOT NULL, job TEXT NOT NULL, row TEXT NOT NULL, created TEXT NOT NULL,
    why TEXT NOT NULL, moved TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE artefacts (path TEXT PRIMARY KEY, job TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL);
CREATE INDEX artefacts_job ON artefacts (job);
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, place INTEGER, kind TEXT NOT NULL, job TEXT NOT NULL, rows INTEGER NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'waiting', redo INTEGER NOT NULL DEFAULT 0, owner TEXT, leased_until REAL, beat REAL,
    attempts INTEGER NOT NULL DEFAULT 0, started REAL, ended REAL,
    stage TEXT, done_steps INTEGER, total_steps INTEGER);
CREATE INDEX jobs_state ON jobs (state, kind) WHERE place IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
INSERT INTO meta VALUES ('format', '{FORMAT}');
"""  # noqa: S608 (the names and the number are ours)


def tables(base: sqlite3.Connection) -> set[str]:
    """The names of the tables there."""
    return {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def create(base: sqlite3.Connection) -> None:
    """Make the tables in an empty database, all or none."""
    base.execute("PRAGMA journal_mode=WAL")
    base.executescript(f"BEGIN IMMEDIATE;{SCHEMA}COMMIT;")


def check(base: sqlite3.Connection, path: Path) -> None:
    """Raise :class:`StoreError` unless the tables are ours and of this format."""
    found = tables(base)
    if not found:
        raise StoreError(f"'{path}' is empty: no run was begun there; start one with  mithridate run")
    if not found >= {"meta", "results"}:
        raise StoreError(f"'{path}' is another program's database; choose another folder")
    version = _version(base)
    if version == 1:
        raise StoreError(
            f"'{path}' has format 1, of an earlier release; bring it up to date (a copy is kept) with  "
            f"mithridate repair {path.parent}"
        )
    if version is None and {"key", "kind"} <= _columns(base, "results"):
        raise StoreError(
            f"'{path}' is damaged (it does not tell its format); mend it with  mithridate repair {path.parent}"
        )
    if version is None:
        raise StoreError(f"'{path}' is another program's database; choose another folder")
    if version != FORMAT:
        raise StoreError(f"'{path}' has format {version}, but this release reads format {FORMAT}; use a newer release")
    if not found >= set(TABLES):
        gone = ", ".join(sorted(set(TABLES) - found))
        raise StoreError(f"'{path}' is damaged (it lacks: {gone}); mend it with  mithridate repair {path.parent}")


def _columns(base: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in base.execute(f"PRAGMA table_info({table})")}


def _version(base: sqlite3.Connection) -> int | str | None:
    """The format that the database names."""
    if not {"name", "value"} <= _columns(base, "meta"):
        return None
    found = base.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    text = str(found[0]) if found else None
    return int(text) if text and text.isdecimal() else text
