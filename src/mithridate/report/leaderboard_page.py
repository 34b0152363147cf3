"""The page of a leaderboard: one offline HTML file over several run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mithridate.report.leaderboard import Leaderboard, leaderboard
from mithridate.report.page import dressing, environment
from mithridate.report.words import KNOWLEDGE
from mithridate.store import write_atomically


def write(folders: Sequence[Path], path: Path) -> Leaderboard:
    """Write the leaderboard over run folders as a page, and return what it shows.

    Raises :class:`~mithridate.errors.StoreError` where no folder can be read, or the page cannot be written.
    """
    board = leaderboard(folders)
    write_atomically(path, html(board))
    return board


def html(board: Leaderboard) -> str:
    """The page as text; the same runs give the same bytes."""
    template = environment().get_template("leaderboard.html.j2")
    return template.render(board=board, knowledge=KNOWLEDGE, **dressing())
