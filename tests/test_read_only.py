"""A run can be read where nothing can be written: on read-only media, and in other people's folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.jobqueue import Entry
from mithridate.overview import overview
from mithridate.repair import repair
from mithridate.store import Store, write_atomically

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may look into."""
    found = Path(tempfile.mkdtemp())
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Have nobody write there; root, whom no permission stops, becomes somebody else meanwhile."""
    those = [folder, *folder.rglob("*")]
    for each in those:
        each.chmod(0o555 if each.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for each in those:
            each.chmod(0o755 if each.is_dir() else 0o644)


def finished(folder: Path) -> Path:
    with Store(folder, create=True) as store:
        store.describe(experiment={"name": "x"}, command="mithridate run x", plan="as filled")
        store.queue.fill([Entry(key="a", kind="attack")])
        store.add_all([("a", "victim", {"control": "attack", "success": 1.0})], job="a")
    return folder


def test_a_finished_run_is_read_and_left_as_it_is(place: Path) -> None:
    folder = finished(place / "run with a space, and 100 %")
    with unwritable(folder):
        before = sorted(folder.iterdir())
        with Store(folder) as store:
            assert [row["success"] for row in store.rows()] == [1.0]
        assert overview(folder).standing == "done"
        assert repair(folder, dry_run=True).faults == 0
        assert sorted(folder.iterdir()) == before


def test_a_dry_repair_finds_damage(place: Path) -> None:
    folder = finished(place / "run")
    with Store(folder) as store:
        store._base.execute("UPDATE results SET success = 0.5")
    with unwritable(folder):
        assert repair(folder, dry_run=True).faults == 1


def test_what_must_write_says_so(place: Path) -> None:
    folder = finished(place / "run")
    with unwritable(folder):
        with pytest.raises(StoreError, match=r"cannot write .*summary.json': .*; choose a place where you may write"):
            write_atomically(folder / "summary.json", "")
        with pytest.raises(StoreError, match="Permission denied"):
            Store(folder, create=True)
        with pytest.raises(StoreError, match="Permission denied"):
            repair(folder)


def test_a_log_that_is_not_merged_is_not_passed_over(place: Path) -> None:
    folder = place / "run"
    finished(folder)
    with Store(folder) as store:
        store.describe(more="in the log")
        shutil.copytree(folder, place / "killed")
    (place / "killed" / "store.sqlite-shm").unlink()
    with unwritable(place / "killed"), pytest.raises(StoreError, match=r"-wal is not merged yet; copy the run folder"):
        Store(place / "killed")


def test_a_run_that_stopped_on_purpose_is_read_too(place: Path) -> None:
    folder = finished(place / "run")
    with Store(folder, create=True) as store:
        store.describe(sequential={"width": 0.1, "trials": 1, "most": 2, "reached": True})
        store.queue.fill([Entry(key="a", kind="attack"), Entry(key="b", kind="attack", job={"trial": 1})])
    with unwritable(folder):
        assert overview(folder).standing == "enough"
