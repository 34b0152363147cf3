"""The page of a scan: what it says, and that it is safe and stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mithridate.report import scanpage


def facts(**changes: Any) -> dict[str, Any]:
    """What ``scan.json`` holds, invented."""

    def share(hits: int, of: int) -> dict[str, Any]:
        return {"hits": hits, "of": of, "share": hits / of, "low": 0.1, "high": 0.9}

    def cell(method: str, kind: str, hits: int, *, able: bool) -> dict[str, Any]:
        return {
            "method": method,
            "kind": kind,
            "able": able,
            "recall": share(hits, 25),
            "false_alarms": share(12, 1000),
            "words": "",
        }

    def row(number: int, **more: Any) -> dict[str, Any]:
        plain = {"row": number, "file": f"cats/{number}.png", "label": "cats", "predicted": "dogs", "confidence": 0.97}
        return {**plain, "evidence": 9.0, "flagged": True, "flagged_by": ["loss"], **more}

    found: dict[str, Any] = {
        "place": "/somewhere/pets",
        "rows": 1000,
        "shape": [3, 8, 8],
        "classes": [{"name": "cats", "rows": 600}, {"name": "dogs", "rows": 400}],
        "notes": ["7 of 1000 images are grey"],
        "state": "suspect",
        "verdict": "Suspect rows found: 11 rows contradict their labels.",
        "answers": [
            {"kind": "mislabelled", "state": "suspect", "p": 1e-6, "rows_beyond": 11, "rows_expected": 0.8},
            {"kind": "patched", "state": "cannot tell"},
        ],
        "false_alarm_rate": 0.01,
        "probe_accuracy": 0.9523,
        "copies": 1,
        "kinds": {"mislabelled": "the label replaced", "patched": "a patch"},
        "calibration": [cell("loss", "mislabelled", 18, able=True), cell("loss", "patched", 1, able=False)],
        "first": [row(1), row(2, file=None, predicted="cats", flagged=False, flagged_by=[])],
        "seconds": 61.0,
        "command": "mithridate scan pets",
        "environment": {"mithridate": "9.9"},
    }
    return found | changes


IMAGES = [np.full((3, 8, 8), 0.5), np.zeros((3, 8, 8))]


def words(html: str) -> str:
    """What a reader sees, without mark-up."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_says_the_verdict_the_rows_and_what_the_methods_can_do() -> None:
    text = words(scanpage.html(facts(), IMAGES))
    for said in (
        "Suspect rows found 11 rows contradict their labels.",
        "The probe says dogs (97 %)",
        "cats/1.png flagged by loss",
        "The probe agrees (97 %). row 2 not flagged",
        "loss 18 of 25 [10 %, 90 %] cannot tell 1 of 25 [10 %, 90 %] 1.2 % [10.0 %, 90.0 %]",
        "mislabelled suspect: 11 rows beyond the mark, 0.8 expected of clean rows (p = 1e-06)",
        "patched cannot tell",
        "7 of 1000 images are grey.",
        "the right label to 95 % of the rows",
        "may hold poison of their own",
        "mithridate scan pets",
    ):
        assert said in text.replace("\N{NO-BREAK SPACE}", " "), said


@pytest.mark.parametrize(
    ("state", "headline", "warned"),
    [
        ("suspect", "Suspect rows found", False),
        ("nothing found", "Nothing found", True),
        ("cannot tell", "Cannot tell", True),
    ],
)
def test_warns_that_odd_rows_are_no_poison_where_none_was_found(state: str, headline: str, warned: bool) -> None:
    text = words(scanpage.html(facts(state=state, verdict=f"{headline}: because."), IMAGES))
    assert f"{headline} because." in text
    assert ("standing here does not make a row poison" in text) == warned


def test_shows_a_picture_of_each_row_and_loads_nothing() -> None:
    html = scanpage.html(facts(), IMAGES)
    assert html.count("data:image/png;base64,") == 2
    assert 'alt="cats/1.png, labelled “cats”"' in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "<script" not in html
    assert "default-src 'none'" in html


def test_names_of_files_and_classes_are_no_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    rows = [{**facts()["first"][0], "file": evil, "label": evil, "predicted": evil}]
    html = scanpage.html(facts(first=rows, place=f"/a/{evil}", notes=[evil], command=evil), IMAGES)
    assert evil not in html
    assert "&lt;img src=x" in html


def test_other_inputs_than_pictures_leave_the_picture_out() -> None:
    assert "data:image/png" not in scanpage.html(facts(), [np.zeros((2, 8, 8))] * 2)


def test_equal_scans_give_equal_pages_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = scanpage.write(tmp_path / "new" / "report.html", facts(), IMAGES)
    assert path.read_text(encoding="utf-8") == scanpage.html(facts(), IMAGES)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_needs_no_torch() -> None:
    code = "import sys, mithridate.report.scanpage; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
