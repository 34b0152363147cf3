"""``gate`` and ``compare`` as a person or a pipeline calls them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import CliRunner

from mithridate.cli import app
from mithridate.errors import ConfigError
from mithridate.store import Store
from tests.report.fabricate import CLASSES, experiment, fail
from tests.report.fabricate_defenses import NONE
from tests.report.fabricate_grid import Grid, fabricate_grid
from tests.report.test_gating import run

CALL = CliRunner()


@pytest.mark.parametrize(("hits", "trials", "code"), [([], 59, 0), (range(10), 10, 3), ([], 10, 4)])
def test_gate_ends_with_the_code_of_its_outcome(tmp_path: Path, hits: list[int], trials: int, code: int) -> None:
    folder = run(tmp_path / "run", {"none": hits}, trials=trials)
    found = CALL.invoke(app, ["gate", str(folder), "--max-success", "0.05"])
    assert found.exit_code == code
    assert {0: "Passed: all of 1 cell", 3: "Exceeded: 1 of 1 cell", 4: "Cannot tell: 1 of 1 cell"}[code] in found.output


def test_gate_writes_its_files_beside_what_it_says(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=10)
    files = ["--junit", str(tmp_path / "j.xml"), "--sarif", str(tmp_path / "s.sarif"), "--json"]
    found = CALL.invoke(app, ["gate", str(folder), "--max-success", "0.05", *files])
    assert found.exit_code == 4
    assert json.loads(found.output)["outcome"] == "unknown"
    assert Xml.parse(tmp_path / "j.xml").getroot().get("errors") == "1"
    assert json.loads((tmp_path / "s.sarif").read_text())["version"] == "2.1.0"


def test_a_run_whose_jobs_all_failed_cannot_be_told_of_and_its_files_say_so(tmp_path: Path) -> None:
    with Store(tmp_path / "run", create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=2, runs=1))
        fail(store)
    files = ["--junit", str(tmp_path / "j.xml"), "--sarif", str(tmp_path / "s.sarif")]
    found = CALL.invoke(app, ["gate", str(tmp_path / "run"), "--max-success", "0.05", *files])
    assert found.exit_code == 4
    assert "Cannot tell: 1 job of this run failed" in found.output
    root = Xml.parse(tmp_path / "j.xml").getroot()
    assert (root.get("tests"), root.get("errors")) == ("1", "1")
    (problem,) = root.iter("error")
    assert "1 job of this run failed" in str(problem.get("message"))
    (result,) = json.loads((tmp_path / "s.sarif").read_text())["runs"][0]["results"]
    assert result["ruleId"] == "run-finished"


@pytest.mark.parametrize("option", ["--junit", "--sarif"])
def test_gate_says_that_its_file_would_be_a_folder(tmp_path: Path, option: str) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=3)
    found = CALL.invoke(app, ["gate", str(folder), "--max-success", "0.05", option, str(folder)])
    assert "choose another path (it is that of a folder" in str(found.exception)
    assert "free space" not in str(found.exception)


@pytest.mark.parametrize("option", ["--junit", "--sarif"])
def test_gate_makes_no_folder_for_its_files(tmp_path: Path, option: str) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=3)
    found = CALL.invoke(app, ["gate", str(folder), "--max-success", "0.05", option, str(tmp_path / "no" / "f")])
    assert isinstance(found.exception, ConfigError)
    assert "there is no folder" in str(found.exception)
    assert not (tmp_path / "no").exists()


def test_gate_takes_per_cents(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=59)
    shares = ["--max-success", "0.05", "--min-accuracy", "0.7", "--confidence", "0.95", "--json"]
    for percents in (["5%", "70%", "95%"], ["5 %", "70.0 %", "95 %"]):
        said = [option if option.startswith("--") else "" for option in shares]
        for place, text in zip((1, 3, 5), percents, strict=True):
            said[place] = text
        found, same = (CALL.invoke(app, ["gate", str(folder), *options]) for options in (said, shares))
        assert (found.exit_code, json.loads(found.output)) == (0, json.loads(same.output))
    rise = CALL.invoke(app, ["gate", str(folder), "--max-rise", "5%"])
    assert "use --max-success" in str(rise.exception)


@pytest.mark.parametrize(("text", "said"), [("five", "a share such as 0.05 or 5%"), ("5", "must lie between 0 and 1")])
def test_gate_refuses_what_is_no_share(tmp_path: Path, text: str, said: str) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=3)
    found = CALL.invoke(app, ["gate", str(folder), "--max-success", text])
    assert isinstance(found.exception, ConfigError)
    assert said in str(found.exception)


def test_gate_refuses_what_it_cannot_gate(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", {"none": []}, trials=3)
    found = CALL.invoke(app, ["gate", str(folder)])
    assert isinstance(found.exception, ConfigError)
    assert "a gate needs a limit" in str(found.exception)


def test_compare_says_what_differs(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a", {"none": range(10)}, trials=10), run(tmp_path / "b", {"none": []}, trials=10)
    found = CALL.invoke(app, ["compare", str(one), str(two)])
    assert found.exit_code == 0
    assert "clearly lower" in found.output
    (told,) = json.loads(CALL.invoke(app, ["compare", str(one), str(two), "--json"]).output)
    assert told["pairs"][0]["clear"] is True


def test_compare_of_one_run_compares_its_attacks(tmp_path: Path) -> None:
    folder = fabricate_grid(tmp_path, Grid(trials=3, runs=1, holes=False, made=(NONE,)))
    said = CALL.invoke(app, ["compare", str(folder)])
    assert said.exit_code == 0
    assert "- bullseye-polytope against gradient-matching" in said.output
    rows = json.loads(CALL.invoke(app, ["compare", str(folder), "--json"]).output)
    assert [row["adjusted_for"] for row in rows] == [12] * 12
    assert "bootstrap" in CALL.invoke(app, ["compare", "--help"]).output
