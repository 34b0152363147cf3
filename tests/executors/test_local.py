"""Jobs one after another: in order, each after those it needs."""

from __future__ import annotations

import os

import pytest

from mithridate.executor import Queue
from mithridate.executors.local import Local
from mithridate.experiment import Job
from mithridate.watch import Step, Watch
from mithridate.work import Result
from tests.executors.work import easy, first_fails, jobs


def nobody(job: Job, step: Step) -> None:
    """Hear no reports."""


def test_runs_all_in_order_in_this_process() -> None:
    ended = list(Local().map(easy, jobs((), (), (0,)), report=nobody))
    assert [each.job.trial for each in ended] == [0, 1, 2]
    assert {each.results[0].row["process"] for each in ended} == {os.getpid()}


def test_runs_a_job_after_those_it_needs_wherever_they_stand() -> None:
    ended = list(Local().map(easy, jobs((2,), (0, 3), (), ()), report=nobody))
    assert [each.job.trial for each in ended] == [2, 0, 3, 1]


def test_takes_needs_that_are_not_among_the_jobs_as_met() -> None:
    assert [each.error for each in Local().map(easy, jobs((7,)), report=nobody)] == [""]


def test_says_whose_steps_it_reports() -> None:
    heard: list[tuple[int, Step]] = []
    list(Local().map(easy, jobs((), ()), report=lambda job, step: heard.append((job.trial, step))))
    assert heard == [(k, Step("working", 1, 2, {"loss": float(k)})) for k in (0, 1)]


def test_goes_on_after_a_failure_and_reports_what_could_not_run() -> None:
    ended = {each.job.trial: each for each in Local().map(first_fails, jobs((), (0,), (1,), ()), report=nobody)}
    assert ended[0].error == "job 0 cannot be done"
    assert "ConfigError" in ended[0].trace
    assert ended[1].error == ended[2].error == "not run: the craft job it needs failed"
    assert ended[3].error == ""
    assert len(ended) == 4


def test_names_an_error_that_nobody_expected() -> None:
    def work(job: Job, watch: Watch) -> list[Result]:
        raise KeyError("loss")

    (ended,) = Local().map(work, jobs(()), report=nobody)
    assert ended.error == "KeyError: 'loss'"


def test_lets_an_interrupt_through() -> None:
    def work(job: Job, watch: Watch) -> list[Result]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Local().map(work, jobs((), ()), report=nobody))


def test_starts_nothing_before_it_is_asked() -> None:
    done: list[int] = []

    def work(job: Job, watch: Watch) -> list[Result]:
        done.append(job.trial)
        return []

    running = Local().map(work, jobs((), (), ()), report=nobody)
    next(running)
    assert done == [0]


def test_a_queue_reports_a_job_with_two_failed_needs_once() -> None:
    queue = Queue(jobs((), (), (0, 1)))
    first, second = queue.ready(), queue.ready()
    assert first is not None
    assert second is not None
    lost = queue.ended(first, failed=True) + queue.ended(second, failed=True)
    assert [each.job.trial for each in lost] == [2]
    assert queue.ready() is None
    assert len(queue) == 0
