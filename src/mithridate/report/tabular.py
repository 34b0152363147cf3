"""The result table for other programs, as CSV and Parquet: one plain column for each number."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mithridate.schema import COLUMNS
from mithridate.store import Store

Row = Mapping[str, Any]

PLACES = ("scenario", "attack", "victim", "defense")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; https://owasp.org/www-community/attacks/CSV_Injection."""


def flat(row: Row) -> dict[str, Any]:
    """One row of ``summary.json`` as plain columns: shares in [0, 1], bounds of 95 % intervals beside their means.

    ``interval`` is ``sequential`` where those of success hold however often one looked; empty for ordinary ones.
    """
    worth, rise = row.get("comparison") or {}, row.get("rise") or {}
    return {
        **{name: row.get(name) for name in (*PLACES, "box")},
        "control_of": "; ".join(row.get("control_of") or ()) or None,
        "oracle": bool(row.get("oracle")),
        "trials": row.get("trials"),
        "victims": row.get("victims"),
        "measure": row.get("measure") or "success",
        "interval": row.get("interval"),
        **_spread("success", row.get("success")),
        **_spread("base_rate", row.get("base_rate_interval"), row.get("base_rate")),
        **_spread("noise_control", row.get("noise_interval"), row.get("noise_control")),
        **_spread("clean_accuracy", row.get("clean_accuracy")),
        **_spread("accuracy_without_poison", row.get("accuracy_without_poison")),
        **_spread("rise", rise),
        **{name: row.get(name) for name in ("radius", "budget", "poisoned_rows")},
        **{name: row.get(name) for name in ("dropped", "dropped_share", "poison_recall", "clean_drop")},
        **{name: row.get(name) for name in ("seconds", "seconds_per_victim", "times_undefended", "peak_memory")},
        "worth": worth.get("worth"),
        "worth_words": worth.get("words"),
        "published": "; ".join(map(published, row.get("published") or ())) or None,
        "ledger": "; ".join(map(_known, row.get("ledger") or ())) or None,
    }


def _spread(name: str, found: Row | None, mean: float | None = None) -> dict[str, float | None]:
    """A mean and its bounds."""
    found = found or {}
    return {name: found.get("mean", mean), f"{name}_low": found.get("low"), f"{name}_high": found.get("high")}


def published(each: Row) -> str:
    """A published number in words, and where ours lies: 85 % over 100 trials (Table 1, ours below)."""
    trials = f" over {each['trials']} trials" if each.get("trials") else ""
    ours = each.get("ours")
    beside = f", ours {ours}" if ours in ("below", "above") else ""
    return f"{100 * each['rate']:.3g} %{trials} ({each['source']}{beside})"


def _known(fact: Row) -> str:
    """One line of the threat-model ledger."""
    return f"{fact.get('who')}: {fact.get('what')} = {fact.get('value')}{' (oracle)' if fact.get('oracle') else ''}"


def as_csv(rows: Sequence[Row]) -> str:
    """Plain columns as CSV (RFC 4180 but for line feeds).

    Text that a spreadsheet would compute has an apostrophe before it.
    """
    text = io.StringIO()
    write_csv(text, list(flat({})), (flat(row).values() for row in rows))
    return text.getvalue()


def write_csv(file: Any, names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """A heading and rows into a text file."""
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([harmless(value) for value in row] for row in rows)


def harmless(value: Any) -> Any:
    """A value as a spreadsheet may have it: text never begins like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Plain columns as Parquet; ``path`` must not exist."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [flat(row)[name] for row in rows] for name in flat({})}
    arrays = {name: pa.array(values, _type(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)


def _type(name: str) -> Any:
    import pyarrow as pa

    if name == "oracle":
        return pa.bool_()
    if name in ("trials", "victims", "poisoned_rows", "peak_memory"):
        return pa.int64()
    texts = (
        *PLACES,
        "box",
        "control_of",
        "measure",
        "interval",
        "radius",
        "worth",
        "worth_words",
        "published",
        "ledger",
    )
    return pa.string() if name in texts else pa.float64()


RAW = ("key", "kind", *COLUMNS)
"""The columns of raw rows: scalars as the store keeps them."""
_LOT = 50_000


def raw(store: Store) -> Generator[tuple[Any, ...], None, None]:
    """The scalars of every planned row of a run, in the order of :data:`RAW`."""
    yield from store.scalars(RAW)


def write_raw_parquet(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    """Raw rows as Parquet, in lots: a million take no more memory than a few."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("key", "kind", "control", "attack", "scenario", "defense", "victim", "box", "training")
    types = {name: pa.string() if name in texts else pa.float64() for name in RAW}
    types |= {name: pa.int64() for name in ("trial", "run")}
    schema, lines = pa.schema(list(types.items())), iter(rows)
    with pq.ParquetWriter(path, schema) as file:
        while lot := list(islice(lines, _LOT)):
            columns = zip(*lot, strict=True)
            arrays = [pa.array(column, types[name]) for name, column in zip(RAW, columns, strict=True)]
            file.write_table(pa.table(arrays, schema=schema))
