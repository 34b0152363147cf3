"""``mithridate compare``: the same cells of two runs, or the attacks of one, over the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders; the first is the base.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs cell by cell over the same trials: differences with intervals, and tests adjusted for their number.

    Where the trials are not the same (other data, goal, seed or targets), says so and compares unpaired samples.
    Of one run alone, compares its attacks with each other. --json has bootstrap intervals of the differences, too.
    """
    import json

    from mithridate.cli.terminal import console
    from mithridate.report import compared
    from mithridate.report.comparing import compare as beside

    if len(folders) == 1:
        _within(folders[0], as_json)
        return
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


def _within(folder: Path, as_json: bool) -> None:
    """Print the attacks of one run against each other."""
    import json

    from mithridate.cli.terminal import console
    from mithridate.report import attack_pairs, compared
    from mithridate.report.combinations import cells
    from mithridate.report.load import read

    run = read(folder)
    found = cells(run)
    if as_json:
        typer.echo(json.dumps(attack_pairs.rows(run, found), indent=2, ensure_ascii=False))
        return
    screen = console()
    for line in compared.of_attacks(attack_pairs.pairs_of(run, found)):
        screen.print(line, markup=False, highlight=False)
