"""Mend a run folder: its database, the files that rows depend on, and what nothing depends on any more."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mithridate import artefacts, orphans, remains, salvage
from mithridate.database import sentences
from mithridate.errors import StoreError
from mithridate.folder_lock import FolderLock
from mithridate.orphans import free, move_aside
from mithridate.remains import DATABASE
from mithridate.store import Artefact, Store

UNKNOWN = ""
"""The hash of a file of which none was recorded: whatever comes back counts as another."""


@dataclass(kw_only=True)
class Findings:
    """What was wrong in a run folder, and what was done about it."""

    said: list[str] = field(default_factory=list)
    """Plain sentences."""
    again: int = 0
    """Jobs that are to be done again."""
    faults: int = 0
    """Things that were wrong."""

    def wrong(self, text: str) -> None:
        """Add a sentence about something that was wrong."""
        self.faults += 1
        self.said.append(text)


def repair(folder: Path, *, dry_run: bool = False) -> Findings:
    """Mend the run in ``folder``; with ``dry_run`` only say what is wrong.

    A damaged database is kept beside the new one that takes over every readable row; damaged files are moved to
    ``damaged/``, and their jobs are to be done again; files that nothing depends on are removed. Raises
    :class:`StoreError` where there is no run, where one is under way, or where the disk is full: nothing has then
    changed that a further repair would not finish.
    """
    _check_run(folder)
    found = Findings()
    lock = FolderLock(folder / "store.lock")
    with sentences(folder / DATABASE):
        lock.look() if dry_run else lock.take()
        try:
            if not dry_run:
                _put_back(folder)
            elif not (folder / DATABASE).exists() and remains.kept(folder):
                found.wrong(f"{DATABASE} is gone; {remains.kept(folder)[-1].name} would be put in its place and mended")
                return found
            whole = _mend_database(folder, found, dry_run=dry_run)
            lock.release()
            if whole:
                with Store(folder, create=not dry_run) as store:
                    _mend_rows(store, found, dry_run=dry_run)
                    _mend_files(store, found, dry_run=dry_run)
                    found.said += orphans.remove(store, dry_run=dry_run)
        finally:
            lock.release()
    return found


def _check_run(folder: Path) -> None:
    """Refuse a folder that shows no sign of a run, before anything in it is touched."""
    path = folder / DATABASE
    with sentences(path):
        signs = bool(remains.of_run(folder)) if folder.is_dir() else False
        if not path.exists() and not signs:
            raise StoreError(f"there is no run in '{folder}' (no {DATABASE}); start one with  mithridate run")
        if not path.exists():
            return
        _check_ours(path)
        if not (signs or (folder / "experiment.json").is_file() or salvage.is_ours(path)):
            raise StoreError(
                f"'{path}' is not the database of a run, and nothing beside it (experiment.json, poisons) tells of "
                "one; nothing was changed"
            )


def _check_ours(path: Path) -> None:
    """Raise :class:`StoreError` where the database is another program's, or a later release's."""
    try:
        Store(path.parent).close()
    except StoreError as error:
        if any(words in str(error) for words in ("another program's", "this release reads")):
            raise


def _databases(folder: Path) -> list[Path]:
    """The database and its predecessors, the one moved away last at the end."""
    return [*remains.kept(folder), *(each for each in [folder / DATABASE] if each.exists())]


def _put_back(folder: Path) -> None:
    """Undo a repair that was killed between moving the old database away and the new one in."""
    if not (folder / DATABASE).exists() and remains.kept(folder):
        _move(remains.kept(folder)[-1], folder / DATABASE)


def _mend_database(folder: Path, found: Findings, *, dry_run: bool) -> bool:
    """Bring the database to where it can be opened; whether it is (it is not after a dry run that found damage)."""
    path, fresh = folder / DATABASE, folder / ".repair" / DATABASE
    if not path.exists():
        found.wrong(f"{DATABASE} is gone, and none was kept: all results are to be computed again")
        end, work = "gone", salvage.empty
    elif salvage.is_format_1(path):
        found.wrong(f"{DATABASE} has format 1, of an earlier release")
        end, work = "format1", salvage.upgrade
    else:
        wrong = _diagnosis(path)
        if not wrong:
            return True
        found.wrong(f"{DATABASE} is {wrong}")
        end, work = "damaged", salvage.salvage
    if dry_run:
        if path.exists():
            found.said.append("Its rows were not counted; without --dry-run every readable one is kept")
        return False
    shutil.rmtree(fresh.parent, ignore_errors=True)
    try:
        fresh.parent.mkdir()
        saved = work(path, fresh)
        _keep_settings(fresh.parent, folder)
        _check_merged(fresh)
        kept = _swap(path, fresh, end)
    finally:
        shutil.rmtree(fresh.parent, ignore_errors=True)
    rows = f"{saved.rows} row{'s' * (saved.rows != 1)}"
    if not kept.exists():
        found.said.append(f"Made a new, empty {DATABASE}")
        return True
    found.said.append(f"Saved {rows} into a new {DATABASE}; the old one is kept as {kept.name}")
    if saved.dropped:
        found.said.append(f"{saved.dropped} more were found, but are not what was written, and were left out")
    if saved.unread:
        found.said.append("Parts of the old one could not be read; what they held is to be done again")
    return True


def _diagnosis(path: Path) -> str:
    """What is wrong with the database; raises :class:`StoreError` where it is not ours to mend."""
    wrong = salvage.diagnosis(path)
    _check_ours(path)
    try:
        Store(path.parent).close()
    except StoreError:
        return wrong or "empty"
    return wrong


def _keep_settings(fresh: Path, folder: Path) -> None:
    """Take the experiment's settings from their copy where the database has lost them."""
    with Store(fresh, create=True) as store:
        if "experiment" not in store.meta():
            try:
                settings = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return
            store.describe(experiment=settings)


def _mend_rows(store: Store, found: Findings, *, dry_run: bool) -> None:
    """Have jobs that lost rows, or whose driver is gone, wait again."""
    wanting = store.queue.wanting()
    if wanting:
        found.again += len(wanting)
        found.wrong(f"{_jobs(len(wanting))} lost rows and will be done again by the next run")
    if not dry_run:
        store.queue.reopen(wanting)
        store.queue.release()


def _mend_files(store: Store, found: Findings, *, dry_run: bool) -> None:
    """Move damaged files away, and have the jobs that made them wait again."""
    folder = store.folder
    unrecorded = list(_unrecorded(store))
    faults = artefacts.changed(folder, store.artefacts(done=True))
    faults += [artefacts.Fault(artefact=each, what="missing") for each in unrecorded if each.sha256 == UNKNOWN]
    recorded = [each for each in unrecorded if each.sha256 != UNKNOWN]
    jobs = dict.fromkeys(fault.artefact.job for fault in faults)
    for fault in faults:
        found.wrong(f"{fault.artefact.path} is {'missing' if fault.what == 'missing' else 'not what was written'}")
    if faults:
        found.again += len(jobs)
        found.said.append(
            f"{_jobs(len(jobs))} will be done again by the next run. Poison that comes back the same to the byte keeps "
            "the rows of its victims; where it differs they are put aside and done again"
        )
    if recorded:
        found.said.append(f"Recorded the hashes of {len(recorded)} files that had none")
    if dry_run:
        return
    for fault in faults:
        _set_aside(folder, fault.artefact)
    store.add_all([], artefacts=unrecorded)
    store.queue.wait(list(jobs))


def _unrecorded(store: Store) -> Iterator[Artefact]:
    """The files of crafted poisons of which no hash was recorded: all of a run of format 1.

    A poison set that agrees with its own manifest is taken as it is.
    """
    known = {each.path for each in store.artefacts()}
    for row in store.rows("craft"):
        place = str(row.get("folder") or f"poisons/{row['key']}")
        paths = [f"{place}/{name}" for name in ("manifest.json", "poison.safetensors")]
        if known.issuperset(paths):
            continue
        try:
            found = [artefacts.described(store.folder, path, job=row["key"]) for path in paths]
            manifest: Any = json.loads((store.folder / paths[0]).read_text(encoding="utf-8"))
            agree = manifest["poison_sha256"] == found[1].sha256
        except (StoreError, OSError, ValueError, KeyError, TypeError):
            agree = False
        yield from found if agree else [Artefact(path=path, job=row["key"], sha256=UNKNOWN, bytes=0) for path in paths]


def _set_aside(folder: Path, artefact: Artefact) -> None:
    """Move a damaged file (of a poison set, the whole folder) to ``damaged/``."""
    path = folder / artefact.path
    path = path.parent if artefact.path.startswith("poisons/") else path
    if path.exists():
        move_aside(folder, path)


def _move(old: Path, new: Path) -> None:
    """Rename a database with what belongs to it; the log first, so that it is never beside another database."""
    for end in ("-wal", "-shm", ""):
        if old.with_name(old.name + end).exists():
            old.with_name(old.name + end).rename(new.with_name(new.name + end))


def _swap(path: Path, fresh: Path, end: str) -> Path:
    """Have the fresh database take the name of the old one, which is kept beside with its log; where it is kept.

    The name is never without a file: killed at any point, this leaves the old database or the new one.
    """
    before = _databases(path.parent)[:-1]
    twins = [each for each in before if filecmp.cmp(each, path, shallow=False)]  # of a repair that was killed here
    kept = twins[0] if twins else free(path.with_name(f"{path.name}.{end}"))
    for more in ("-wal", "-shm", ""):
        old = path.with_name(path.name + more)
        if old.exists():
            _twin(old, kept.with_name(kept.name + more), fresh.with_name("kept"))
    for more in ("-wal", "-shm"):  # which would be taken for those of the new one
        path.with_name(path.name + more).unlink(missing_ok=True)
    fresh.replace(path)
    return kept


def _check_merged(fresh: Path) -> None:
    """Raise :class:`StoreError` where rows of the fresh database are in its log still, which stays behind."""
    log = fresh.with_name(f"{fresh.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"the disk is full: the log of '{fresh}' could not be merged into it; the old database is as it was; free "
            "space and repair again"
        )


def _twin(old: Path, new: Path, between: Path) -> None:
    """Give a file a second name; where the file system knows no such thing, make a copy."""
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(old)
    except OSError:
        shutil.copy2(old, between)
        between.replace(new)


def _jobs(number: int) -> str:
    return f"{number} job{'s' * (number != 1)}"
