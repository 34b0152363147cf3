"""What fails a check, and what never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mithridate.bench.case import Figure
from mithridate.bench.check import problems
from mithridate.bench.measure import Effort, grown
from mithridate.bench.result import Measured, Unmeasured
from tests.bench.fakes import Clock, found, growth


@pytest.mark.parametrize(("ratio", "passes"), [(2.0, True), (1.41, True), (1.39, False), (0.5, False)])
def test_a_ratio_fails_below_seventy_percent_of_what_it_must_be(ratio, passes):
    said = problems(found(ratio, must={"ours": 2.0}))
    assert (said == []) is passes
    assert passes or said == [
        f"path/net/N5: ours is {ratio:.2f} times faster than plain, but must be 2 and may not be under 70% of that, "
        "1.40"
    ]


def test_any_speed_passes_where_nothing_must_be():
    assert problems(found(0.01, stretch={"ours": 2.0})) == []


def test_a_form_that_is_absent_here_is_not_judged():
    assert problems(found(1.0, must={"numba": 20.0}, absent={"numba": "numba is not installed"})) == []


@pytest.mark.parametrize(("cosine", "passes"), [(0.9995, True), (0.99, False), (float("nan"), False)])
def test_accuracy_fails_however_fast(cosine, passes):
    said = problems(found(100.0, cosine=cosine))
    assert (said == []) is passes
    assert passes or said == [f"path/net/N5: the cosine is {cosine:.6g}, but must be at least 0.999, with ours"]


def test_memory_is_judged_as_time_is():
    case = found(2.0, lighter={"ours": 2.0})
    assert problems(case) == []  # not measured
    forms = {"plain": replace(case.forms["plain"], peak_bytes=100), "ours": replace(case.forms["ours"], peak_bytes=90)}
    assert "ours is 1.11 times less memory than plain" in problems(replace(case, forms=forms))[0]


@pytest.mark.parametrize(("exponent", "passes"), [(1.0, True), (1.14, True), (0.86, True), (1.2, False), (0.7, False)])
def test_an_exponent_must_lie_near_the_expected_one(exponent, passes):
    clock = Clock()
    said = problems(grown(growth(clock, exponent), Effort(rounds=3), clock=clock))
    assert (said == []) is passes
    assert passes or "but 1 within 0.15 is expected" in said[0]


def test_what_broke_fails_and_what_is_missing_passes():
    assert problems(Unmeasured(name="a", why="the data are not here", failed=False)) == []
    assert problems(Unmeasured(name="a", why="ValueError: x", failed=True)) == ["a: ValueError: x"]


def test_a_bound_from_above_is_kept_too():
    assert Figure(name="residual", value=1e-6, at_most=1e-5).holds
    over = Figure(name="residual", value=1e-4, at_most=1e-5, at_least=0.0)
    assert over.sentence() == "residual is 0.0001, but must be at least 0 and at most 1e-05"
    assert Figure(name="loss", value=float("nan")).holds  # nothing is asked


def test_a_form_knows_its_speed():
    form = Measured(first_seconds=5.0, calls=1, round_seconds=(1.0, 2.0, 4.0), work=10.0)
    assert (form.median, form.speed, form.compile_seconds) == (2.0, 5.0, 3.0)
