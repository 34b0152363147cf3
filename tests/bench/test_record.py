"""The JSON file: what is kept of it, and when it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from mithridate.bench import record
from mithridate.bench.code import version
from mithridate.bench.measure import Effort, grown
from mithridate.bench.record import Heading
from mithridate.bench.result import Unmeasured, as_json, from_json
from mithridate.errors import ConfigError
from tests.bench.fakes import Clock, case, found, growth

MACHINE = {"torch": "2.13.0", "cores": 2, "threads": 1}
HEADING = Heading(
    command="mithridate bench", environment=MACHINE, ceilings={"conv fp32": 16.0}, foreign=0.0, quick=False
)


@pytest.fixture
def file(tmp_path):
    clock = Clock()
    found_growth = grown(growth(clock, 1.0), Effort(rounds=3), clock=clock)
    code = record.coded(case(clock))
    rows = [found(2.0, code=code), replace(found_growth, code=code), Unmeasured(name="z", why="no data", failed=False)]
    place = tmp_path / "bench.json"
    record.write(place, rows, HEADING, seconds=12.3)
    return place


def kept(file, cases, machine=MACHINE, **settings):
    return record.kept(record.read(file), machine, cases, **({"quick": False, "rounds": 5} | settings))


def test_what_was_measured_is_read_again_as_it_was(file):
    clock = Clock()
    told = kept(file, [case(clock), growth(clock, 1.0)])
    assert set(told) == {"path/net/N5", "path/growth/rows"}
    assert told["path/net/N5"].faster("ours").middle == pytest.approx(2.0)
    assert told["path/growth/rows"].fitted.exponent == pytest.approx(1.0)


def test_json_holds_what_follows_from_the_times():
    row = as_json(found(2.0, items="images", must={"ours": 2.0}), {"conv fp32": 16.0})
    ours = row["forms"]["ours"]
    assert (row["kind"], row["rounds"], row["must"]) == ("case", 5, {"ours": 2.0})
    expected = {
        "median_seconds": 3.0,
        "min_seconds": 3.0,
        "compile_seconds": 6.0,
        "times_faster": 2.0,
        "times_faster_range": [2.0, 2.0],
        "items_per_second": 2.0,
        "work_per_second": 4.0,
        "share_of_limit": 0.25,
    }
    assert {key: ours[key] for key in expected} == expected
    assert ours["accuracy"] == [{"name": "cosine", "value": 1.0, "at_least": 0.999, "at_most": None, "holds": True}]
    assert row["forms"]["plain"]["times_faster"] is None
    assert from_json(json.loads(json.dumps(row))).must == {"ours": 2.0}


def test_file_says_what_it_is_of(file):
    told = json.loads(file.read_text())
    assert (told["name"], told["environment"], told["ceilings"]) == ("bench", MACHINE, {"conv fp32": 16.0})
    assert (told["core_seconds"], told["unmeasured"]) == (12, {"z": "no data"})


@pytest.mark.parametrize(
    "change",
    [
        {"machine": {**MACHINE, "torch": "2.14.0"}},
        {"machine": {**MACHINE, "threads": 2}},
        {"quick": True},
        {"rounds": 9},
    ],
)
def test_nothing_is_kept_from_elsewhere_or_measured_less_well(file, change):
    assert "path/net/N5" not in kept(file, [case(Clock())], **change)


def test_nothing_is_kept_of_a_case_whose_code_has_changed(file):
    told = json.loads(file.read_text())
    told["measured"][0]["code"] = "000000000000"
    file.write_text(json.dumps(told))
    assert kept(file, [case(Clock())]) == {}


def test_a_number_that_is_not_finite_is_measured_again(tmp_path):
    code = record.coded(case(Clock()))
    record.write(tmp_path / "bench.json", [found(2.0, cosine=float("nan"), code=code)], HEADING, seconds=1)
    assert kept(tmp_path / "bench.json", [case(Clock())]) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "quickstart"}', "\x00"])
def test_a_file_of_another_kind_is_not_overwritten(tmp_path, text):
    place = tmp_path / "x.json"
    place.write_text(text)
    with pytest.raises(ConfigError, match="is no file of  mithridate bench"):
        record.read(place)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        record.checked(tmp_path / "none" / "x.json")
    with pytest.raises(ConfigError, match="is a folder"):
        record.checked(tmp_path)
    record.checked(tmp_path / "x.json")


def test_version_is_of_the_code_that_a_case_reaches_and_no_other():
    modules = ["mithridate.bench.cases.augmentation", "mithridate.bench.plain.augmentation", "mithridate.errors"]
    assert len({version(each) for each in modules}) == 3
    assert version("mithridate.bench.cases.augmentation") == version("mithridate.bench.cases.augmentation")


def test_version_follows_imports_inside_functions(tmp_path, monkeypatch):
    from mithridate.bench import code

    (tmp_path / "one.py").write_text("def run():\n    from mithridate.two import x\n")
    (tmp_path / "two.py").write_text("from mithridate import three\nx = 1\n")
    (tmp_path / "three.py").write_text("y = 1\n")
    monkeypatch.setattr(code, "_ROOT", tmp_path)

    def fresh():
        for each in (code._imported, code.code):
            each.cache_clear()
        return version("mithridate.one")

    before = fresh()
    (tmp_path / "three.py").write_text('"""Words do not count."""\ny = 1  # nor these\n')
    assert fresh() == before
    (tmp_path / "three.py").write_text("y = 2\n")
    assert fresh() != before


def test_code_of_a_partial_is_that_of_its_function():
    clock = Clock()
    plain = case(clock)
    assert record.coded(replace(plain, prepare=partial(plain.prepare))) == record.coded(plain)
