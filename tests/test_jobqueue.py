"""The queue: jobs come in the order wanted, are done when all their rows are there, and are never counted twice."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.jobqueue import Entry, JobQueue, State
from mithridate.store import Failure, Store


def entry(key: str, *needs: str, kind: str = "attack", rows: tuple[str, ...] = ()) -> Entry:
    return Entry(key=key, kind=kind, job={"kind": kind, "needs": list(needs)}, rows=rows)


CHAIN = [entry("a", kind="craft"), entry("b", "a"), entry("c", "b"), entry("d", kind="clean", rows=("d-0", "d-1"))]


def states(store: Store) -> dict[str, State]:
    return {each.key: each.state for each in store.queue.entries()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path, create=True)
    found.queue.fill(CHAIN)
    return found


class TestFilling:
    def test_keeps_the_order_and_the_first_of_equal_jobs(self, store: Store) -> None:
        assert [each.key for each in store.queue.entries()] == ["a", "b", "c", "d"]
        store.queue.fill([CHAIN[2], CHAIN[0], CHAIN[2]])
        assert [(each.key, each.job) for each in store.queue.entries()] == [("c", CHAIN[2].job), ("a", CHAIN[0].job)]

    def test_calls_done_what_has_all_its_rows(self, store: Store) -> None:
        store.add_all([("a", "craft", {}), ("d-0", "victim", {})])
        store.queue.fill(CHAIN)
        assert states(store) == {"a": "done", "b": "waiting", "c": "waiting", "d": "waiting"}
        store.add("d-1", "victim", {})
        store.queue.fill(CHAIN)
        assert states(store)["d"] == "done"
        assert store.queue.count() == (4, 2)

    def test_marks_the_rows_of_a_smaller_experiment_and_brings_back_the_others(self, store: Store) -> None:
        store.add_all([(key, "victim", {"success": 1.0}) for key in ("a", "b", "d-0", "d-1")])
        store.queue.fill([CHAIN[1], entry("d", kind="clean", rows=("d-0",))])
        assert [key for (key,) in store.scalars(["key"])] == ["b", "d-0"]
        assert [row["key"] for row in store.rows(planned=True)] == ["b", "d-0"]
        assert len(store.rows()) == 4
        assert store.progress().counts == {"attack": {"done": 1}, "clean": {"done": 1}}
        store.queue.fill(CHAIN)
        assert [key for (key,) in store.scalars(["key"])] == ["a", "b", "d-0", "d-1"]

    def test_remembers_what_failed_and_how_often_it_was_tried(self, store: Store) -> None:
        store.queue.lease("a")
        store.fail(Failure(key="a", kind="craft", message="no", trace=""))
        store.queue.release("a", state="failed")
        store.queue.fill(CHAIN)
        first = next(store.queue.entries())
        assert (first.state, first.attempts) == ("failed", 1)


class TestLeases:
    def test_count_attempts_and_say_who_where_and_how_far(self, store: Store, tmp_path: Path) -> None:
        store.queue.lease("a", "worker 2")
        store.queue.lease("a", "worker 3")
        store.queue.beat({"a": ("crafting", 3, 10), "b": ("not running", 1, 1)})
        with Store(tmp_path) as reader:  # as the status command reads
            (running,) = reader.progress().running
        assert (running.key, running.owner, running.attempts) == ("a", "worker 3", 2)
        assert (running.stage, running.done_steps, running.total_steps) == ("crafting", 3, 10)
        assert running.started is not None
        assert running.beat is not None
        assert running.beat >= running.started
        assert states(store)["b"] == "waiting"

    def test_end_together_with_the_rows(self, store: Store) -> None:
        store.queue.lease("a")
        with pytest.raises(TypeError):
            store.add_all([("a", "craft", {"odd": object()})], job="a")
        assert states(store)["a"] == "running"
        assert store.keys() == set()
        store.add_all([("a", "craft", {})], job="a")
        assert states(store)["a"] == "done"
        kind, seconds, _ = store.progress().recent[0]
        assert kind == "craft"
        assert 0 <= seconds < 60

    def test_of_a_run_that_is_gone_are_taken_back(self, store: Store) -> None:
        store.queue.lease("a")
        store.queue.lease("b")
        assert store.queue.release() == 2
        assert set(states(store).values()) == {"waiting"}

    def test_show_that_another_run_is_alive_until_they_run_out(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert store.queue.alive() is None
        store.queue.lease("a")
        found = store.queue.alive()
        assert found is not None
        assert found.key == "a"
        late = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: late)
        assert store.queue.alive() is None


def test_dependents_are_followed_all_the_way(store: Store) -> None:
    assert store.queue.dependents(["a"]) == {"b", "c"}
    assert store.queue.dependents(["c"]) == set()
    store.queue.fill(CHAIN[:1])  # those of a larger experiment too
    assert store.queue.dependents(["a"]) == {"b", "c"}
    assert store.queue.unplanned() == {"b", "c", "d"}


def test_a_job_without_its_rows_waits_again(store: Store) -> None:
    store.add_all([("a", "craft", {})], job="a")
    store.add_all([("d-0", "victim", {})], job="d")
    assert store.queue.wanting() == ["d"]
    assert states(store)["d"] == "done"  # asking changes nothing
    store.queue.reopen(["d"])
    assert states(store) == {"a": "done", "b": "waiting", "c": "waiting", "d": "waiting"}


def test_rows_that_the_experiment_wants_no_more_do_not_stand_in_for_lost_ones(store: Store) -> None:
    store.add_all([("d-0", "victim", {}), ("d-1", "victim", {})], job="d")
    store.add_all([("a", "craft", {})], job="a")
    store.queue.fill([entry("d", kind="clean", rows=("d-0",))])  # made smaller: "a" is planned no more
    assert store.queue.wanting() == []
    store._base.execute("DELETE FROM results WHERE key = 'd-0'")
    assert store.queue.wanting() == ["d"]


def test_a_closed_store_is_a_sentence(store: Store, tmp_path: Path) -> None:
    store.close()
    with pytest.raises(StoreError):
        JobQueue(store._base, tmp_path).count()


def test_fifty_thousand_jobs_are_decided_on_at_once(tmp_path: Path) -> None:
    """The limits are a twentieth of what a million jobs are allowed: 5 s to resume, 1 s for the status."""
    script = Path(__file__).parent.parent / "benchmarks" / "store_scale.py"
    found = runpy.run_path(str(script))["measured"](50_000, tmp_path / "run", long=False)
    assert found["jobs left"] == 5000
    assert found["resume decision"] + found["take back leases"] < 5 / 20, found
    assert found["status"] < 1 / 20
    assert found["read scalars"] < 10 / 20
