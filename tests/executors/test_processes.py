"""Jobs in worker processes: the same results, bounded lives, and a sentence when one dies."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest
import torch

from mithridate.executor import Ended
from mithridate.executors import processes
from mithridate.executors.processes import Processes
from mithridate.executors.worker import Worker
from mithridate.experiment import Job
from mithridate.watch import Step
from tests.executors.work import Counted, Deadly, endless, first_fails, jobs, silent_for_ever, surroundings, unsendable
from tests.runs import carried_out, results, tiny


def nobody(job: Job, step: Step) -> None:
    """Hear no reports."""


def test_give_the_same_results_as_one_after_another_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    heard: set[str] = set()
    ended = carried_out(tiny(), tmp_path, executor=Processes(2), report=lambda job, step: heard.add(job.key))
    assert not [each.error for each in ended if each.error]
    assert results(tmp_path) == results(finished)
    for poison in (finished / "poisons").glob("*/poison.safetensors"):
        assert (tmp_path / "poisons" / poison.parent.name / poison.name).read_bytes() == poison.read_bytes()
    assert len(heard) > 1
    assert heard <= {job.key for job in tiny().jobs()}


def test_go_on_after_a_failure_and_report_what_could_not_run() -> None:
    found: list[Ended] = list(Processes(2).map(first_fails, jobs((), (0,), (1,), (), (3,)), report=nobody))
    ended = {each.job.trial: each for each in found}
    assert ended[0].error == "job 0 cannot be done"
    assert "ConfigError" in ended[0].trace
    assert ended[1].error == ended[2].error == "not run: the craft job it needs failed"
    assert ended[3].error == ended[4].error == ""
    assert len(found) == 5
    assert os.getpid() not in {each.results[0].row["process"] for each in found if each.results}
    assert multiprocessing.active_children() == []


def test_that_die_have_their_job_begun_again(tmp_path: Path) -> None:
    begun: list[tuple[int, str]] = []
    notes: list[str] = []
    ended = {
        each.job.trial: each
        for each in Processes(2).map(
            Deadly(tmp_path, times=1),
            jobs((), (), (), (1,)),
            report=lambda job, step: notes.append(step.note),
            started=lambda job, where: begun.append((job.trial, where)),
        )
    }
    assert not [each.error for each in ended.values() if each.error]
    assert {trial: each.attempts for trial, each in ended.items()} == {0: 1, 1: 2, 2: 1, 3: 1}
    assert sorted(trial for trial, _ in begun) == [0, 1, 1, 2, 3]
    assert {where for _, where in begun} <= {"worker 1", "worker 2"}
    assert {each for each in notes if each} == {
        "a worker process died amid a job, which is begun again (attempt 2 of 3)"
    }
    assert multiprocessing.active_children() == []


def test_that_die_each_time_have_their_job_fail_and_the_others_done(tmp_path: Path) -> None:
    found = list(Processes(2).map(Deadly(tmp_path, times=99), jobs((), (), (1,), ()), report=nobody))
    ended = {each.job.trial: each for each in found}
    assert len(found) == 4
    assert re.match(r"its worker process died 3 times, .* most likely for lack of memory; lower", ended[1].error)
    assert ended[1].attempts == len(list(tmp_path.glob("try-*"))) == 3
    assert ended[2].lost
    assert ended[0].error == ended[3].error == ""


def test_make_the_last_attempt_of_a_job_alone(tmp_path: Path) -> None:
    found = list(Processes(2).map(Counted(tmp_path, deaths=2), jobs(*[()] * 5), report=nobody))
    assert not [each.error for each in found if each.error]
    (last,) = [each for each in found if each.job.trial == 1]
    assert last.attempts == 3
    assert last.results[0].row["beside"] == []


def test_run_fewer_at_a_time_where_memory_is_short_and_say_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two begin together, since nothing is known of their kind yet."""
    monkeypatch.setattr("mithridate.runtime.available_memory", lambda: 0)
    notes: list[str] = []
    work = Counted(tmp_path)
    found = list(Processes(2).map(work, jobs(*[()] * 6), report=lambda job, step: notes.append(step.note)))
    beside = {each.job.trial: each.results[0].row["beside"] for each in found}
    assert [beside[trial] for trial in (2, 3, 4, 5)][1:] == [[]] * 3
    assert [each for each in notes if each] == ["memory is short: 1 of 2 jobs at a time, until more is free"]


def test_run_side_by_side_while_memory_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mithridate.runtime.available_memory", lambda: 1 << 40)
    found = list(Processes(2).map(Counted(tmp_path), jobs(*[()] * 6), report=nobody))
    assert sum(bool(each.results[0].row["beside"]) for each in found) >= 4


def test_have_one_thread_and_a_gpu_of_their_own_each() -> None:
    executor = Processes(7, gpus=("4", "GPU-6"))
    found = [each.results[0].row for each in executor.map(surroundings, jobs(*[()] * 6), report=nobody)]
    assert str(executor) == "2 at a time, each on a GPU of its own"
    assert {row["torch"] for row in found} == {1}
    assert {row[f"{name}_NUM_THREADS"] for row in found for name in ("OMP", "MKL", "OPENBLAS")} == {"1"}
    assert len({(row["process"], row["CUDA_VISIBLE_DEVICES"]) for row in found}) == 2
    assert {row["CUDA_VISIBLE_DEVICES"] for row in found} == {"4", "GPU-6"}


def test_share_a_gpu_that_is_named_twice() -> None:
    executor = Processes(1, gpus=("4", "5", "4"))
    found = [each.results[0].row for each in executor.map(surroundings, jobs(*[()] * 9), report=nobody)]
    assert str(executor) == "3 at a time, on 2 GPUs"
    seen = {(row["process"], row["CUDA_VISIBLE_DEVICES"]) for row in found}
    assert sorted(gpu for _, gpu in seen) == ["4", "4", "5"]


def test_say_where_rows_cannot_be_sent() -> None:
    ended = {each.job.trial: each for each in Processes(1).map(unsendable, jobs((), ()), report=nobody)}
    assert re.match(
        r"its rows cannot be sent to the process that stores them \(TypeError: cannot pickle", ended[0].error
    )
    assert ended[1].error == ""


def test_are_killed_where_they_do_not_stop_when_the_run_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.2)

    def interrupted(job: Job, step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Processes(1).map(silent_for_ever, jobs(()), report=interrupted))
    assert multiprocessing.active_children() == []


def test_stop_at_their_next_report_when_the_run_is_interrupted() -> None:
    def interrupted(job: Job, step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Processes(1).map(endless, jobs((), ()), report=interrupted))
    assert multiprocessing.active_children() == []


def test_leave_the_settings_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    threads = torch.get_num_threads()
    assert list(Processes(2).map(endless, [], report=nobody)) == []
    assert (os.environ["OMP_NUM_THREADS"], "MKL_NUM_THREADS" in os.environ) == ("3", False)
    assert torch.get_num_threads() == threads


def test_tell_that_a_job_begins_before_it_can_write_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    give = Worker.give
    monkeypatch.setattr(Worker, "give", lambda worker, job: (said.append("given"), give(worker, job))[1])
    assert list(Processes(1).map(first_fails, jobs(()), report=nobody, started=lambda job, where: said.append("told")))
    assert said == ["told", "given"]
