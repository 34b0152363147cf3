"""Jobs in worker processes: the same results, bounded lives, and a sentence when one dies."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from mithridate.errors import MithridateError
from mithridate.executor import Ended
from mithridate.executors.processes import Processes
from mithridate.experiment import Job
from mithridate.watch import Step
from tests.executors.work import dies, endless, first_fails, jobs
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


def test_that_die_end_the_run_in_a_sentence_with_what_is_finished_kept() -> None:
    ended: list[Ended] = []
    with pytest.raises(MithridateError, match=r"a worker process died.*--workers 1"):
        ended.extend(Processes(1).map(dies, jobs((), (), ()), report=nobody))
    assert [each.job.trial for each in ended] == [0]
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
