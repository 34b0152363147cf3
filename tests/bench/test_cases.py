"""Promises of every registered case: accurate at a tiny size, and named, sized and listed as a case should be."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from mithridate.bench.case import Case, Growth, cases, chosen
from mithridate.errors import ConfigError, MithridateError
from tests.bench.fakes import Clock, case, growth

CASES = [each for each in cases().values() if isinstance(each, Case)]
GROWTHS = [each for each in cases().values() if isinstance(each, Growth)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_fast_form_is_accurate_and_says_how(case):
    try:
        forms = case.prepare(case.tiny or case.size)
    except MithridateError as error:
        pytest.skip(str(error))
    figures = forms.accuracy()
    assert set(figures) <= {"plain", *forms.fast}
    for name, form in forms.fast.items():
        asked = [each for each in figures.get(name, ()) if each.at_least is not None or each.at_most is not None]
        assert asked, f"nothing is asked of the accuracy of {name}"
        form.run()
    forms.plain.run()
    wrong = [f"{name}: {each.sentence()}" for name in figures for each in figures[name] if not each.holds]
    assert wrong == []
    named = {*case.must, *case.stretch, *case.lighter}
    assert named <= {*forms.fast, *forms.absent}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_say_what_they_are(case):
    assert re.fullmatch(r"[a-z0-9-]+(/[A-Za-z0-9.-]+)+", case.name)
    assert case.about
    assert "\n" not in case.about
    assert all(isinstance(each, int) for each in case.size.values())
    assert case.tiny is None or set(case.tiny) == set(case.size)
    assert case.items is None or case.items in case.size
    assert all(case.stretch.get(name, must) >= must for name, must in case.must.items())


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda growth: growth.name)
def test_growths_can_be_fitted_and_run(growth):
    assert len(growth.sizes) >= 4
    assert list(growth.sizes) == sorted(set(growth.sizes))
    for size in growth.tiny or growth.sizes[:2]:
        growth.prepare(size)()


def test_listing_imports_no_torch():
    code = "import sys; from mithridate.bench.case import cases; cases(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cases_are_chosen_by_name_or_by_the_beginning_of_it():
    clock = Clock()
    known = {each: case(clock, name=each) for each in ("a/x/N1", "a/y/N1", "ab/x/N1")} | {"g/rows": growth(clock, 1.0)}
    assert [each.name for each in chosen(["a"], known)] == ["a/x/N1", "a/y/N1"]
    assert [each.name for each in chosen(["ab/x/N1", "a/y"], known)] == ["a/y/N1", "ab/x/N1"]
    assert len(chosen([], known)) == 4


def test_an_unknown_case_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"there is no case 'gm-stp': did you mean 'gm-step'\? allowed: a, a/x, gm"):
        chosen(["gm-stp"], {"a/x": case(Clock()), "gm-step/x": case(Clock())})
