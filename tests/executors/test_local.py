"""Jobs one after another: in order, each after those it needs."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence

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


def test_says_which_job_begins() -> None:
    begun: list[tuple[int, str]] = []
    list(Local().map(easy, jobs((1,), ()), report=nobody, started=lambda job, where: begun.append((job.trial, where))))
    assert begun == [(1, "this process"), (0, "this process")]


def plainly(jobs: Sequence[Job], fails: Callable[[Job], bool]) -> list[int]:
    """The order in which jobs run, found by looking through all that wait each time; those never run as negative."""
    waiting, missing, found = list(jobs), {job.key for job in jobs}, []
    while (job := next((each for each in waiting if not set(each.needs) & missing), None)) is not None:
        waiting.remove(job)
        found.append(job.trial)
        if not fails(job):
            missing.discard(job.key)
    return found + [-each.trial for each in waiting]


@pytest.mark.parametrize("seed", range(20))
def test_a_queue_hands_jobs_out_in_the_order_of_the_plain_way(seed: int) -> None:
    draw = random.Random(seed)
    listed = jobs(*[tuple(draw.sample(range(30), draw.choice((0, 0, 1, 2)))) for _ in range(30)])
    bad = {each.key for each in listed if draw.random() < 0.15}
    queue, found, lost = Queue(listed), list[int](), list[int]()
    while (job := queue.ready()) is not None:
        if draw.random() < 0.2:  # put back, it comes again
            queue.again(job)
            assert queue.ready() is job
        found.append(job.trial)
        lost += [each.job.trial for each in queue.ended(job, failed=job.key in bad)]
    plain = plainly(listed, lambda job: job.key in bad)
    assert found == [each for each in plain if each not in {-trial for trial in lost}][: len(found)]
    assert set(lost) <= {-each for each in plain[len(found) :]}
    assert len(found) + len(lost) + len(queue) == 30


def test_a_queue_of_many_jobs_is_quick() -> None:
    """A million jobs take about as long as five times 200 000: seconds, not days."""
    count = 50_000
    listed = [
        Job(kind="craft", trial=k, key=str(k), needs=() if k % 10 == 0 else (str(k - k % 10),)) for k in range(count)
    ]
    began = time.perf_counter()
    queue = Queue(listed)
    order = []
    while (job := queue.ready()) is not None:
        order.append(job.trial)
        queue.ended(job, failed=False)
    assert order == list(range(count))
    assert time.perf_counter() - began < 5
