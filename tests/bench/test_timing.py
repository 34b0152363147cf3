"""Taking turns: by a clock that stands still unless told."""

from __future__ import annotations

import pytest

from mithridate.bench.timing import ENOUGH, alternated
from tests.bench.fakes import Clock


def test_first_calls_are_timed_apart_from_the_rounds():
    clock = Clock()
    found = alternated({"a": clock.waiting([30.0, 2.0])}, rounds=4, clock=clock)["a"]
    assert (found.first_seconds, found.calls, found.round_seconds) == (30.0, 1, (2.0,) * 4)


def test_forms_take_turns_and_each_round_begins_with_another():
    order: list[str] = []
    clock = Clock()

    def form(name):
        wait = clock.waiting(1.0)
        return lambda: (order.append(name), wait())

    alternated({name: form(name) for name in "abc"}, rounds=4, clock=clock)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab" + "abc"  # the first calls, then four rounds


def test_what_disturbs_one_round_disturbs_all_forms_of_it_alike():
    clock = Clock()
    slow = [1.0, 1.0, 4.0, 1.0]  # first call, then three rounds, the second of them disturbed
    runs = {"plain": clock.waiting([2 * each for each in slow]), "fast": clock.waiting(slow)}
    found = alternated(runs, rounds=3, clock=clock)
    ratios = [p / f for p, f in zip(found["plain"].round_seconds, found["fast"].round_seconds, strict=True)]
    assert ratios == [2.0] * 3


def test_quick_forms_are_called_until_a_round_is_long_enough_for_the_clock():
    clock = Clock()
    found = alternated({"a": clock.waiting(0.003)}, rounds=3, clock=clock)["a"]
    assert found.calls * 0.003 >= ENOUGH > (found.calls - 1) * 0.003
    assert found.round_seconds == pytest.approx([0.003] * 3)


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 3), (3.5, 4), (100.0, 9)])
def test_no_round_is_begun_after_the_time_but_three_are_made(budget, rounds):
    clock = Clock()
    found = alternated({"a": clock.waiting(1.0)}, rounds=9, budget=budget, clock=clock)["a"]
    assert len(found.round_seconds) == rounds


def test_rounds_begin_after_the_calls_that_do_not_count():
    clock, begun = Clock(), []
    alternated(
        {"a": clock.waiting([7.0, 1.0]), "b": clock.waiting([5.0, 1.0])},
        rounds=3,
        clock=clock,
        begin=lambda: begun.append(clock.now),
    )
    assert begun == [12.0]
