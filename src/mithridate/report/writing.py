"""Everything that is drawn of a run folder, from one reading of it: ``summary.json`` and ``report.html``."""

from __future__ import annotations

from pathlib import Path

from mithridate.report import page, tables
from mithridate.report.load import read
from mithridate.report.reading import uncollected
from mithridate.store import write_atomically


def write(folder: Path) -> Path:
    """Write ``summary.json`` and ``report.html`` into a run folder; the page's path.

    The run may be unfinished: what is missing is named on the page. Raises
    :class:`~mithridate.errors.StoreError` where the run is absent or damaged, or a file cannot be written.
    """
    with uncollected():  # nothing of the run can be freed before both are written
        run = read(Path(folder))
        write_atomically(Path(folder) / "summary.json", tables.as_json(run))
        path = Path(folder) / "report.html"
        write_atomically(path, page.html(run))
    return path
