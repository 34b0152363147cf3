"""Adding trials until a rate is known: the same rows whatever the executor, and after an interruption."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mithridate import campaign, stopping
from mithridate.executor import Ended
from mithridate.executors.local import Local
from mithridate.executors.processes import Processes
from mithridate.experiment import Experiment
from mithridate.halting import enough
from mithridate.overview import overview
from mithridate.report.combinations import cells
from mithridate.report.gating import Limits, gate
from mithridate.report.load import read
from mithridate.report.tables import summary
from mithridate.report.verdict import verdict
from mithridate.sequential import confidence_sequence
from mithridate.store import Store
from tests.runs import CPU, begun, results, tiny

WIDTH = 0.8
"""Reached by five equal trials (0.67 wide), so after the first block of five."""


def many(**changes: Any) -> Experiment:
    return tiny(**({"trials": 12, "runs": 1, "controls": {"clean": 1, "noise": 0}} | changes))


def run(experiment: Experiment, folder: Path, width: float | None, *, executor: Any = None) -> Generator[Ended]:
    torch.set_num_threads(1)
    with begun(experiment, folder) as store:
        yield from campaign.run(
            experiment,
            store,
            executor=executor or Local(),
            device=CPU,
            report=lambda job, step: None,
            until_width=width,
        )


def trials(folder: Path, kind: str = "attack") -> list[int]:
    return sorted({row["trial"] for row in results(folder).values() if row.get("control") == kind})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    assert not any(ended.error for ended in run(many(), folder, WIDTH))
    return folder


def test_stops_after_whole_blocks_once_the_interval_is_narrow_enough(stopped: Path) -> None:
    tried = trials(stopped)
    assert len(tried) in (5, 10, 12)
    (cell,) = cells(read(stopped))
    by_trial = [victim.success for victim in cell.poisoned]
    assert confidence_sequence(by_trial).width <= WIDTH or len(tried) == 12
    assert len(tried) == 5 or confidence_sequence(by_trial[:5]).width > WIDTH


def test_an_unreachable_width_runs_every_trial(tmp_path: Path) -> None:
    list(run(many(trials=6), tmp_path, 0.01))
    assert trials(tmp_path) == list(range(6))
    with begun(many(trials=6), tmp_path) as store:
        assert store.meta()["sequential"] == {"width": 0.01, "trials": 6, "most": 6, "reached": False}
        assert not campaign.enough(store)


def test_an_interrupted_run_goes_on_to_the_same_rows(stopped: Path, tmp_path: Path) -> None:
    for count in (2, 5, 9):
        begun_again = run(many(), tmp_path, WIDTH)
        for _ in range(count):
            next(begun_again, None)
        begun_again.close()
    list(run(many(), tmp_path, WIDTH))
    assert results(tmp_path) == results(stopped)
    assert list(run(many(), tmp_path, WIDTH)) == []


def test_several_workers_end_with_the_same_rows(stopped: Path, tmp_path: Path) -> None:
    list(run(many(), tmp_path, WIDTH, executor=Processes(2)))
    assert results(tmp_path) == results(stopped)


def test_going_on_without_a_width_runs_the_rest_and_forgets_the_stopping(stopped: Path, tmp_path: Path) -> None:
    list(run(many(), tmp_path, WIDTH))
    list(run(many(), tmp_path, None))
    assert trials(tmp_path) == list(range(12))
    assert summary(read(tmp_path))["rows"][0]["sequential"] is None


def test_report_shows_the_interval_that_allows_for_looking(stopped: Path) -> None:
    found = read(stopped)
    (cell,) = cells(found)
    expected = confidence_sequence([victim.success for victim in cell.poisoned])
    row = summary(found)["rows"][0]
    assert row["sequential"] == {"mean": expected.mean, "low": expected.low, "high": expected.high}
    assert (row["success"], row["interval"]) == (row["sequential"], "sequential")
    said = verdict(found)
    assert said is not None
    assert any("Stopping was sequential" in each and "80 points wide" in each for each in said.details)


def test_parts_hold_every_job_once_and_those_of_all_trials_first(tmp_path: Path) -> None:
    experiment = many()
    with begun(experiment, tmp_path) as store:
        jobs = experiment.jobs()
        found = list(stopping.parts(experiment, store, jobs, 0.01))
        assert [list(part) for part in stopping.parts(experiment, store, jobs, None)] == [jobs]
    assert sorted(job.key for part in found for job in part) == sorted(job.key for job in jobs)
    numbers: list[Sequence[int]] = [
        sorted({job.trial for job in part if job.kind in ("craft", "attack")}) for part in found
    ]
    assert numbers == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert {job.kind for job in found[0]} >= {"surrogate", "clean"}
    assert not {job.kind for part in found[1:] for job in part} & {"surrogate", "clean"}


def test_every_attack_must_be_known_well_enough(tmp_path: Path) -> None:
    two = many(attacks=[{"name": "gradient-matching", "steps": steps, "restarts": 1} for steps in (2, 3)])
    with begun(two, tmp_path) as store:
        first, other = two.attack_names()
        base = {"control": "attack", "defense": "none", "victim": two.victim_names()[0], "run": 0}
        base |= {"scenario": two.scenario_names()[0]}
        for k in range(60):
            store.add(f"a{k}", "victim", base | {"attack": first, "trial": k, "success": 0.0})
        assert not stopping.reached(two, store, range(60), 0.1)
        for k in range(60):
            store.add(f"b{k}", "victim", base | {"attack": other, "trial": k, "success": 0.0})
        assert stopping.reached(two, store, range(60), 0.1)
        assert not stopping.reached(two, store, range(5), 0.1)


def test_status_calls_a_run_that_stopped_on_purpose_neither_stopped_nor_done(tmp_path: Path) -> None:
    list(run(many(), tmp_path, WIDTH))
    found = overview(tmp_path)
    assert (found.standing, found.command) == ("enough", "")
    list(run(many(), tmp_path, None))
    assert overview(tmp_path).standing == "done"


def reached(folder: Path) -> bool:
    with Store(folder) as store:
        return bool(store.meta()["sequential"]["reached"])


def test_a_run_under_way_or_interrupted_has_decided_nothing(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    under_way = run(many(), tmp_path / "run", None)
    next(under_way)
    assert not reached(tmp_path / "run")
    under_way.close()
    assert overview(tmp_path / "run").standing == "stopped"
    assert gate(tmp_path / "run", Limits(max_success=0.99)).unfinished


def test_a_defense_added_to_a_stopped_run_is_left_to_be_done(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    with Store(tmp_path / "run") as store:
        assert enough(store)
    more = many(defenses=["none", "mixup"])
    with begun(more, tmp_path / "run") as store:
        assert not enough(store)
    assert "not done" in gate(tmp_path / "run", Limits(max_success=0.99), defense="none").unfinished
    list(run(more, tmp_path / "run", WIDTH))
    with Store(tmp_path / "run") as store:
        assert enough(store)


@pytest.mark.parametrize("state", ["waiting", "failed", "lost", "running"])
def test_a_job_left_of_the_counted_trials_keeps_a_run_from_being_enough(
    stopped: Path, tmp_path: Path, state: str
) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    base = sqlite3.connect(tmp_path / "run" / "store.sqlite")
    base.execute("UPDATE jobs SET state = ? WHERE key = (SELECT key FROM jobs WHERE kind = 'clean' LIMIT 1)", (state,))
    base.commit()
    base.close()
    with Store(tmp_path / "run") as store:
        assert not enough(store)
    assert gate(tmp_path / "run", Limits(max_success=0.99)).unfinished


def test_fewer_trials_keep_the_interval_that_allows_for_looking(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    list(run(many(trials=5), tmp_path / "run", None))
    found = read(tmp_path / "run")
    assert summary(found)["rows"][0]["sequential"] is not None
    with Store(tmp_path / "run") as store:
        assert store.meta()["sequential"]["most"] == 12
    list(run(many(), tmp_path / "run", None))
    assert summary(read(tmp_path / "run"))["rows"][0]["sequential"] is None


def test_a_run_that_was_complete_before_anybody_looked_stays_an_ordinary_one(tmp_path: Path) -> None:
    list(run(many(trials=5), tmp_path, None))
    list(run(many(trials=5), tmp_path, WIDTH))
    with Store(tmp_path) as store:
        assert store.meta().get("sequential") is None


def test_trying_a_failed_job_again_keeps_to_the_width_and_decides_anew(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    base = sqlite3.connect(tmp_path / "run" / "store.sqlite")
    base.execute("UPDATE jobs SET state = 'failed' WHERE key = (SELECT key FROM jobs WHERE kind = 'clean' LIMIT 1)")
    base.commit()
    base.close()
    (tmp_path / "run" / "memory").mkdir(exist_ok=True)
    torch.set_num_threads(1)
    with begun(many(), tmp_path / "run") as store:
        assert not enough(store)
        again = campaign.run(
            many(),
            store,
            executor=Local(),
            device=CPU,
            report=lambda job, step: None,
            states=("failed", "lost"),
        )
        ended = list(again)
        assert [each.job.kind for each in ended] == ["clean"]
        assert enough(store)
        assert store.meta()["sequential"]["width"] == WIDTH
    assert not (tmp_path / "run" / "memory").exists()
    assert results(tmp_path / "run") == results(stopped)


def test_trainings_kept_for_others_stay_while_a_counted_job_is_left(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    (tmp_path / "run" / "memory").mkdir(exist_ok=True)
    more = many(defenses=["none", "jpeg"])  # jpeg refuses these images: its jobs fail
    assert any(ended.error for ended in run(more, tmp_path / "run", WIDTH))
    assert (tmp_path / "run" / "memory").exists()
    assert not reached(tmp_path / "run")
    assert gate(tmp_path / "run", Limits(max_success=0.99), defense="none").unfinished
