"""``mithridate compare``: the same cells of two runs, over the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Run folders; the first is the base.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs cell by cell over the same trials: differences with intervals, and tests adjusted for their number.

    Where the trials are not the same (other data, goal, seed or targets), says so and compares unpaired samples.
    """
    import json

    from mithridate.cli.terminal import console
    from mithridate.report import compared
    from mithridate.report.comparing import compare as beside

    found = beside(folders)
    if as_json:
        typer.echo(json.dumps([compared.as_json(each) for each in found], indent=2, ensure_ascii=False))
        return
    screen = console()
    for each in found:
        for line in compared.head(each):
            screen.print(line, markup=False, highlight=False)
        for pair in each.pairs:
            text = f"- {compared.cell(pair)}\n  {compared.sentence(pair)}"
            screen.print(text, markup=False, highlight=False)
