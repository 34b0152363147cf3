"""What killed jobs left behind in a run folder, on which no row depends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from mithridate.store import Store


def remove(store: Store, *, dry_run: bool) -> list[str]:
    """Remove what killed jobs left behind: files that no row depends on, and notes of jobs that are done.

    Poison sets are moved to ``damaged/``. What was done, in sentences.
    """
    said: list[str] = []
    orphans = list(_orphans(store))
    sets = [each for each in orphans if each.parent.name == "poisons" and not each.name.startswith(".")]
    rest = [each for each in orphans if each not in sets]
    for those, done in ((sets, "moved to damaged"), (rest, "removed")):
        some = ", ".join(str(each.relative_to(store.folder)) for each in those[:3])
        verb = f"would be {done}" if dry_run else f"were {done}"
        if those:
            said.append(f"{len(those)} left behind by killed jobs, on which no row depends, {verb}: {some}")
    if dry_run:
        return said
    for each in sets:  # they are whole, and took long to craft
        move_aside(store.folder, each)
    for each in rest:
        shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
    return said


def move_aside(folder: Path, path: Path) -> None:
    """Move a file or folder of a run to the same place in ``damaged/``."""
    aside = free(folder / "damaged" / path.relative_to(folder))
    aside.parent.mkdir(parents=True, exist_ok=True)
    path.rename(aside)


def free(path: Path) -> Path:
    """The path, or the first numbered one like it that nothing has."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _orphans(store: Store) -> Iterator[Path]:
    folder, known = store.folder, {each.path for each in store.artefacts()}
    sets = {path.split("/")[1] for path in known if path.startswith("poisons/")}
    if "plan" not in store.meta():  # the queue was lost or is of an older format: nobody knows what is left behind
        return
    left = {entry.key for entry in store.queue.entries(("waiting", "running", "failed", "lost"))}
    for each in _inside(folder / "poisons"):
        if each.name not in sets:
            yield each
    for each in _inside(folder / "dropped"):
        if f"dropped/{each.name}" not in known and not _named_in_rows(store, each):
            yield each
    for each in _inside(folder / "notes"):
        if each.name not in left:
            yield each
    yield from folder.glob(".summary.json.*")
    yield from folder.glob(".experiment.json.*")
    yield from folder.glob(".report.html.*")
    yield from (folder / "networks").glob("*.partial")
    yield from (folder / "memory").glob("*.partial")


def _named_in_rows(store: Store, picture: Path) -> bool:
    """Whether a row of a run of format 1, which recorded no files, names a picture."""
    rows = store.rows(keys=[picture.name.partition(".")[0]])
    return any(row.get("dropped_images") == f"dropped/{picture.name}" for row in rows)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
