"""``mithridate stress``: from a table of one's own to what poison would do to a classifier trained on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer


def stress(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV or Parquet file, one row an example.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to be predicted.")],
    budget: Annotated[str, typer.Option(help="Rows the attacker appends, as a share of the training rows.")] = "5 %",
    trials: Annotated[int, typer.Option(min=2, help="Draws of training rows; more make the intervals narrower.")] = 5,
    rows: Annotated[int, typer.Option(min=30, help="Training rows of a trial, at most.")] = 1000,
    victim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A scikit-learn classifier; may be repeated. The first is the one judged."),
    ] = None,
    test: Annotated[Path | None, typer.Option(help="A second file to judge on; default: rows held out.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out; may be repeated.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of names, not numbers; may be repeated.")
    ] = None,
    immutable: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column that no attacker can write; may be repeated.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PLACE=VALUE",
            help="Another setting of the table (mithridate show table): separator=bar, kinds.age=integer; "
            "may be repeated.",
        ),
    ] = None,
    missing: Annotated[str, typer.Option(help="Rows with missing values: refuse, or drop them.")] = "refuse",
    seed: Annotated[int, typer.Option(help="Decides all that is random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/stress-NAME.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one a core.")] = None,
) -> None:
    """Poison a copy of your own table, train usual classifiers on it, and say what the poison and each defense cost.

    The file is never changed. Run it again to go on where it stopped.
    """
    from mithridate import config, runtime
    from mithridate.cli.running import carry_out
    from mithridate.datasets.table import Table
    from mithridate.stress import MAIN, stress_test
    from mithridate.threat import ThreatModel

    share = config.setting(ThreatModel, "budget", budget)
    settings = {
        "file": str(file),
        "target": target,
        "test": None if test is None else str(test),
        "ignore": ignore or [],
        "kinds": dict.fromkeys(category or [], "category"),
        "immutable": immutable or [],
        "missing": missing,
        "seed": seed,
    }
    source = config.parse(Table, config.override(settings, [_quoted(each) for each in changes or []]))
    name = re.sub(r"[^\w.-]+", "-", file.stem).strip("-.")[:60] or "table"
    victims = victim or [MAIN, "random-forest"]
    found = stress_test(
        source, name=f"stress-{name}", budget=share, trials=trials, rows=rows, victims=victims, seed=seed
    )
    carry_out(found, out=out, where=runtime.device("cpu"), workers=workers)


def _quoted(assignment: str) -> str:
    """An assignment whose value, where it is one sign (a separator, say), means no more than itself in YAML."""
    place, equals, value = assignment.partition("=")
    single = len(value) == 1 and not value.isalnum()
    return f"{place}{equals}{json.dumps(value)}" if single else assignment
