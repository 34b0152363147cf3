"""``mithridate bench`` as a person calls it, with cases whose times are what a fake clock says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mithridate.bench import case as case_module
from mithridate.bench import measure, runner
from mithridate.bench.apart import BrokenError
from mithridate.bench.case import Case
from mithridate.bench.result import Unmeasured
from mithridate.cli import benching, terminal
from tests.bench.fakes import Clock, case, growth
from tests.cli.calls import Caller


class Bench:
    """Cases to choose from, measured in this process by a clock that stands still, and how often each was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.measured = Clock(), list[str]()
        self.known = {
            each.name: each
            for each in (
                case(self.clock, name="gm-step/net/P5", quick=True, must={"ours": 2.0}, items="images"),
                case(self.clock, name="gm-step/net/P50", plain=9.0),
                case(self.clock, name="absent/data/N1", quick=True),
                growth(self.clock, 1.0),
            )
        }
        monkeypatch.setattr(case_module, "cases", lambda: self.known)
        monkeypatch.setattr(runner, "apart_measured", self._measure)
        monkeypatch.setattr("mithridate.bench.apart.apart", lambda *_, **__: ({"conv fp32": 40.0, "copy": 9.0}, 0.5))

    def change(self, name: str, **settings: Any) -> None:
        """Another case under a name, as :func:`tests.bench.fakes.case` takes it."""
        self.known[name] = case(self.clock, name=name, **settings)

    def _measure(self, case: Any, plan: runner.Plan) -> Any:
        self.measured.append(case.name)
        if case.name.startswith("absent"):
            return Unmeasured(name=case.name, why="the images are not here", failed=False)
        if isinstance(case, Case):
            return replace(measure.timed(case, plan.effort, clock=self.clock), foreign=0.01)
        return replace(measure.grown(case, plan.effort, clock=self.clock), foreign=0.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_each_case_is_a_line_with_its_ratio_its_share_and_its_accuracy(bench: Bench, call: Caller) -> None:
    said = call("bench", "--threads", "3")
    assert said.code == 0
    lines = said.out.splitlines()
    assert "threads: 3" in lines[0]
    assert lines[1] == "limits: conv fp32 40 GFLOP/s, copy 9 GB/s (others used 50% of the processor)"
    assert lines[2:] == [
        "gm-step/net/P5: plain 8 s; ours 2 s, 4x (4-4), must 2x, 2 images/s, 50% of conv fp32, cosine is 1",
        "gm-step/net/P50: plain 9 s; ours 2 s, 4.5x (4.5-4.5), 20 GFLOP/s, 50% of conv fp32, cosine is 1",
        "absent/data/N1: skipped: the images are not here",
        "path/growth/rows: seconds ~ rows ^ 1.00 [1.00, 1.00] (expected 1 within 0.15); 100 ms at 100, 800 ms at 800",
        "3 measured, 1 skipped",
    ]


def test_a_terminal_gets_a_table(bench: Bench, call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "console", lambda: Console(force_terminal=True, width=160, no_color=True))
    out = call("bench").out
    head = next(line for line in out.splitlines() if "case" in line)
    assert [word in head for word in ("form", "seconds", "faster", "accuracy")] == [True] * 4
    rows = [line for line in out.splitlines() if "4x (4-4), must 2x" in line]
    assert len(rows) == 1
    assert rows[0].strip().startswith("ours")


def test_list_measures_nothing(bench: Bench, call: Caller) -> None:
    said = call("bench", "--list")
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["gm-step/net/P5", "quick"],
        ["gm-step/net/P50", "waiting"],
        ["absent/data/N1", "quick"],
        ["path/growth/rows", "waiting"],
    ]
    assert bench.measured == []


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--quick"], ["gm-step/net/P5", "absent/data/N1"]),
        (["--growth"], ["path/growth/rows"]),
        (["gm-step"], ["gm-step/net/P5", "gm-step/net/P50"]),
        (["gm-step/net/P50"], ["gm-step/net/P50"]),
        (["gm-step", "--quick"], ["gm-step/net/P5"]),
    ],
)
def test_options_choose_the_cases(bench: Bench, call: Caller, words: list[str], names: list[str]) -> None:
    assert call("bench", *words).code == 0
    assert bench.measured == names


def test_check_passes_where_all_is_as_it_must_be(bench: Bench, call: Caller) -> None:
    said = call("bench", "--check")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("check passed")


def test_check_names_the_case_that_is_too_slow_after_three_tries(bench: Bench, call: Caller) -> None:
    bench.change("gm-step/net/P5", fast=7.0, must={"ours": 2.0})
    said = call("bench", "gm-step", "--check")
    assert said.code == 1
    assert said.err == (
        "error: gm-step/net/P5: ours is 1.14 times faster than plain, but must be 2 and may not be under 70% of that, "
        "1.40\n"
    )
    assert bench.measured.count("gm-step/net/P5") == 3
    assert "measured 3 times: too slow at first" in said.out


def test_check_names_the_case_that_is_not_accurate(bench: Bench, call: Caller) -> None:
    bench.change("gm-step/net/P50", cosine=0.5)
    said = call("bench", "--check")
    assert said.code == 1
    assert said.err == "error: gm-step/net/P50: the cosine is 0.5, but must be at least 0.999, with ours\n"
    assert call("bench").code == 0, "without --check it is only shown"


def test_check_of_nothing_does_not_pass(bench: Bench, call: Caller) -> None:
    said = call("bench", "absent", "--check")
    assert (said.code, said.err) == (1, "error: nothing could be measured, so nothing was checked\n")


def test_json_goes_on_where_it_stopped(bench: Bench, call: Caller, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    call("bench", "gm-step/net/P5", "--json", file)
    call("bench", "--json", file)
    assert bench.measured.count("gm-step/net/P5") == 1
    told = json.loads(file.read_text())
    assert [row["name"] for row in told["measured"]] == ["gm-step/net/P5", "gm-step/net/P50", "path/growth/rows"]
    assert told["unmeasured"] == {"absent/data/N1": "the images are not here"}
    call("bench", "gm-step/net/P50", "--json", file)
    assert len(json.loads(file.read_text())["measured"]) == 3, "cases not asked for stay"
    assert "known already" in call("bench", "gm-step/net/P5", "--json", file).out
    call("bench", "gm-step/net/P5", "--json", file, "--again")
    assert bench.measured.count("gm-step/net/P5") == 2
    assert len(json.loads(file.read_text())["measured"]) == 3


def test_json_of_other_threads_is_replaced_and_said_to_be(bench: Bench, call: Caller, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    call("bench", "gm-step", "--json", file, "--threads", "1")
    said = call("bench", "gm-step", "--json", file, "--threads", "2")
    assert "is of another machine, other versions or other code" in said.out
    assert bench.measured.count("gm-step/net/P5") == 2
    assert json.loads(file.read_text())["environment"]["threads"] == 2


def test_json_is_written_after_every_case(
    bench: Bench, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, plainly = tmp_path / "bench.json", runner.apart_measured

    def stopped(case: Any, plan: runner.Plan) -> Any:
        if case.name == "gm-step/net/P50":
            raise KeyboardInterrupt
        return plainly(case, plan)

    monkeypatch.setattr(runner, "apart_measured", stopped)
    assert call("bench", "--json", file).code == 130
    assert [row["name"] for row in json.loads(file.read_text())["measured"]] == ["gm-step/net/P5"]


def test_the_file_says_how_to_repeat_it_without_naming_places(bench: Bench, call: Caller, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    call("bench", "gm-step", "--rounds", "7", "--json", file)
    assert json.loads(file.read_text())["command"] == "mithridate bench gm-step --rounds 7"
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gm-stp"], "there is no case 'gm-stp': did you mean 'gm-step'? allowed: absent,"),
        (["path", "--quick"], "--quick leaves no case of those named; see  mithridate bench --list"),
        (["--json", "none/x.json"], "there is no folder 'none' to write x.json into; make it first"),
        (["--json", "."], "'.' is a folder; name a file to write the numbers into"),
        (["--json", "other.json"], "'other.json' is no file of  mithridate bench ; name another, or move it away"),
    ],
)
def test_mistakes_are_sentences(
    bench: Bench, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    said = call("bench", *words)
    assert (said.code, said.out) == (1, "")
    assert sentence in said.err
    assert bench.measured == []


def test_quick_is_over_in_less_than_a_minute() -> None:
    assert benching.QUICK_SECONDS < 60


def test_a_machine_too_slow_for_any_case_fails_no_check(
    bench: Bench, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        runner, "apart_measured", lambda case, plan: Unmeasured(name=case.name, why=runner.PLAN_LATE, failed=False)
    )
    said = call("bench", "--quick", "--check")
    assert said.code == 0
    assert "(2 could not be checked)" in said.out


def test_cases_are_compared_where_the_limits_cannot_be_measured(
    bench: Bench, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise BrokenError("there is not enough memory for it")

    monkeypatch.setattr("mithridate.bench.apart.apart", broken)
    said = call("bench", "gm-step", "--quick", "--check")
    assert said.code == 0
    assert "the limits of this machine could not be measured: there is not enough memory for it" in said.out
    assert bench.measured == ["gm-step/net/P5"]
