"""A job that is interrupted and done again leaves the rows that it would have left at once, bit for bit."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mithridate import registry, work
from mithridate.defense import Defense
from mithridate.errors import MissingExtraError
from mithridate.executor import Stopped
from mithridate.experiment import Experiment, Job
from mithridate.watch import Step
from mithridate.work import perform
from tests.runs import CPU, carried_out, results, tiny

OFTEN = 1e-9
"""Seconds between notes: one at every opportunity."""
SMALL: dict[str, Any] = {
    "trials": 1,
    "runs": 1,
    "controls": {"clean": 1, "noise": 0, "drops": []},
    "data": {"name": "digits", "classes": [0, 1, 2], "train_rows": 90, "test_rows": 30},
    "attacks": [{"name": "gradient-matching", "steps": 5, "restarts": 2}],
    "victims": [{"model": {"name": "mlp", "hidden": [8]}, "epochs": 4, "batch_size": 32, "lr": 0.05}],
}
QUICK: dict[str, dict[str, Any]] = {
    "epic": {"fraction": 0.3, "interval": 1, "warmup": 1, "stop": 4, "min_class_size": 5},
    "dp-sgd": {"noise_multiplier": 0.3},
    "partition-aggregation": {"partitions": 3},
    "random-drop": {"like": {"name": "spectral-signatures"}},
    "top-loss-drop": {"like": {"name": "epic", "interval": 1, "warmup": 1, "stop": 3, "min_class_size": 5}},
    "roni": {"base": 30, "quiz": 20, "batch": 15, "trials": 2, "sigmas": 0.5, "measure": "loss"},
    "label-sanitisation": {"k": 3},
}


def prepared(experiment: Experiment, folder: Path) -> Path:
    """A run folder in which all but the victims is done."""
    for job in experiment.jobs():
        if job.kind in ("surrogate", "craft"):
            perform(experiment, job, folder=folder, device=CPU)
    return folder


def victim_of(experiment: Experiment, kind: str = "attack") -> Job:
    return next(job for job in experiment.jobs() if job.kind == kind)


def row(experiment: Experiment, job: Job, folder: Path, stops: tuple[int, ...] = ()) -> dict[str, Any]:
    """The first row of a job that is interrupted after so many reports, once for each number, without its times."""
    for stop in stops:
        with pytest.raises(Stopped):
            perform(experiment, job, folder=folder, device=CPU, save_every=OFTEN, watch=_stopping(stop))
    reports: list = []
    found = perform(experiment, job, folder=folder, device=CPU, save_every=OFTEN, watch=reports.append)
    assert not (folder / work.NOTES).exists()
    return {"reports": len(reports), **_timeless(found[0].row)}


def _stopping(after: int):
    left = [after]

    def watch(step) -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped

    return watch


def _timeless(value: Any) -> Any:
    """A row without the seconds in it and the memory it took."""
    if isinstance(value, dict):
        named = {"seconds", "reused", "peak_memory"}
        return {key: _timeless(each) for key, each in value.items() if key not in named}
    return [_timeless(each) for each in value] if isinstance(value, (list, tuple)) else value


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Equal in all but how often they reported; NaN equals NaN."""
    return all(repr(one[name]) == repr(two[name]) for name in one.keys() | two.keys() if name != "reports")


def settings(name: str) -> dict[str, Any]:
    try:
        registry.kind(Defense, name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    return {"name": name, **QUICK.get(name, {})}


STACKS = [[name] for name in sorted(set(registry.places(Defense)) - {"jpeg"})]  # digits are no 8-bit images
STACKS += [["mixup", "epic"], ["spectral-signatures", "epic"], ["epic", "partition-aggregation"]]


@pytest.mark.parametrize("names", STACKS, ids=" + ".join)
def test_a_victim_goes_on_whatever_it_wears(tmp_path, names):
    """Its curve is whole too. Some report once only: where nothing is filtered, the probe is the network."""
    experiment = tiny(**SMALL, defenses=[[settings(name) for name in names]])
    job = victim_of(experiment)
    prepared(experiment, tmp_path / "begun")
    whole = row(experiment, job, shutil.copytree(tmp_path / "begun", tmp_path / "whole"))
    assert len(whole["curve"]["loss"]) == (3 if "partition-aggregation" in names else 4)
    for stops in ((min(3, whole["reports"]),), (1, 1)):
        again = row(experiment, job, shutil.copytree(tmp_path / "begun", tmp_path / str(stops)), stops)
        assert same(whole, again)
        if whole["reports"] == 4:  # each time it goes on with the epoch after the one that was reported
            assert again["reports"] == 4 - sum(stops)


@pytest.mark.parametrize("kind", ["attack", "clean", "surrogate"])
def test_an_undefended_training_goes_on(tmp_path, kind):
    experiment = tiny(**SMALL)
    job = victim_of(experiment, kind)
    if kind == "attack":
        prepared(experiment, tmp_path / "begun")
    else:
        (tmp_path / "begun").mkdir()
    whole = row(experiment, job, shutil.copytree(tmp_path / "begun", tmp_path / "whole"))
    again = row(experiment, job, shutil.copytree(tmp_path / "begun", tmp_path / "again"), (2, 1))
    assert same(whole, again)
    assert (whole["reports"], again["reports"]) == (4, 1)
    assert len(whole["curve"]["loss"]) == 4


@pytest.mark.parametrize("stop", [1, 5, 6, 10])
def test_a_crafting_goes_on(tmp_path, stop):
    """Its trace is whole, and its surrogate is not trained again."""
    experiment = tiny(**SMALL)
    surrogate, craft = (victim_of(experiment, kind) for kind in ("surrogate", "craft"))
    rows = []
    for name, stops in (("whole", ()), ("again", (1 + stop,))):  # the surrogate found is a report, too
        perform(experiment, surrogate, folder=tmp_path / name, device=CPU)
        rows.append(row(experiment, craft, tmp_path / name, stops))
    assert same(*rows)
    assert (rows[0]["reports"], rows[1]["reports"]) == (11, 11 - stop)
    stored = [tmp_path / name / "poisons" / craft.key / "poison.safetensors" for name in ("whole", "again")]
    assert stored[0].read_bytes() == stored[1].read_bytes()


def test_seconds_are_those_before_and_after(tmp_path):
    experiment = tiny(**SMALL)
    prepared(experiment, tmp_path)
    job = victim_of(experiment)

    def slow(step) -> None:
        time.sleep(0.2)
        if step.done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        perform(experiment, job, folder=tmp_path, device=CPU, save_every=OFTEN, watch=slow)
    (found,) = perform(experiment, job, folder=tmp_path, device=CPU, save_every=OFTEN)
    assert found.row["seconds"] > 0.2  # what was slept after the last note is lost: it counts for nothing


def test_notes_of_a_job_are_gone_once_it_is_done(tmp_path):
    experiment = tiny(**SMALL)
    prepared(experiment, tmp_path)
    job = victim_of(experiment)
    with pytest.raises(Stopped):
        perform(experiment, job, folder=tmp_path, device=CPU, save_every=OFTEN, watch=_stopping(2))
    assert [each.name for each in (tmp_path / work.NOTES).iterdir()] == [job.key]
    perform(experiment, job, folder=tmp_path, device=CPU, save_every=OFTEN)
    assert not (tmp_path / work.NOTES).exists()


def test_a_damaged_note_lets_a_job_begin_anew(tmp_path):
    experiment = tiny(**SMALL)
    prepared(experiment, tmp_path)
    job = victim_of(experiment)
    whole = row(experiment, job, tmp_path)
    with pytest.raises(Stopped):
        perform(experiment, job, folder=tmp_path, device=CPU, save_every=OFTEN, watch=_stopping(2))
    (note,) = (tmp_path / work.NOTES / job.key).iterdir()
    note.write_bytes(note.read_bytes()[:-1])
    again = row(experiment, job, tmp_path)
    assert same(whole, again)
    assert again["reports"] == 4


def test_a_disk_without_room_for_notes_changes_no_row(tmp_path, monkeypatch):
    experiment = tiny(**SMALL, defenses=[[settings("spectral-signatures")]])
    prepared(experiment, tmp_path)
    job = victim_of(experiment)
    whole, write = row(experiment, job, tmp_path), Path.write_bytes

    def full(path: Path, stored: bytes) -> int:
        if work.NOTES in path.parts:
            raise OSError(28, "No space left on device")
        return write(path, stored)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert same(whole, row(experiment, job, tmp_path))


def test_a_campaign_stopped_in_every_job_has_the_rows_of_one_that_never_stopped(tmp_path, monkeypatch):
    """Several stacks, so that trainings are shared; each job is stopped once, in its middle."""
    monkeypatch.setattr(work, "SAVE_EVERY", OFTEN)
    more = {"defenses": [[], [settings("epic")]], "controls": {"clean": 1, "noise": 1, "drops": ["random-drop"]}}
    experiment, stopped = tiny(**{**SMALL, **more}), set()
    carried_out(experiment, tmp_path / "whole")

    def stopping(job: Job, step: Step) -> None:
        begun = job.kind != "craft" or step.stage.startswith("crafting")
        if begun and job.key not in stopped and 2 * step.done >= step.total:
            stopped.add(job.key)
            raise KeyboardInterrupt

    for _ in range(2 * len(experiment.jobs())):
        with suppress(KeyboardInterrupt):
            carried_out(experiment, tmp_path / "again", report=stopping)
            break
    assert len(stopped) == len(experiment.jobs())
    whole, again = (_timeless(results(tmp_path / name)) for name in ("whole", "again"))
    assert whole.keys() == again.keys()
    for key, each in whole.items():
        assert same(each, again[key])
