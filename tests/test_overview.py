"""Where a campaign stands: counts, what runs, why jobs failed, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mithridate import overview as module
from mithridate.folder_lock import FolderLock
from mithridate.jobqueue import Entry
from mithridate.overview import overview
from mithridate.store import Failure, Store

JOBS = [
    Entry(key="s", kind="surrogate", job={"run": 0}),
    *(Entry(key=f"c{k}", kind="craft", job={"trial": k, "attack": 1}) for k in range(2)),
    *(Entry(key=f"a{k}", kind="attack", job={"trial": k, "run": 1, "defense": 1}) for k in range(6)),
]
NAMES = {"attack": ["bullseye", "matching"], "scenario": ["base"], "victim": ["convnet"], "defense": ["none", "epic"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign whose surrogate took 10 s and whose first poison took 40 s."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment={"name": "grid"}, command="mithridate run grid", names=NAMES)
        store.queue.fill(JOBS)
        took(store, "s", 10)
        took(store, "c0", 40)
    return tmp_path


def took(store: Store, key: str, seconds: float) -> None:
    """A job done in so many seconds."""
    store.queue.lease(key)
    store.add_all([(key, "surrogate", {"seconds": seconds})], job=key)
    store._base.execute("UPDATE jobs SET started = ended - ? WHERE key = ?", (seconds, key))


@pytest.fixture
def driven(folder: Path) -> Iterator[Path]:
    """The same with somebody at work on it."""
    lock = FolderLock(folder / "store.lock")
    lock.take()
    yield folder
    lock.release()


def lease(folder: Path, *keys: str, ago: float = 0.0) -> None:
    with Store(folder) as store:
        for key in keys:
            store.queue.lease(key)
            store._base.execute("UPDATE jobs SET started = started - ? WHERE key = ?", (ago, key))


def test_counts_jobs_by_kind_and_state(folder: Path) -> None:
    found = overview(folder)
    assert found.counts == {"surrogate": {"done": 1}, "craft": {"done": 1, "waiting": 1}, "attack": {"waiting": 6}}
    assert (found.total("done"), found.total("waiting"), found.total()) == (2, 7, 9)


def test_a_campaign_without_a_driver_is_stopped_and_says_how_to_go_on(folder: Path) -> None:
    found = overview(folder)
    assert (found.standing, found.driver, found.command) == ("stopped", "", "mithridate run grid")


def test_whoever_holds_the_lock_is_named_and_the_lock_stays_theirs(driven: Path) -> None:
    found = overview(driven)
    assert found.standing == "running"
    assert "process" in found.driver
    assert overview(driven).standing == "running"


def test_asking_never_keeps_a_run_out(folder: Path) -> None:
    overview(folder)
    with Store(folder, create=True):
        assert overview(folder).standing == "running"
    assert overview(folder).standing == "stopped"


def test_leases_of_a_driver_that_is_gone_are_no_sign_of_life_for_long(folder: Path) -> None:
    lease(folder, "c1")
    with Store(folder) as store:
        store._base.execute("UPDATE jobs SET beat = beat - 30")
    assert overview(folder).standing == "stopped"
    assert overview(folder).running == ()


def test_time_left_is_not_known_before_a_job_of_each_kind_is_done(driven: Path) -> None:
    lease(driven, "c1")
    found = overview(driven)
    assert (found.work_left, found.time_left) == (None, None)


def test_time_left_is_the_work_left_over_the_jobs_at_a_time(driven: Path) -> None:
    with Store(driven) as store:
        took(store, "a0", 20)
    lease(driven, "c1", "a1", ago=5)
    found = overview(driven)
    # 4 victims wait for 20 s each, one has run 5 of 20 s, a poison 5 of 40 s
    assert found.work_left == pytest.approx(4 * 20 + 15 + 35, abs=2)
    assert found.time_left == pytest.approx((4 * 20 + 15 + 35) / 2, abs=2)


def test_work_left_is_told_of_stopped_campaigns_too(folder: Path) -> None:
    with Store(folder) as store:
        took(store, "a0", 20)
    found = overview(folder)
    assert found.work_left == pytest.approx(40 + 5 * 20)
    assert found.time_left is None


def test_jobs_under_way_say_what_they_do_and_for_how_long(driven: Path) -> None:
    lease(driven, "a1", "c1", ago=7)
    with Store(driven) as store:
        store.queue.beat({"a1": ("victim", 3, 25)})
    poison, victim = overview(driven).running
    assert (poison.what, victim.what) == ("trial 1, crafting, matching", "trial 1, victim 2, bullseye, epic")
    assert (victim.stage, victim.done, victim.total) == ("victim", 3, 25)
    assert victim.seconds == pytest.approx(7, abs=2)
    assert victim.beat is not None
    assert victim.beat < 2


def test_failures_are_grouped_by_what_they_say_the_most_frequent_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(folder) as store:
        for key, text in (("a0", "no memory"), ("a1", "a NaN"), ("a2", "a NaN"), ("a3", "rare"), ("a4", "rarer")):
            store.queue.lease(key)
            store.fail(Failure(key=key, kind="attack", message=text, trace=""))
            store.queue.release(key, state="failed")
    monkeypatch.setattr(module, "_SENTENCES", 2)
    found = overview(folder)
    assert (found.failures[0].sentence, found.failures[0].jobs) == ("a NaN", 2)
    assert (len(found.failures), found.further_failures, found.total("failed")) == (2, 2, 5)


def test_a_campaign_that_ended_with_failures_names_the_command_that_tries_again(folder: Path) -> None:
    with Store(folder) as store:
        for each in JOBS[2:]:
            store.queue.release(each.key, state="failed")
    found = overview(folder)
    assert (found.standing, found.command) == ("failed", f"mithridate retry {folder}")


def test_a_finished_campaign_asks_for_nothing(folder: Path) -> None:
    with Store(folder) as store:
        for each in JOBS[2:]:
            took(store, each.key, 1)
    found = overview(folder)
    assert (found.standing, found.command, found.work_left) == ("done", "", 0)


def test_a_hundred_thousand_jobs_take_a_blink(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store._base.executescript(
            "BEGIN; INSERT INTO jobs (key, place, kind, job, state, started, ended) "
            "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < 99999) "
            "SELECT 'j' || k, k, 'attack', '{}', iif(k % 3, 'done', 'waiting'), k, k + 9 FROM n; COMMIT;"
        )
    started = time.process_time()
    found = overview(tmp_path)
    assert time.process_time() - started < 0.3  # 0.02 s on an idle core
    assert found.total() == 100_000
    assert found.work_left == pytest.approx(9 * found.total("waiting"))


def test_says_so_where_there_is_no_run(tmp_path: Path) -> None:
    from mithridate.errors import StoreError

    with pytest.raises(StoreError, match="no run"):
        overview(tmp_path)


def test_a_run_that_lost_its_store_is_to_be_mended_not_begun_anew(tmp_path: Path) -> None:
    from mithridate.errors import StoreError

    (tmp_path / "poisons" / "c0").mkdir(parents=True)
    with pytest.raises(StoreError, match=f"store.sqlite is gone; mend it with  mithridate repair {tmp_path}"):
        overview(tmp_path)


def test_a_run_of_which_no_job_is_listed_is_not_done(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.describe(experiment={"name": "grid"})
    assert overview(tmp_path).standing == "stopped"
