"""The queue of jobs in a run folder's database: what waits, what runs under a lease, what is done or failed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mithridate.database import sentences, transaction
from mithridate.folder_lock import owner

State = Literal["waiting", "running", "done", "failed", "lost"]

LEASE = 60.0
"""Seconds after its last heartbeat for which a job counts as running, where the file system knows no locks."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job as the queue holds it."""

    key: str
    kind: str
    job: Mapping[str, Any] = field(default_factory=dict)
    """Its place in the grid and the keys of the jobs it ``needs``, as JSON knows them."""
    rows: tuple[str, ...] = ()
    """Keys of the rows that it leaves: it is done when all are there. Only needed to fill the queue."""
    state: State = "waiting"
    owner: str | None = None
    attempts: int = 0
    """How often it was started."""
    started: float | None = None
    """Seconds since 1970, as are ``ended`` and ``beat``."""
    ended: float | None = None
    beat: float | None = None
    """When its driver last said that it is alive."""
    stage: str | None = None
    done_steps: int | None = None
    total_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a campaign stands."""

    counts: Mapping[str, Mapping[str, int]]
    """Number of jobs by kind, then by state."""
    running: tuple[Entry, ...]
    """Those under way."""
    recent: tuple[tuple[str, float, float], ...]
    """The last jobs done, latest first: kind, seconds taken, when they ended (since 1970)."""

    def total(self, *states: State) -> int:
        """Number of jobs in any of these states; of all where none is given."""
        return sum(n for by in self.counts.values() for state, n in by.items() if not states or state in states)


class JobQueue:
    """The queue in an open database. Every method is one transaction."""

    def __init__(self, base: sqlite3.Connection, path: Path) -> None:
        self._base, self._path = base, path

    def fill(self, entries: Iterable[Entry]) -> None:
        """Make the queue hold exactly these jobs in this order, and mark the rows that belong to them as planned.

        A job whose rows are all there is done, unless it was told to :meth:`wait`; others wait. Jobs that are in the
        queue no more are kept without a place: their rows are not counted, but come back when the experiment is
        enlarged again.
        """
        base = self._base
        with sentences(self._path), transaction(base):
            base.execute(
                "CREATE TEMP TABLE fresh (key TEXT PRIMARY KEY, place INTEGER, kind TEXT, job TEXT, rows INTEGER)"
            )
            base.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY, job TEXT)")
            for number, entry in enumerate(entries):
                job = json.dumps(entry.job, sort_keys=True, separators=(",", ":"))
                rows = [(key, entry.key) for key in entry.rows or (entry.key,)]
                values = (entry.key, number, entry.kind, job, len(rows))
                base.execute("INSERT OR IGNORE INTO temp.fresh VALUES (?, ?, ?, ?, ?)", values)
                base.executemany("INSERT OR IGNORE INTO temp.wanted VALUES (?, ?)", rows)
            _merge(base)
            base.execute("DROP TABLE temp.fresh")
            base.execute("DROP TABLE temp.wanted")

    def count(self) -> tuple[int, int]:
        """All jobs, and those not done."""
        with sentences(self._path):
            found = self._base.execute(
                "SELECT count(*), count(*) FILTER (WHERE state != 'done') FROM jobs WHERE place IS NOT NULL"
            ).fetchone()
        return int(found[0]), int(found[1])

    def progress(self) -> Progress:
        """Counts by kind and state, the jobs under way, and how long the last ones took."""
        counts: dict[str, dict[str, int]] = {}
        with sentences(self._path):
            query = "SELECT kind, state, count(*) FROM jobs WHERE place IS NOT NULL GROUP BY state, kind"
            for kind, state, number in self._base.execute(query):
                counts.setdefault(kind, {})[state] = number
            running = tuple(self._entries("state = 'running' ORDER BY place"))
            recent = self._base.execute(
                "SELECT kind, ended - started, ended FROM jobs WHERE ended IS NOT NULL AND state = 'done' "
                "AND started IS NOT NULL ORDER BY ended DESC LIMIT 500"
            ).fetchall()
        return Progress(counts=counts, running=running, recent=tuple(recent))

    def entries(self, states: Sequence[State] = ()) -> Iterator[Entry]:
        """The planned jobs in these states (all where none is given), in order; read as they are asked for."""
        marks = ", ".join("?" * len(states))
        where = f"+state IN ({marks}) ORDER BY place" if states else "1 ORDER BY place"
        with sentences(self._path):
            yield from self._entries(where, states)

    def lease(self, key: str, where: str = "") -> None:
        """Say that a job has been started once more, and where (else: in this process)."""
        now = time.time()
        with sentences(self._path), transaction(self._base):
            self._base.execute(
                "UPDATE jobs SET state = 'running', owner = ?, leased_until = ?, beat = ?, started = ?, ended = NULL, "
                "attempts = attempts + 1, stage = NULL, done_steps = NULL, total_steps = NULL WHERE key = ?",
                (where or owner(), now + LEASE, now, now, key),
            )

    def beat(self, steps: Mapping[str, tuple[str, int, int]]) -> None:
        """Renew the leases of all running jobs; ``steps`` say where some are: stage, steps done, steps in all."""
        now = time.time()
        with sentences(self._path), transaction(self._base):
            self._base.execute(
                "UPDATE jobs SET beat = ?, leased_until = ? WHERE place IS NOT NULL AND state = 'running'",
                (now, now + LEASE),
            )
            self._base.executemany(
                "UPDATE jobs SET stage = ?, done_steps = ?, total_steps = ? WHERE key = ? AND state = 'running'",
                [(*step, key) for key, step in steps.items()],
            )

    def release(self, key: str | None = None, *, state: State = "waiting") -> int:
        """End the lease of a job (of all where none is named) that gave no rows; how many were let go.

        Raises nothing for a job that is not running: one that fails before it starts, or is lost, has no lease.
        """
        now = time.time() if state == "failed" else None
        which = "place IS NOT NULL AND state = 'running'" if key is None else "key = ?"
        with sentences(self._path), transaction(self._base):
            done = self._base.execute(
                f"UPDATE jobs SET state = ?, owner = NULL, leased_until = NULL, ended = ? WHERE {which}",  # noqa: S608
                (state, now, *([] if key is None else [key])),
            )
        return done.rowcount

    def dependents(self, keys: Iterable[str]) -> set[str]:
        """The jobs, planned or not, that need any of these, or need one that does; without these."""
        needed_by: dict[str, list[str]] = {}
        with sentences(self._path):
            for key, job in self._base.execute("SELECT key, job FROM jobs"):
                for need in json.loads(job).get("needs", ()):
                    needed_by.setdefault(need, []).append(key)
        first = set(keys)
        found, open_ = set(first), list(first)
        while open_:
            fresh = [each for each in needed_by.get(open_.pop(), ()) if each not in found]
            found.update(fresh)
            open_ += fresh
        return found - first

    def needed(self) -> set[str]:
        """Keys of the jobs that those done, planned or not, need."""
        with sentences(self._path):
            found = self._base.execute("SELECT job FROM jobs WHERE state = 'done'")
            return {need for (job,) in found for need in json.loads(job).get("needs", ())}

    def unplanned(self) -> set[str]:
        """Keys of the jobs that the experiment as it now stands does not hold."""
        with sentences(self._path):
            return {key for (key,) in self._base.execute("SELECT key FROM jobs WHERE place IS NULL")}

    def attempts(self, key: str) -> int:
        """How often a job was started."""
        with sentences(self._path):
            found = self._base.execute("SELECT attempts FROM jobs WHERE key = ?", (key,)).fetchone()
        return int(found[0]) if found else 0

    def wanting(self) -> list[str]:
        """Keys of the jobs that count as done, but left fewer rows than they should.

        A job of which the experiment wants fewer rows than it once did is held to those: others do not stand in.
        """
        with sentences(self._path):
            found = self._base.execute(
                "SELECT key FROM jobs WHERE place IS NOT NULL AND state = 'done' AND rows > "
                "(SELECT count(*) FROM results WHERE results.job = jobs.key AND planned)"
            ).fetchall()
        return [key for (key,) in found]

    def reopen(self, keys: Sequence[str]) -> None:
        """Have jobs that left fewer rows than they should wait again."""
        with sentences(self._path), transaction(self._base):
            self._base.executemany(
                "UPDATE jobs SET state = 'waiting', ended = NULL WHERE key = ?", [(key,) for key in keys]
            )

    def wait(self, keys: Sequence[str]) -> None:
        """Have jobs that were done wait again; their rows stay until new ones take their place."""
        statement = "UPDATE jobs SET state = 'waiting', redo = 1, ended = NULL WHERE key = ?"
        with sentences(self._path), transaction(self._base):
            self._base.executemany(statement, [(key,) for key in keys])

    def alive(self) -> Entry | None:
        """A job whose lease has not run out."""
        with sentences(self._path):
            found = self._entries("state = 'running' AND leased_until > ? LIMIT 1", (time.time(),))
            return next(iter(found), None)

    def _entries(self, where: str, values: Sequence[Any] = ()) -> Iterator[Entry]:
        names = "key, kind, job, state, owner, attempts, started, ended, beat, stage, done_steps, total_steps"
        query = f"SELECT {names} FROM jobs WHERE place IS NOT NULL AND {where}"  # noqa: S608 (the words are ours)
        for key, kind, job, *more in self._base.execute(query, tuple(values)):
            yield Entry(key=key, kind=kind, job=json.loads(job), **dict(zip(names.split(", ")[3:], more, strict=True)))


def _merge(base: sqlite3.Connection) -> None:
    """Bring the queue and the marks on rows into line with the fresh jobs."""
    base.execute("UPDATE jobs SET place = NULL WHERE place IS NOT NULL")
    base.execute(
        "INSERT INTO jobs (key, place, kind, job, rows) SELECT * FROM temp.fresh WHERE 1 ORDER BY place "
        "ON CONFLICT (key) DO UPDATE SET place = excluded.place, kind = excluded.kind, job = excluded.job, "
        "rows = excluded.rows"
    )
    base.execute("UPDATE results SET planned = key IN (SELECT key FROM temp.wanted)")
    missing = "SELECT job FROM temp.wanted WHERE key NOT IN (SELECT key FROM results)"
    base.execute(
        "UPDATE jobs SET state = CASE WHEN redo OR key IN "  # noqa: S608 (the words are ours)
        f"({missing}) THEN iif(state IN ('failed', 'lost'), state, 'waiting') ELSE 'done' END "
        "WHERE place IS NOT NULL"
    )
