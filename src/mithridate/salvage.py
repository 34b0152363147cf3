"""What can still be read of a damaged or older database of a run folder, written into a new one."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate import schema
from mithridate.database import connect, sentences, transaction
from mithridate.rowtext import scalars_of, whole
from mithridate.schema import COLUMNS
from mithridate.store import Store

_LOT = 1000
"""Rows written in one go."""
_PAGE = 4096
"""Bytes of a page, as SQLite makes them by itself."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What came out of a database."""

    rows: int
    dropped: int
    """Rows found that were not whole."""
    unread: bool
    """Whether some pages could not be read, so that more may be gone than was counted."""


def diagnosis(path: Path) -> str:
    """What is wrong with a database of the present format, in a few words; empty where all is well.

    Reads everything: the pages as SQLite checks them, then every row against its checksum and its scalars.
    """
    try:
        with closing(connect(path, reading=True)) as base:
            found = [text for (text,) in base.execute("PRAGMA integrity_check(3)")]
            if found != ["ok"]:
                return f"damaged: {found[0].splitlines()[-1]}"
            gone = sorted(set(schema.TABLES) - schema.tables(base))
            if gone:
                return f"damaged: it lacks the table {gone[0]}"
            if base.execute("SELECT 1 FROM meta WHERE name = 'format'").fetchone() is None:
                return "damaged: it does not tell its format"
            broken = sum(map(len, _broken(base)))
            return f"damaged: {broken} row{'s' * (broken != 1)} not as written" if broken else ""
    except sqlite3.Error as error:
        return f"damaged: {error}"


def salvage(old: Path, new: Path) -> Saved:
    """Copy every row that is still whole from the database ``old`` into a new one. ``old`` is only read."""
    unread: list[bool] = []
    with sentences(new), closing(_fresh(new)) as into:
        with closing(_opened(old, into, new.with_name("head"))) as base:
            for table in schema.TABLES:
                with suppress(sqlite3.DatabaseError):
                    names = [name for _, name, *_ in into.execute(f"PRAGMA table_info({table})")]
                    _copy(base, into, table, names, unread)
        with transaction(into):
            bad = _rebuilt(into)
            # queues are listed anew: a job that is missing here would be missed
            into.execute("DELETE FROM meta WHERE name = 'plan'")
        (rows,) = into.execute("SELECT count(*) FROM results").fetchone()
    return Saved(rows=rows, dropped=bad, unread=bool(unread))


def empty(old: Path, new: Path) -> Saved:
    """Make a new database in place of one that is gone."""
    with sentences(new):
        _fresh(new).close()
    return Saved(rows=0, dropped=0, unread=False)


def upgrade(old: Path, new: Path) -> Saved:
    """Write what can be read of a database of format 1 in the present format. ``old`` is only read."""
    unread: list[bool] = []
    with closing(connect(old)) as base:
        meta = {name: _value(text) for name, text in _readable(base, "meta", ("name", "value"), unread)}
        failures = list(_readable(base, "failures", ("key", "kind", "message", "trace", "created"), unread))
        found = list(_readable(base, "results", ("key", "kind", "row", "created"), unread))
    rows = [(key, kind, row, created) for key, kind, text, created in found if isinstance(row := _value(text), dict)]
    planned = set(meta["keys"]) if isinstance(meta.get("keys"), list) else None
    _remove(new)
    with Store(new.parent, create=True) as store:
        store.describe(**{name: value for name, value in meta.items() if name not in ("format", "keys") and value})
        store.add_all((key, kind, row) for key, kind, row, _ in rows)
    with sentences(new), closing(connect(new)) as base, transaction(base):
        base.executemany(
            "UPDATE results SET created = ?, planned = ? WHERE key = ?",
            [(created, planned is None or key in planned, key) for key, _, _, created in rows],
        )
        base.executemany("INSERT INTO failures (key, kind, message, trace, created) VALUES (?, ?, ?, ?, ?)", failures)
        _queue_of_rows(base)
    return Saved(rows=len(rows), dropped=len(found) - len(rows), unread=bool(unread))


def is_ours(path: Path) -> bool:
    """Whether a database can be read far enough to see tables of ours."""
    try:
        with closing(connect(path, reading=True)) as base:
            return len(schema.tables(base) & set(schema.TABLES)) > 1
    except sqlite3.Error:
        return False


def is_format_1(path: Path) -> bool:
    """Whether a database is of the first format, whose rows stood beside their keys."""
    try:
        with closing(connect(path, reading=True)) as base:
            names = {name for _, name, *_ in base.execute("PRAGMA table_info(results)")}
    except sqlite3.Error:
        return False
    return {"key", "kind", "row"} <= names


def _value(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return None


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _opened(old: Path, into: sqlite3.Connection, copy: Path) -> sqlite3.Connection:
    """A damaged database, opened for reading.

    Where its first page is gone, which says where tables begin, a copy gets that of the new, empty one: ours all begin
    at the same pages.
    """
    base = _lenient(old)
    with suppress(sqlite3.DatabaseError):
        if schema.tables(base) >= {"results", "details"}:
            return base
    base.close()
    into.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    head = Path(into.execute("PRAGMA database_list").fetchone()[2]).read_bytes()[:_PAGE]
    shutil.copyfile(old, copy)
    pages = (copy.stat().st_size // _PAGE).to_bytes(4, "big")
    with copy.open("r+b") as file:
        file.write(head[:28] + pages + head[32:])  # https://www.sqlite.org/fileformat.html, 1.3.7
    return _lenient(copy)


def _lenient(path: Path) -> sqlite3.Connection:
    """A connection that reads what there is of a file that was cut short."""
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA writable_schema=ON")  # else SQLite refuses a file shorter than its first page says
    return base


def _fresh(path: Path) -> sqlite3.Connection:
    """A new database with our tables, in place of any that was begun before."""
    _remove(path)
    base = connect(path)
    schema.create(base)
    return base


def _copy(
    base: sqlite3.Connection, into: sqlite3.Connection, table: str, names: Sequence[str], unread: list[bool]
) -> None:
    """Copy the rows of a table that can be read; a column that the old table lacks makes it unreadable."""
    marks = ", ".join("?" * len(names))
    statement = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608
    if table == "meta":
        statement = statement.replace("IGNORE", "REPLACE")
    lot: list[tuple[Any, ...]] = []
    for row in _readable(base, table, names, unread):
        lot.append(row)
        if len(lot) == _LOT:
            _write(into, statement, lot)
    _write(into, statement, lot)


def _write(into: sqlite3.Connection, statement: str, lot: list[tuple[Any, ...]]) -> None:
    with transaction(into):
        for row in lot:
            with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):  # a value that no such row can have
                into.execute(statement, row)
    lot.clear()


def _readable(
    base: sqlite3.Connection, table: str, names: Sequence[str], unread: list[bool]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a table in order; from a page that cannot be read, on to the next row that can be."""
    base.text_factory = lambda raw: raw.decode(errors="replace")
    query = f"SELECT rowid, {', '.join(names)} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # noqa: S608
    place, top = 0, _last(base, table)
    while place <= top:
        try:
            for row in base.execute(query, (place,)):
                place = row[0]
                yield row[1:]
            return
        except sqlite3.DatabaseError:
            unread.append(True)
            place += 1


def _last(base: sqlite3.Connection, table: str) -> int:
    """The largest row number, or a bound on it where the page that tells cannot be read."""
    found: list[int] = []
    for index in ("NOT INDEXED", *[f"INDEXED BY sqlite_autoindex_{table}_1"]):
        with suppress(sqlite3.DatabaseError):
            found.append(base.execute(f"SELECT max(rowid) FROM {table} {index}").fetchone()[0] or 0)  # noqa: S608
    if found:
        return max(found)
    with suppress(sqlite3.DatabaseError):
        pages, size = (base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(min(pages * size // 50, 5_000_000))
    return 0


def _broken(base: sqlite3.Connection) -> tuple[list[int], list[int]]:
    """Numbers of the rows whose JSON is not what was written, and of those whose JSON is, but not the scalars beside.

    A row without JSON counts among the first, JSON without its scalars among the second.
    """
    names = ", ".join(("r.key", "r.kind", *(f"r.{name}" for name in COLUMNS)))
    query = f"SELECT d.id, d.key, d.kind, row, checksum, {names} FROM details d LEFT JOIN results r USING (id)"  # noqa: S608
    torn, beside = [], []
    for number, key, kind, row, kept, *values in base.execute(query):
        try:
            wanted = [key, kind, *scalars_of(whole(key, kind, row, kept))]
        except (ValueError, TypeError):
            torn.append(number)
            continue
        if not all(_same(one, other) for one, other in zip(values, wanted, strict=True)):
            beside.append(number)
    bare = base.execute("SELECT id FROM results WHERE id NOT IN (SELECT id FROM details)")
    return [*torn, *(number for (number,) in bare)], beside


def _rebuilt(base: sqlite3.Connection) -> int:
    """Remove rows that are torn, and make the scalars of the others again where need be; how many were removed."""
    torn, beside = _broken(base)
    for table in ("results", "details"):
        base.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number in torn])  # noqa: S608
    names = ", ".join(("id", "key", "kind", "job", *COLUMNS))
    marks = ", ".join("?" * (4 + len(COLUMNS)))
    for number in beside:
        found = base.execute("SELECT key, kind, row, checksum FROM details WHERE id = ?", (number,)).fetchone()
        values = scalars_of(whole(*found))
        base.execute("DELETE FROM results WHERE id = ? OR key = ?", (number, found[0]))
        base.execute(
            f"INSERT INTO results ({names}) VALUES ({marks})",  # noqa: S608 (the names are ours)
            (number, found[0], found[1], found[0].partition("-")[0], *values),
        )
    return len(torn)


def _same(stored: Any, wanted: Any) -> bool:
    """Whether SQLite holds a value; of not-a-number it makes nothing."""
    return bool(stored == wanted) or (stored is None and isinstance(wanted, float) and math.isnan(wanted))


def _queue_of_rows(base: sqlite3.Connection) -> None:
    """Fill the queue with what rows and failures tell, until the next run lists the jobs: what is done, what failed."""
    base.execute(
        "INSERT INTO jobs (key, place, kind, job, rows, state) SELECT job, min(id), "
        "coalesce(control, kind), '{}', count(*), 'done' FROM results WHERE planned GROUP BY job"
    )
    base.execute(
        "INSERT OR IGNORE INTO jobs (key, place, kind, job, state) "
        "SELECT key, (SELECT count(*) FROM results) + rowid, kind, '{}', 'failed' FROM failures"
    )
