"""The results of a run as a table for other programs: what ``mithridate export --table`` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer


def export_table(folder: Path, to: Path | None, kind: str, *, every_row: bool) -> None:
    """Write the table of results, or every row of them, or print it.

    Raises :class:`ConfigError` and :class:`StoreError` where that cannot be.
    """
    from mithridate.errors import ConfigError, StoreError

    kinds = ("parquet", "csv", "latex", "markdown")
    if kind not in kinds:
        raise ConfigError(f"--table can be {', '.join(kinds[:-1])} or {kinds[-1]}, but it is '{kind}'")
    if every_row and kind in ("latex", "markdown"):
        raise ConfigError(f"--rows writes every single row, which is no {kind} table to read; say csv or parquet")
    if kind == "parquet" and to is None:
        raise ConfigError("parquet is no text to print; say where to write it with --to FILE")
    if to is not None and to.exists():
        raise StoreError(f"'{to}' exists already; choose a new file with --to")
    if to is not None and not to.parent.is_dir():
        raise StoreError(f"there is no folder '{to.parent}' to write in; make it, or choose another --to")
    try:
        count = _write_rows(folder, to, kind) if every_row else _write_summary(folder, to, kind)
    except BaseException:
        if to is not None:
            to.unlink(missing_ok=True)  # whole or not at all
        raise
    if to is not None:
        typer.echo(f"{count} {'result' if every_row else 'line'}{'s' * (count != 1)} of the run in '{folder}': {to}")


def _write_summary(folder: Path, to: Path | None, kind: str) -> int:
    """One line for each combination; how many."""
    from mithridate.report import tables, tabular, typeset
    from mithridate.report.load import read

    found = tables.summary(read(folder))["rows"]
    if kind == "parquet":
        assert to is not None, "asked for before"
        tabular.write_parquet(to, found)
        return len(found)
    texts = {"csv": tabular.as_csv, "latex": typeset.as_latex, "markdown": typeset.as_markdown}
    text = texts[kind](found)
    if to is None:
        typer.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8", newline="")
    return len(found)


def _write_rows(folder: Path, to: Path | None, kind: str) -> int:
    """The scalars of every row; how many."""
    import sys
    from contextlib import closing

    from mithridate.report import tabular
    from mithridate.store import Store

    count = 0

    def counted(lines: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        nonlocal count
        for line in lines:
            count += 1
            yield line

    with Store(folder) as store, closing(tabular.raw(store)) as lines:
        if kind == "parquet":
            assert to is not None, "asked for before"
            tabular.write_raw_parquet(to, counted(lines))
        elif to is None:
            tabular.write_csv(sys.stdout, tabular.RAW, counted(lines))
        else:
            with to.open("w", encoding="utf-8", newline="") as file:
                tabular.write_csv(file, tabular.RAW, counted(lines))
    return count
