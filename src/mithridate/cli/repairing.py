"""``mithridate repair``: mend a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def repair(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong.")] = False,
) -> None:
    """Mend a run folder: a damaged or older store, missing or damaged files, and what killed jobs left behind.

    Keeps what it replaces. Ends with code 0 if all is well afterwards, with 1 where --dry-run finds something to mend.
    """
    from mithridate.cli.terminal import console
    from mithridate.repair import repair as mend
    from mithridate.store import Store

    found = mend(folder, dry_run=dry_run)
    screen = console()
    for text in found.said:
        screen.print(f"{text}.", markup=False, highlight=False)
    if not found.faults:
        screen.print(f"The run in '{folder}' is whole.", markup=False, highlight=False)
    elif dry_run:
        screen.print(f"Nothing was changed; mend it with:  mithridate repair {folder}", markup=False, highlight=False)
        raise typer.Exit(1)
    else:
        with Store(folder) as store:
            command = store.meta().get("command", "mithridate run")
        screen.print(f"The run in '{folder}' is mended. Go on with:  {command}", markup=False, highlight=False)
