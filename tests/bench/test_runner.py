"""One case after another: measured, measured again, kept."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mithridate.bench import measure, runner
from mithridate.bench.apart import LateError
from mithridate.bench.check import problems
from mithridate.bench.result import CaseFound, Unmeasured
from mithridate.bench.runner import PLAN_LATE, Plan, apart_measured, measured
from tests.bench.fakes import PLAN, Clock, case, found


def outcomes(results, **settings):
    """What measuring one case gives that turns out as ``results`` one after another, and how often it was measured."""
    left = list(results)

    def next_one(case, plan):
        return left.pop(0)

    plan = replace(PLAN, **settings)
    [(last, known)] = measured([case(Clock())], plan, kept={}, measure=next_one)
    assert not known
    return last, len(results) - len(left)


SLOW, FAST = found(1.0, must={"ours": 2.0}), found(2.0, must={"ours": 2.0})


@pytest.mark.parametrize(
    ("results", "times", "ratio"),
    [([FAST, SLOW], 1, 2.0), ([SLOW, FAST, SLOW], 2, 2.0), ([SLOW, SLOW, FAST], 3, 2.0), ([SLOW] * 9, 3, 1.0)],
)
def test_a_case_too_slow_is_measured_again_twice_at_most_and_says_so(results, times, ratio):
    last, count = outcomes(results)
    assert (count, last.tries, last.faster("ours").middle) == (times, times, ratio)


def test_without_a_check_nothing_is_measured_again():
    assert outcomes([SLOW, FAST], check=False)[1] == 1


def test_wrong_results_are_not_measured_again():
    wrong = found(1.0, must={"ours": 2.0}, cosine=0.5)
    assert outcomes([wrong, FAST]) == (wrong, 1)


def test_where_no_time_is_left_for_another_try_the_first_stands():
    late = Unmeasured(name="path/net/N5", why="no time", failed=False)
    assert outcomes([SLOW, late, FAST]) == (SLOW, 2)


def test_what_is_known_is_not_measured():
    def never(case, plan):
        raise AssertionError

    begun = []
    told = list(measured([case(Clock())], PLAN, kept={"path/net/N5": FAST}, measure=never, begin=begun.append))
    assert (told, begun) == ([(FAST, True)], [])


def test_a_plan_whose_time_is_over_measures_nothing():
    late = Plan(effort=PLAN.effort, threads=1, until=0.0)
    assert apart_measured(case(Clock()), late) == Unmeasured(name="path/net/N5", why=PLAN_LATE, failed=False)


def test_cases_share_the_time_that_is_left_before_the_end():
    budgets, ends = [], []

    def note(case, plan):
        budgets.append(plan.effort.budget)
        ends.append(plan.until and plan.until - until)
        return found(2.0)

    asked = [case(Clock(), name=f"path/net/N{k}") for k in range(4)]
    until = time.monotonic() + 80
    assert len(list(measured(asked, replace(PLAN, until=until), kept={}, measure=note))) == 4
    assert budgets == pytest.approx([10, 80 / 6, 20, 40], abs=1)
    assert ends == pytest.approx([-40, -80 / 3, 0, 0], abs=1)
    assert len(list(measured(asked, PLAN, kept={}, measure=note))) == 4
    assert budgets[4:] == [float("inf")] * 4


def late_after(notes, monkeypatch, case):
    """What is found of a case whose process told these notes before the time was over."""

    def apart(function, *given, until, heard):
        for note in notes:
            heard(note)
        raise LateError

    monkeypatch.setattr(runner, "apart", apart)
    return apart_measured(case, replace(PLAN, until=time.monotonic() + 60))


def test_a_case_whose_time_is_over_keeps_its_rounds_and_is_not_judged_by_fewer_than_three(monkeypatch):
    told = []
    plan = measure.Effort(rounds=4, whole=False)
    clock = Clock()
    slow = case(clock, plain=1.0, fast=1.0, must={"ours": 2.0})
    measure.timed(slow, plan, clock=clock, tell=told.append)
    assert len(told) == 5  # the accuracy, then each round
    two, three = late_after(told[:3], monkeypatch, slow), late_after(told[:4], monkeypatch, slow)
    assert [len(each.forms["ours"].round_seconds) for each in (two, three)] == [2, 3]
    assert (problems(two), len(problems(three))) == ([], 1)


def test_accuracy_is_checked_even_where_no_round_was_made(monkeypatch):
    clock = Clock()
    for cosine, wrong in ((1.0, []), (0.5, ["path/net/N5: the cosine is 0.5, but must be at least 0.999, with ours"])):
        each, told = case(clock, cosine=cosine), []
        measure.timed(each, PLAN.effort, clock=clock, tell=told.append)
        found = late_after(told[:1], monkeypatch, each)
        assert isinstance(found, Unmeasured)
        assert problems(found) == wrong
    assert late_after([], monkeypatch, each) == Unmeasured(name=each.name, why=PLAN_LATE, failed=False)


@pytest.mark.parametrize(
    ("whole", "must", "timed"), [(True, 2.0, 2), (False, 2.0, 2), (False, None, 3), (True, None, 3)]
)
def test_quick_runs_time_only_what_a_ratio_is_asked_of_but_check_all_accuracy(whole, must, timed):
    clock = Clock()
    two = case(clock, must={"ours": must} if must else {}, more={"other": 0.5})
    found = measure.timed(two, measure.Effort(rounds=3, whole=whole), clock=clock)
    assert len(found.forms) == (3 if whole else timed)
    assert problems(found) == ["path/net/N5: the cosine is 0.5, but must be at least 0.999, with other"]


def test_ratios_pair_the_forms_of_each_round():
    clock = Clock()
    plain, fast = [1.0, 4.0, 6.0, 30.0, 1.0], [1.0, 2.0, 1.5, 3.0, 1.0]  # the first call, then rounds
    slow = measure.timed(case(clock, plain=plain, fast=fast), measure.Effort(rounds=4), clock=clock)
    ratio = slow.faster("ours")
    assert (ratio.low, ratio.middle, ratio.high) == (1.0, 3.0, 10.0)


def test_a_case_is_measured_with_all_that_is_said_of_it():
    clock = Clock()
    settings = {"must": {"ours": 2.0}, "stretch": {"ours": 9.0}, "items": "images"}
    told = measure.timed(case(clock, **settings), measure.Effort(rounds=3), clock=clock)
    assert isinstance(told, CaseFound)
    assert (told.must, told.stretch, told.rate("ours")) == ({"ours": 2.0}, {"ours": 9.0}, 2.5)
    assert (told.forms["plain"].speed, told.forms["ours"].speed) == (10.0, 20.0)
    assert [each.value for each in told.forms["ours"].accuracy] == [1.0]
