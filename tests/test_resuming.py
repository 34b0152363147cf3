"""Going on with a run: the queue is read back, files are held against what was recorded, nothing is mixed unasked."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mithridate import campaign, driver, methods, opening
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.errors import ChangedMethodsError, StoreError
from mithridate.executor import Ended
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from mithridate.job import Job
from mithridate.jobqueue import Entry
from mithridate.opening import Changed
from mithridate.repair import repair
from mithridate.store import Store
from mithridate.watch import Step
from tests.runs import CPU, begun, carried_out, results, tiny
from tests.test_campaign import breaking


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def states(folder: Path) -> dict[str, str]:
    with Store(folder) as store:
        return {each.key: each.state for each in store.queue.entries()}


def changed(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite")) as base, base:
        base.execute(statement, values)


def forgotten(folder: Path, key: str) -> None:
    """Have the rows of a job be gone, as if the run had been killed before it."""
    changed(folder, "DELETE FROM details WHERE id IN (SELECT id FROM results WHERE job = ?)", key)
    changed(folder, "DELETE FROM results WHERE job = ?", key)
    changed(folder, "DELETE FROM artefacts WHERE job = ?", key)
    changed(folder, "UPDATE jobs SET state = 'waiting' WHERE key = ?", key)


def craft(trial: int) -> Job:
    return next(job for job in tiny().jobs() if job.kind == "craft" and job.trial == trial)


def kinds(ended: Sequence[Ended]) -> list[tuple[str, int]]:
    return [(each.job.kind, each.job.trial) for each in ended]


class TestQueue:
    def test_is_read_back_without_listing_the_grid_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(_: Experiment) -> list[Job]:
            raise AssertionError("the grid was listed again")

        monkeypatch.setattr(Experiment, "jobs", never)
        assert carried_out(tiny(), folder) == []
        assert carried_out(tiny(about="other words"), folder) == []
        with pytest.raises(AssertionError):
            begun(tiny(trials=3), folder)

    def test_holds_the_very_jobs_of_the_grid(self, tmp_path: Path) -> None:
        experiment = tiny(defenses=["none", "epic"], vary={"budget": ["2 %"]})
        with begun(experiment, tmp_path) as store:
            assert [driver.from_plain(entry) for entry in store.queue.entries()] == experiment.jobs()

    def test_gives_jobs_of_a_killed_run_out_again(self, folder: Path, finished: Path) -> None:
        victim = next(job for job in tiny().jobs() if job.kind == "attack")
        forgotten(folder, victim.key)
        changed(folder, "UPDATE jobs SET state = 'running', attempts = 1 WHERE key = ?", victim.key)
        assert kinds(carried_out(tiny(), folder)) == [("attack", victim.trial)]
        assert results(folder) == results(finished)
        with Store(folder) as store:
            assert next(each.attempts for each in store.queue.entries() if each.key == victim.key) == 2

    def test_shows_what_is_under_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(driver, "HEARTBEAT", 0.01)
        seen: list[Entry] = []

        def look(job: Job, step: Step) -> None:
            if job.kind == "attack" and not seen:
                with Store(tmp_path) as reader:
                    while not (found := reader.progress().running) or found[0].stage is None:
                        pass
                seen.extend(found)

        carried_out(tiny(trials=1), tmp_path, report=look)
        (entry,) = seen
        assert (entry.kind, entry.owner, entry.attempts) == ("attack", "this process", 1)
        assert entry.total_steps
        assert set(states(tmp_path).values()) == {"done"}

    def test_lets_go_of_what_was_running_when_stopped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        breaking("noise", KeyboardInterrupt(), monkeypatch, trial=0)
        with pytest.raises(KeyboardInterrupt):
            carried_out(tiny(), tmp_path)
        assert set(states(tmp_path).values()) == {"done", "waiting"}

    def test_of_another_run_that_is_alive_is_left_to_it(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the file system knows no locks, its heartbeat tells."""
        monkeypatch.setattr("mithridate.folder_lock.fcntl", None)
        with Store(folder) as store:
            store.queue.lease(craft(0).key, "node 7")
        with pytest.raises(StoreError, match=r"in use by another run \(its job .* is computed by node 7\)"):
            begun(tiny(), folder)

    def test_without_resuming_begins_only_in_an_empty_folder(self, folder: Path, tmp_path: Path) -> None:
        asked: dict[str, Any] = {"command": "", "environment": {}, "resume": False}
        with pytest.raises(StoreError, match="is not empty, but --no-resume begins in an empty folder"):
            campaign.begin(tiny(), folder, **asked)
        assert len(results(folder)) == 11
        campaign.begin(tiny(), tmp_path / "new", **asked).close()


class TestFiles:
    def test_of_crafted_poison_are_recorded_with_their_hashes(self, folder: Path) -> None:
        with Store(folder) as store:
            found = {each.path: each for each in store.artefacts()}
        assert len(found) == 4
        for path, each in found.items():
            content = (folder / path).read_bytes()
            assert (each.bytes, each.job) == (len(content), path.split("/")[1])

    @pytest.mark.parametrize("name", ["poison.safetensors", "manifest.json"])
    def test_that_are_missing_stop_the_run_until_repaired(self, name: str, folder: Path, finished: Path) -> None:
        lost = craft(1)
        (folder / "poisons" / lost.key / name).unlink()
        with pytest.raises(StoreError, match=rf"{lost.key}/{name}', .* is missing; nothing was changed: .* repair "):
            begun(tiny(), folder)
        assert set(states(folder).values()) == {"done"}
        repair(folder)
        before = results(folder, without=())
        assert kinds(carried_out(tiny(), folder)) == [("craft", 1)]
        after = results(folder, without=())
        victims = {key for key, row in after.items() if row["kind"] == "victim"}
        assert {key: after[key] for key in victims} == {key: before[key] for key in victims}, "times included"
        assert results(folder) == results(finished)

    def test_that_are_to_be_made_again_are_so_in_a_larger_experiment_too(self, folder: Path) -> None:
        shutil.rmtree(folder / "poisons" / craft(1).key)
        repair(folder)
        assert ("craft", 1) in kinds(carried_out(tiny(trials=3), folder))
        assert carried_out(tiny(), folder) == []

    def test_that_changed_stop_the_run_before_they_are_trained_on(self, folder: Path) -> None:
        """Of the same size, which only the hash tells; it is read where victims of the poison are left."""
        poison = folder / "poisons" / craft(1).key / "poison.safetensors"
        content = bytearray(poison.read_bytes())
        content[-3] ^= 1
        poison.write_bytes(content)
        victim = next(job for job in tiny().jobs() if job.kind == "noise" and job.trial == 1)
        forgotten(folder, victim.key)
        with pytest.raises(StoreError, match=r"is not what it was when they were computed; .* mithridate repair"):
            carried_out(tiny(), folder)
        repair(folder)
        assert kinds(carried_out(tiny(), folder)) == [("craft", 1), ("noise", 1)]

    def test_that_come_back_otherwise_put_the_rows_of_their_victims_aside(self, folder: Path, finished: Path) -> None:
        lost = craft(1)
        changed(folder, "UPDATE artefacts SET sha256 = 'other' WHERE job = ?", lost.key)  # as another machine crafts
        before = results(folder, without=())
        repair(folder)
        assert kinds(carried_out(tiny(), folder)) == [("craft", 1), ("attack", 1), ("noise", 1), ("attack", 1)]
        after = results(folder, without=())
        redone = [key for key in before if before[key] != after[key]]
        assert len(redone) == 4
        with closing(sqlite3.connect(folder / "store.sqlite")) as base:
            kept = base.execute("SELECT key, row, why FROM superseded").fetchall()
        assert {key for key, *_ in kept} == set(redone) - {lost.key}
        assert {why for *_, why in kept} == {f"the poison {lost.key} was lost and came out otherwise"}
        assert all(json.loads(row)["seconds"] == before[key]["seconds"] for key, row, _ in kept)
        assert results(folder) == results(finished)

    @pytest.mark.parametrize(("lies", "again"), [("the same", 1), ("another", 4), ("none", 4)])
    def test_of_which_no_hash_is_left_are_held_against_what_lies_there(
        self, lies: str, again: int, folder: Path, finished: Path
    ) -> None:
        """As a repair leaves them that could read neither the row of a craft nor those of its files."""
        lost = craft(1)
        forgotten(folder, lost.key)
        here = folder / "poisons" / lost.key
        if lies != "the same":
            shutil.rmtree(here)
        if lies == "another":
            shutil.copytree(folder / "poisons" / craft(0).key, here)
        assert len(carried_out(tiny(), folder)) == again
        with closing(sqlite3.connect(folder / "store.sqlite")) as base:
            assert base.execute("SELECT count(*) FROM superseded").fetchone()[0] == again - 1
        assert results(folder) == results(finished)

    def test_left_by_a_killed_job_are_no_results_and_are_written_over(self, folder: Path, finished: Path) -> None:
        """Killed between writing the poison and recording it."""
        lost = craft(1)
        other = folder / "poisons" / craft(0).key
        here = folder / "poisons" / lost.key
        shutil.rmtree(here)
        shutil.copytree(other, here)  # a poison set that is whole, but not this job's
        for job in tiny().jobs():
            if lost.key in (job.key, *job.needs):
                forgotten(folder, job.key)
        assert len(carried_out(tiny(), folder)) == 4
        assert results(folder) == results(finished)
        same = (here / "poison.safetensors").read_bytes()
        assert same == (finished / "poisons" / lost.key / "poison.safetensors").read_bytes()


class TestFullDisk:
    def test_in_a_job_stops_the_run_and_is_no_failure(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("attack", OSError(errno.ENOSPC, "No space left on device"), patched, trial=1)
            with pytest.raises(StoreError, match=r"the disk is full .*; free space and run again"):
                carried_out(tiny(), tmp_path)
        with Store(tmp_path) as store:
            assert store.failures() == []
        assert set(states(tmp_path).values()) == {"done", "waiting"}
        carried_out(tiny(), tmp_path)
        assert results(tmp_path) == results(finished)

    @pytest.mark.parametrize("pages", [0, 3])
    def test_while_beginning_leaves_what_can_be_begun_again(
        self, pages: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A limit on the size of the database stands in for the disk's."""
        real = opening.fill

        def full(experiment: Experiment, store: Store) -> None:
            now = store._base.execute("PRAGMA page_count").fetchone()[0]
            store._base.execute(f"PRAGMA max_page_count = {now + pages}")
            real(experiment, store)

        with monkeypatch.context() as patched:
            patched.setattr(opening, "fill", full)
            with pytest.raises(StoreError, match="the disk is full"):
                begun(tiny(trials=40), tmp_path)
        carried_out(tiny(), tmp_path)
        assert results(tmp_path) == results(finished)


class TestMoreTrials:
    def test_leave_the_rows_of_a_clean_victim_s_first_training_as_they_are(self, folder: Path) -> None:
        """It is asked again, for the new trial: found, so that what its training took would not be told again."""
        before = results(folder, without=())
        clean = {key for key, row in before.items() if row.get("control") == "clean"}
        assert len(clean) == 2
        ended = carried_out(tiny(trials=3), folder)
        (asked,) = (each for each in ended if each.job.kind == "clean")
        assert clean < {each.key for each in asked.results}
        after = results(folder, without=())
        assert {key: after[key] for key in before} == before
        assert len([row for row in after.values() if row.get("control") == "clean"]) == 3


class TestRetry:
    def test_does_what_failed_and_was_lost_and_no_more(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("craft", ValueError("no luck"), patched, trial=0)
            breaking("noise", KeyboardInterrupt(), patched, trial=1)
            with pytest.raises(KeyboardInterrupt):
                carried_out(tiny(), tmp_path)
        with begun(tiny(), tmp_path) as store:
            (first, *_) = store.failures()
            assert (first.attempts, first.message) == (1, "ValueError: no luck")
            assert "Traceback" in first.trace
            run = campaign.run(
                tiny(), store, executor=Local(), device=CPU, report=lambda *_: None, states=("failed", "lost")
            )
            assert {job_trial for _, job_trial in kinds(list(run))} == {0}
            assert store.failures() == []
            assert store.progress().total("waiting") >= 1
        carried_out(tiny(), tmp_path)
        assert results(tmp_path) == results(finished)

    def test_counts_attempts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        breaking("surrogate", ValueError("no luck"), monkeypatch)
        for tried in (1, 2):
            carried_out(tiny(), tmp_path)
            with Store(tmp_path) as store:
                assert {each.attempts for each in store.failures() if each.kind == "surrogate"} == {tried}
                assert {each.attempts for each in store.failures() if each.kind == "craft"} == {0}


class TestChangedMethods:
    """The code of an attack changes between two runs."""

    asked: ClassVar[dict[str, Any]] = {"command": "mithridate run tiny", "environment": {"device": "cpu"}}

    @pytest.fixture
    def newer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = methods.version
        monkeypatch.setattr(methods, "version", lambda cls: "new" if cls is GradientMatching else real(cls))

    @pytest.mark.usefixtures("newer")
    def test_are_not_mixed_unasked(self, folder: Path) -> None:
        before = (folder / "experiment.json").read_bytes()
        with pytest.raises(
            ChangedMethodsError, match=r"the code of gradient-matching has changed .*keep.*redo"
        ) as caught:
            begun(tiny(trials=3), folder)
        assert caught.value.names == ("gradient-matching",)
        assert (folder / "experiment.json").read_bytes() == before
        assert set(states(folder).values()) == {"done"}

    @pytest.mark.usefixtures("newer")
    def test_may_be_mixed_and_the_report_says_so_ever_after(self, folder: Path) -> None:
        note = "Rows of more than one version of gradient-matching are mixed here: the code changed during the run."
        with campaign.begin(tiny(), folder, **self.asked, changed="keep") as store:
            assert note in store.meta()["notes"]
            assert campaign.plan(store).left == 0
        with begun(tiny(), folder) as store:  # asked once
            assert note in store.meta()["notes"]

    @pytest.mark.usefixtures("newer")
    def test_that_were_mixed_may_still_be_done_again(self, folder: Path, finished: Path) -> None:
        steps: list[tuple[Changed, int]] = [("keep", 0), ("ask", 0), ("redo", 8)]
        for said, left in steps:
            with campaign.begin(tiny(), folder, **self.asked, changed=said) as store:
                assert campaign.plan(store).left == left
        with begun(tiny(), folder) as store:
            assert not [each for each in store.meta()["notes"] if "mixed" in each]
        carried_out(tiny(), folder)
        assert results(folder) == results(finished)
        with campaign.begin(tiny(), folder, **self.asked, changed="redo") as store:  # once is enough
            assert campaign.plan(store).left == 0

    @pytest.mark.usefixtures("newer")
    def test_may_be_done_again_with_all_that_follows_from_them_and_no_more(self, folder: Path, finished: Path) -> None:
        before = results(folder, without=())
        with campaign.begin(tiny(), folder, **self.asked, changed="redo") as store:
            left = [driver.from_plain(each).kind for each in store.queue.entries(campaign.UNDONE)]
            assert sorted(left) == ["attack"] * 4 + ["craft"] * 2 + ["noise"] * 2
            assert not [each for each in store.meta()["notes"] if "mixed" in each]
            with closing(sqlite3.connect(store.path)) as base:
                kept = base.execute("SELECT key, row FROM superseded").fetchall()
        assert len(kept) == 8
        assert all(json.loads(row)["seconds"] == before[key]["seconds"] for key, row in kept)
        carried_out(tiny(), folder)
        assert results(folder) == results(finished)

    def test_of_a_run_that_kept_no_versions_are_taken_as_they_are(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changed(folder, "DELETE FROM meta WHERE name = 'methods'")
        assert carried_out(tiny(), folder) == []
        with Store(folder) as store:
            assert "gradient-matching" in store.meta()["methods"]
