"""Promises of ``mithridate leaderboard``: a page and a line; what cannot be read is said on the side of errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mithridate.cli import main
from tests.report.fabricate_defenses import NONE
from tests.report.fabricate_grid import Grid, fabricate_grid

SMALL = Grid(trials=1, runs=1, scenarios=((0.1, 0.04),), made=(NONE,), holes=False)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mithridate", "leaderboard", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_writes_the_page_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("one", "two"):
        fabricate_grid(tmp_path / name, SMALL)
    page = tmp_path / "board.html"
    absent = str(tmp_path / "absent")
    assert call(monkeypatch, str(tmp_path / "one"), str(tmp_path / "two"), absent, "--to", str(page)) == 0
    said = capsys.readouterr()
    assert said.out == f"Leaderboard: {page} (2 runs, 1 protocol)\n"
    assert said.err.startswith("left out: there is no run in")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_readable_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert call(monkeypatch, str(tmp_path), "--to", str(tmp_path / "board.html")) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: there is nothing to show: there is no run in")
    assert "Traceback" not in said.err
    assert not (tmp_path / "board.html").exists()


def test_no_folder_is_a_mistake_of_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch) == 2
    assert "DIR" in capsys.readouterr().err
