"""``mithridate status`` as a person sees it, and as a program reads it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mithridate.cli import status as module
from mithridate.folder_lock import FolderLock
from mithridate.jobqueue import Entry
from mithridate.report import combinations
from mithridate.report.load import read
from mithridate.store import Failure, Store
from tests.cli.calls import Caller
from tests.report.fabricate import add_victim


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three trials judged, one that failed, one that waits."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment={"name": "grid"}, command="mithridate run grid --trials 5")
        store.queue.fill([Entry(key=f"a{trial}", kind="attack", job={"trial": trial}) for trial in range(5)])
        for trial in range(3):
            add_victim(store, "attack", trial, hit=trial > 0)
            store.queue.lease(f"a{trial}")
            store.add_all([(f"a{trial}", "surrogate", {})], job=f"a{trial}")
        store.queue.lease("a3")
        store.fail(Failure(key="a3", kind="attack", message="the loss became NaN", trace=""))
        store.queue.release("a3", state="failed")
    return tmp_path


def test_says_what_is_done_failed_and_left_and_how_to_go_on(call: Caller, folder: Path) -> None:
    said = call("status", folder)
    assert (said.code, said.err) == (0, "")
    assert "grid: stopped, 3 of 5 jobs done" in said.out
    assert "1 x attack: the loss became NaN" in said.out
    assert "Go on with:  mithridate run grid --trials 5" in said.out


def test_first_numbers_are_those_of_the_report(call: Caller, folder: Path) -> None:
    with Store(folder) as store:
        store._base.execute("UPDATE results SET planned = 1")
    (number,) = call("status", folder, "--json").json()["numbers"]
    (cell,) = combinations.cells(read(folder))
    expected = combinations.success(cell.poisoned)
    assert expected is not None
    found = [number[name] for name in ("success", "low", "high", "trials")]
    assert found == [expected.mean, expected.low, expected.high, 3]
    assert "67%" in call("status", folder).out


def test_as_json_has_every_count(call: Caller, folder: Path) -> None:
    found = call("status", folder, "--json").json()
    assert found["jobs"] == {"waiting": 1, "running": 0, "done": 3, "failed": 1, "lost": 0, "all": 5}
    assert (found["standing"], found["command"]) == ("stopped", "mithridate run grid --trials 5")
    assert found["failures"] == [{"sentence": "the loss became NaN", "kind": "attack", "jobs": 1}]


def test_a_run_under_way_says_that_nothing_is_known_yet_of_the_time_left(call: Caller, folder: Path) -> None:
    with Store(folder) as store:
        store._base.execute("UPDATE jobs SET started = NULL WHERE state = 'done'")
        store.queue.lease("a4", "node 7")
        store.queue.beat({"a4": ("victim", 3, 25)})
    lock = FolderLock(folder / "store.lock")
    lock.take()
    said = call("status", folder)
    lock.release()
    assert "time left not known yet" in said.out
    assert all(word in said.out for word in ("trial 4, victim 1", "3/25", "node 7"))


def test_watching_ends_when_nobody_works_any_more(call: Caller, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.05)
    lock = FolderLock(folder / "store.lock")
    lock.take()
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    started = time.monotonic()
    said = call("status", folder, "--watch")
    timer.join()
    assert time.monotonic() - started > 0.25
    assert said.code == 0
    assert "grid: stopped" in said.out


def test_watch_and_json_together_are_refused(call: Caller, folder: Path) -> None:
    said = call("status", folder, "--watch", "--json")
    assert said.code == 1
    assert "leave one of them out" in said.err


def test_a_folder_without_a_run_is_a_sentence(call: Caller, tmp_path: Path) -> None:
    said = call("status", tmp_path)
    assert said.code == 1
    assert "there is no run" in said.err


def test_starts_without_torch_and_what_is_slow(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mithridate.overview import overview; "
        "import mithridate.cli.status; overview(Path(sys.argv[1])); "
        "print([name for name in ('torch', 'numpy', 'scipy', 'matplotlib', 'pydantic') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
