"""``mithridate report``: draw the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]) -> None:
    """Rebuild summary.json and report.html from what a run folder holds."""
    from mithridate.report import writing

    typer.echo(f"Report: {writing.write(folder)}")
