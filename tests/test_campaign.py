"""Campaigns: what is finished is kept, what is left is done, and nothing is mixed that does not compare."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mithridate import campaign, loading, opening
from mithridate import work as work_module
from mithridate.errors import ProblemsError, StoreError
from mithridate.executor import Ended
from mithridate.executors.local import Local
from mithridate.experiment import Experiment, Job
from mithridate.store import Store
from tests.runs import CPU, TINY, begun, carried_out, results, tiny


def forget(folder: Path, keys: Sequence[str]) -> None:
    """Delete rows, as if the run had been killed before them."""
    base = sqlite3.connect(folder / "store.sqlite")
    base.executemany("DELETE FROM results WHERE job = ?", [(key,) for key in keys])
    base.executemany("UPDATE jobs SET state = 'waiting' WHERE key = ?", [(key,) for key in keys])
    base.commit()
    base.close()


def copy_of(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def names(ended: Sequence[Ended]) -> list[tuple[Any, ...]]:
    return [(each.job.kind, each.job.trial, each.job.run) for each in ended]


class TestRunAgain:
    def test_does_nothing(self, finished: Path, tmp_path: Path) -> None:
        folder = copy_of(finished, tmp_path)
        assert carried_out(tiny(), folder) == []
        assert results(folder) == results(finished)

    def test_does_only_what_is_missing_and_gets_the_same_rows(self, finished: Path, tmp_path: Path) -> None:
        folder, before = copy_of(finished, tmp_path), results(finished)
        jobs = [job for job in tiny().jobs() if job.kind in ("attack", "noise") and job.trial == 1]
        forget(folder, [job.key for job in jobs])
        assert names(carried_out(tiny(), folder)) == [(job.kind, 1, job.run) for job in jobs]
        assert results(folder) == before

    def test_from_nothing_gets_the_same_rows(self, finished: Path, tmp_path: Path) -> None:
        carried_out(tiny(), tmp_path)
        assert results(tmp_path) == results(finished)

    def test_with_more_trials_keeps_the_old_rows(self, finished: Path, tmp_path: Path) -> None:
        folder, before = copy_of(finished, tmp_path), results(finished, without=())
        ended = carried_out(tiny(trials=3), folder)
        assert sorted(names(ended)) == [
            ("attack", 2, 0), ("attack", 2, 1), ("clean", 0, 0), ("craft", 2, 0), ("noise", 2, 0),
        ]  # fmt: skip
        after = results(folder, without=())
        assert {key: after[key] for key in before} == before, "old rows changed, times included"
        clean = [(row["run"], row["trial"]) for row in after.values() if row.get("control") == "clean"]
        assert sorted(clean) == [(0, 0), (0, 1), (0, 2)], "each clean victim is judged once on each trial"

    def test_with_more_of_everything_equals_having_asked_at_once(self, finished: Path, tmp_path: Path) -> None:
        more: dict[str, Any] = {"trials": 3, "runs": 3, "vary": {"budget": ["2 %"]}}
        more["controls"] = {"clean": 2, "noise": 2}
        folder = copy_of(finished, tmp_path)
        carried_out(tiny(**more), folder)
        carried_out(tiny(**more), tmp_path / "at once")
        # a network kept from the first time comes back without its training curve
        without = ("seconds", "peak_memory", "curve", "reused")
        one, other = results(folder, without=without), results(tmp_path / "at once", without=without)
        assert one == other


class TestFolder:
    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 1},
            {"name": "other"},
            {"threat": {**TINY["threat"], "budget": "6 %"}},
            {"attacks": ["gradient-matching"]},
            {"first_trial": 5},
        ],
    )
    def test_of_another_experiment_is_refused_and_left_alone(
        self, changes: dict[str, Any], finished: Path, tmp_path: Path
    ) -> None:
        folder = copy_of(finished, tmp_path)
        described = (folder / "experiment.json").read_bytes()
        with pytest.raises(StoreError, match=r"holds the run 'tiny' with other settings; choose another folder"):
            begun(tiny(**changes), folder)
        assert (folder / "experiment.json").read_bytes() == described
        with Store(folder, create=True) as store:  # and the lock is let go
            assert store.meta()["experiment"]["seed"] == 0

    def test_with_a_poison_missing_is_refused_and_left_alone(self, finished: Path, tmp_path: Path) -> None:
        def told(folder: Path) -> Any:
            with Store(folder) as store:
                planned = [each["key"] for each in store.rows(planned=True)]
                return store.meta(), store.progress().counts, planned, store.artefacts(done=True)

        folder = copy_of(finished, tmp_path)
        before = told(folder)
        for each in (folder / "poisons").iterdir():
            (each / "poison.safetensors").unlink()
        with pytest.raises(StoreError, match=r"is missing.*; nothing was changed"):
            begun(tiny(trials=1), folder)
        assert told(folder) == before

    def test_of_data_that_have_changed_since_is_refused(self, tmp_path: Path) -> None:
        def written(shade: int) -> None:
            draws = np.random.default_rng(shade)
            inputs, labels = draws.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
            np.savez(tmp_path / "x.npz", x_train=inputs, y_train=labels, x_test=inputs[:20], y_test=labels[:20])

        experiment = tiny(data={"name": "arrays", "path": str(tmp_path / "x.npz")})
        written(1)
        begun(experiment, tmp_path / "run").close()
        loading._LOADED.clear()
        begun(experiment, tmp_path / "run").close()
        written(2)
        loading._LOADED.clear()
        with pytest.raises(StoreError, match="the data have changed since the run"):
            begun(experiment, tmp_path / "run")

    def test_of_a_release_that_does_not_compare_is_refused(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = copy_of(finished, tmp_path)
        monkeypatch.setattr(opening, "METHOD", 99)
        with pytest.raises(StoreError, match="results do not compare"):
            begun(tiny(), folder)

    def test_says_what_the_run_is(self, finished: Path) -> None:
        with Store(finished) as store:
            meta = store.meta()
        assert meta["jobs"] == len(tiny().jobs())
        assert meta["command"] == "mithridate run tiny"
        assert meta["classes"] == ["0", "1", "2"]
        rows = results(finished).values()
        for part, names in meta["names"].items():
            assert {row[part] for row in rows if row.get(part)} <= set(names)
        assert meta["names"]["victim"] == tiny().victim_names()
        assert json.loads((finished / "experiment.json").read_text()) == meta["experiment"]


class TestSummary:
    def test_counts_what_the_rows_say(self, finished: Path) -> None:
        (row,) = json.loads((finished / "summary.json").read_text())["rows"]
        stored = list(results(finished).values())
        for control, name in (("attack", "success"), ("clean", "base_rate"), ("noise", "noise_control")):
            values = [each["success"] for each in stored if each.get("control") == control]
            found = row[name]["mean"] if isinstance(row[name], dict) else row[name]
            assert found == pytest.approx(sum(values) / len(values))
        assert (row["trials"], row["victims"], row["attack"], row["defense"]) == (2, 4, "gradient-matching", "none")
        accurate = [each["clean_accuracy"] for each in stored if each.get("control") == "attack"]
        assert row["clean_accuracy"]["mean"] == pytest.approx(sum(accurate) / len(accurate))
        assert (finished / "report.html").stat().st_size > 1000


def breaking(kind: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, **place: int) -> None:
    """Have the jobs of a kind (at a place) end in an error."""
    work = dict(work_module._WORK)
    real = work[kind]

    def failing(experiment: Experiment, job: Job, *rest: Any) -> Any:
        if all(getattr(job, name) == value for name, value in place.items()):
            raise error
        return real(experiment, job, *rest)

    monkeypatch.setattr(work_module, "_WORK", {**work, kind: failing})


class TestFailure:
    def test_is_recorded_and_the_rest_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            breaking("craft", ValueError("no luck"), patched, trial=0)
            ended = carried_out(tiny(), tmp_path)
        failed = [each for each in ended if each.error]
        assert [(each.job.kind, each.job.trial) for each in failed] == [
            ("craft", 0), ("attack", 0), ("noise", 0), ("attack", 0),
        ]  # fmt: skip
        assert failed[0].error == "ValueError: no luck"
        assert "Traceback" in failed[0].trace
        assert {each.error for each in failed[1:]} == {"not run: the craft job it needs failed"}
        assert len(ended) == len(tiny().jobs())
        with Store(tmp_path) as store:
            assert {failure.message for failure in store.failures()} == {each.error for each in failed}
            assert len(store.rows()) == 1 + 2 + 1 + 3  # surrogate, clean on two trials, and the other trial whole
        campaign.finish(tmp_path)
        assert "no luck" in (tmp_path / "report.html").read_text()

    def test_is_tried_again_and_then_forgotten(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("surrogate", RuntimeError("out of memory"), patched)
            carried_out(tiny(), tmp_path)
        with Store(tmp_path) as store:
            assert len(store.failures()) == 1 + 2 * 4
        carried_out(tiny(), tmp_path)
        with Store(tmp_path) as store:
            assert store.failures() == []
        assert results(tmp_path) == results(finished)

    def test_of_the_store_stops_the_run_and_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = Store.add_all, []

        def full(store: Store, rows: Any, **more: Any) -> None:
            calls.append(rows)
            if len(calls) == 4:
                raise StoreError("the disk is full")
            real(store, rows, **more)

        monkeypatch.setattr(Store, "add_all", full)
        with pytest.raises(StoreError, match="the disk is full"):
            carried_out(tiny(), tmp_path)
        monkeypatch.undo()
        assert len(results(tmp_path)) == 1 + 2 + 1
        carried_out(tiny(), tmp_path)
        assert len(results(tmp_path)) == 1 + 2 + 2 * 4


class TestInterrupt:
    def test_goes_up_at_once_and_keeps_what_is_done(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("noise", KeyboardInterrupt(), patched, trial=0)
            with pytest.raises(KeyboardInterrupt):
                carried_out(tiny(), tmp_path)
        kept = results(tmp_path)
        assert {row["kind"] for row in kept.values()} == {"surrogate", "victim", "craft"}
        assert kept.items() <= results(finished).items()
        carried_out(tiny(), tmp_path)
        assert results(tmp_path) == results(finished)


def test_check_raises_with_every_problem() -> None:
    with pytest.raises(ProblemsError) as caught:
        campaign.check(tiny(threat={"budget": 1, "goal": {"name": "degrade"}}, setups="nowhere.json"))
    assert [each.partition(":")[0] for each in caught.value.problems] == ["attacks[0]", "setups"]
    campaign.check(tiny())


def test_diverging_training_is_a_miss_and_no_failure(tmp_path: Path) -> None:
    """A learning rate that is far too large gives networks of NaN."""
    surrogate = {**TINY["victims"][0]}
    ended = carried_out(tiny(victims=[{**surrogate, "lr": 1e30}], surrogates=[surrogate]), tmp_path)
    assert not [each.error for each in ended if each.error]
    curves = [row["curve"]["loss"] for row in results(tmp_path).values() if row.get("control") == "attack"]
    assert not any(np.isfinite(curve[-1]) for curve in curves)
    campaign.finish(tmp_path)
    (row,) = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert 0 <= row["success"]["mean"] <= 1


class TestDefended:
    """Defenses, their controls, and what is recorded of them."""

    defended: ClassVar[dict[str, Any]] = {
        "defenses": ["none", {"name": "top-loss-drop", "like": "oracle-filter"}, "oracle-filter"],
        "controls": {"clean": 1, "noise": 1, "drops": []},
        "trials": 1,
    }

    def test_rows_say_what_was_removed(self, tmp_path: Path) -> None:
        assert not [each.error for each in carried_out(tiny(**self.defended), tmp_path / "a") if each.error]
        found = [row for row in results(tmp_path / "a").values() if row.get("control") == "attack" and row["run"] == 0]
        none, loss, oracle = found
        assert [row["defense"] for row in found] == ["none", "top-loss-drop (like oracle-filter)", "oracle-filter"]
        assert (none["dropped"], none["poison_rows"], none["removals"]) == (0, 6, [])
        assert (oracle["dropped"], oracle["dropped_poison"]) == (6, 6)
        assert loss["dropped"] == 6
        assert sum(oracle["removals"][0]["by_class"]) == 6
        assert none["class_rows"] == oracle["class_rows"]
        assert (tmp_path / "a" / oracle["dropped_images"]).is_file()
        assert none["dropped_images"] is None

    def test_what_jobs_share_is_removed_at_the_end(self, tmp_path: Path) -> None:
        experiment = tiny(**self.defended)
        with begun(experiment, tmp_path / "a") as store:
            ends = campaign.run(experiment, store, executor=Local(), device=CPU, report=lambda *_: None)
            while next(ends).job.kind != "attack":
                pass
            ends.close()
        assert (tmp_path / "a" / "memory").is_dir()
        carried_out(tiny(**self.defended), tmp_path / "a")
        assert not (tmp_path / "a" / "memory").exists()

    def test_a_defense_can_be_added_later(self, finished: Path, tmp_path: Path) -> None:
        folder, before = copy_of(finished, tmp_path), results(finished, without=())
        carried_out(tiny(defenses=["none", "oracle-filter"]), folder)
        after = results(folder, without=())
        assert {key: after[key] for key in before} == before
        assert {row.get("defense") for row in after.values()} == {None, "none", "oracle-filter"}

    def test_a_control_waits_for_what_it_controls(self) -> None:
        jobs = tiny(defenses=["none", "spectral-signatures"]).jobs()
        place = {job.key: number for number, job in enumerate(jobs)}
        for job in jobs:
            assert all(place[need] < place[job.key] for need in job.needs)
        names = tiny(defenses=["none", "spectral-signatures"]).defense_names()
        first = {names[job.defense]: job for job in jobs if job.kind == "attack" and job.trial == 0 and job.run == 0}
        assert first["none"].key in first["spectral-signatures"].needs
        assert first["spectral-signatures"].key in first["random-drop (like spectral-signatures)"].needs
