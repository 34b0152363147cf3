"""How fast a run folder with very many rows is read: status, the decision what is left, and the scalars of all rows.

    python benchmarks/store_scale.py --rows 1000000 --out store_scale.json

Fills a store with made-up rows of the usual size (nine tenths of the jobs are done), then times what a person waits
for. Times are wall-clock seconds, the best of three for what is read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mithridate import __version__, campaign
from mithridate.artefacts import lost
from mithridate.jobqueue import Entry
from mithridate.store import Artefact, Store

VICTIMS = 49
"""Victims of each poison: seven stacks, seven runs."""


def measured(rows: int, folder: Path, *, files: bool = False, long: bool = True) -> dict[str, Any]:
    """Fill a store in ``folder`` with ``rows`` jobs and time it; ``files``: with poison sets on the disk, too.

    ``long``: with the curves and matrices that make up most of a row, and which none of this reads.
    """
    found: dict[str, Any] = {"rows": rows}
    with Store(folder, create=True) as store:
        found["add rows"] = _seconds(lambda: _add(store, rows * 9 // 10, files, long))
        found["fill the queue"] = _seconds(lambda: store.queue.fill(entries(rows)))
    with Store(folder) as store:
        found["open"] = _best(lambda: Store(folder).close())
        found["status"] = _best(store.progress)
        found["resume decision"] = _best(lambda: campaign.plan(store))
        found["take back leases"] = _best(store.queue.release)
        found["read the jobs left"] = _best(lambda: list(store.queue.entries(campaign.UNDONE)))
        names = ("key", "control", "attack", "defense", "trial", "run", "success", "clean_accuracy")
        found["read scalars"] = _best(lambda: sum(1 for _ in store.scalars(names, "victim")))
        found["failures"] = _best(store.failures)
        if files:
            found["check files"] = _best(lambda: lost(folder, store.artefacts(done=True)))
            found["files"] = len(store.artefacts())
        found["jobs left"] = campaign.plan(store).left
    found["bytes"] = sum(each.stat().st_size for each in folder.glob("store.sqlite*"))
    return found


def entries(rows: int) -> Iterator[Entry]:
    """Made-up jobs: one poison, then its victims."""
    for number in range(rows):
        craft = number - number % (VICTIMS + 1)
        place = {"trial": number // 500, "defense": number % 7, "run": number % 49 // 7}
        if number == craft:
            yield Entry(key=key(number), kind="craft", job={**place, "kind": "craft", "needs": [key(-1), key(-2)]})
        else:
            yield Entry(key=key(number), kind="attack", job={**place, "kind": "attack", "needs": [key(craft)]})


def key(number: int) -> str:
    """A made-up key of a job."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:24]


def _add(store: Store, rows: int, files: bool, long: bool) -> None:
    for start in range(0, rows, 10_000):
        numbers = range(start, min(start + 10_000, rows))
        lot = [(key(n), "victim" if n % (VICTIMS + 1) else "craft", _row(n, long=long)) for n in numbers]
        store.add_all(lot, artefacts=list(_poisons(store.folder, lot, files)))


def _poisons(folder: Path, lot: list[tuple[str, str, dict[str, Any]]], files: bool) -> Iterator[Artefact]:
    for name, kind, _ in lot:
        if kind == "craft" and files:
            for each in ("manifest.json", "poison.safetensors"):
                path = folder / "poisons" / name / each
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x" * 100)
                yield Artefact(path=f"poisons/{name}/{each}", job=name, sha256="0" * 64, bytes=100)


def _row(number: int, *, long: bool) -> dict[str, Any]:
    """A row of the usual size: a victim's curve, confusion matrix and target."""
    short = {
        "control": "attack", "attack": f"attack {number % 4}", "scenario": "1 %, linf 8/255", "victim": "resnet18",
        "defense": f"defense {number % 7}", "trial": number // 500, "run": number % 49 // 7, "success": number % 3 / 2,
        "clean_accuracy": 0.9, "box": "grey-box", "judged": 1, "seconds": 12.5, "reused": 0.0, "training": key(number),
        "dropped": 0, "dropped_poison": 0, "poison_rows": 500, "training_rows": 50_000, "peak_memory": 10**9,
    }  # fmt: skip
    if not long:
        return short
    return short | {
        "targets": [{"id": 5, "true": 1, "wanted": 2, "predicted": 1, "probabilities": [0.1] * 10, "hit": False}],
        "curve": {"loss": [0.5] * 40, "accuracy": [0.5] * 40}, "confusion": [[100] * 10] * 10,
    }  # fmt: skip


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _best(work: Callable[[], Any]) -> float:
    return min(_seconds(work) for _ in range(3))


def main() -> None:
    """Measure, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("store_scale.json"))
    parser.add_argument("--folder", type=Path, help="Where to keep the store; default: a temporary folder.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(asked.rows, asked.folder or Path(scratch) / "run", files=asked.files)
    about = {"mithridate": __version__, "sqlite": sqlite3.sqlite_version, "python": platform.python_version()}
    about |= {"processor": platform.processor() or platform.machine(), "cores": str(os.cpu_count())}
    about["command"] = " ".join(["python", *sys.argv])
    asked.out.write_text(json.dumps({"seconds and counts": found, "environment": about}, indent=2) + "\n")
    print(asked.out.read_text())


if __name__ == "__main__":
    main()
