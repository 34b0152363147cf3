"""``mithridate leaderboard``: several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("leaderboard.html"),
) -> None:
    """Put several runs on one offline page, ranked only where data, threat, victim and surrogates are the same."""
    from mithridate.cli.terminal import errors_console
    from mithridate.report import leaderboard_page
    from mithridate.report.words import plural

    board = leaderboard_page.write(folders, to)
    for problem in board.problems:
        errors_console().print(f"left out: {problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    lists = plural(len(board.groups), "protocol")
    typer.echo(f"Leaderboard: {to} ({plural(len(board.entrants), 'run')}, {lists})")
