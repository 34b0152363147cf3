"""The page about speed: what stands on it, from made-up measurements; what is written by hand stays."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from mithridate.bench import record
from mithridate.bench.measure import Effort, grown
from mithridate.bench.record import Heading
from mithridate.bench.result import Unmeasured
from tests.bench.fakes import Clock, found, growth

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MACHINE = {
    "processor": "A Processor",
    "instructions": "avx2",
    "cores": 2,
    "threads": 2,
    "gpu": "none",
    "torch": "2.13.0",
    "python": "3.11.7",
}
HEADING = Heading(
    command="mithridate bench", environment=MACHINE, ceilings={"conv fp32": 16.0}, foreign=0.01, quick=False
)


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """Write the page of ``results`` and return its text; None where it refuses."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import speed_page

    def written():
        place = tmp_path / "docs" / "speed.md"
        place.parent.mkdir(exist_ok=True)
        words = ["speed_page.py", "--results", str(tmp_path / "results"), "--page", str(place)]
        monkeypatch.setattr(sys, "argv", words)
        return place.read_text() if speed_page.main() == 0 else None

    (tmp_path / "results").mkdir()
    yield written
    for name in ("speed_page", "speed_drawings"):
        sys.modules.pop(name, None)


@pytest.fixture
def results(tmp_path, page):
    clock = Clock()
    settings = {"must": {"ours": 2.0}, "stretch": {"ours": 2.8}, "absent": {"numba": "absent"}}
    ours = found(2.5, items="images", foreign=0.2, **settings)
    other = replace(found(0.5, must={"ours": 3.0}, lighter={"ours": 2.0}), name="other/net/N1")
    growths = [
        replace(grown(growth(clock, each), Effort(rounds=3), clock=clock), name=f"path/growth/x{each}")
        for each in (1.0, 2.0)
    ]
    rows = [ours, other, *growths, Unmeasured(name="far/away", why="the data are not here", failed=False)]
    record.write(tmp_path / "results" / "bench.json", rows, HEADING, seconds=5)
    return tmp_path / "results"


def test_each_form_is_a_row_with_its_ratio_and_what_it_must_be(page, results):
    text = page()
    row = next(line for line in text.splitlines() if line.startswith("|  | ours | 2.4 s"))
    assert "| **2.5** [2.5, 2.5] | 2x (stretch 2.8x) | 2 images/s | 31% of conv fp32 |" in row
    assert "cosine 1 |" in row
    assert "not here: absent" in text
    assert "### path\n" in text
    assert "### other\n" in text
    assert "during 1 of 1 cases" in text
    assert "- `far/away`: the data are not here" in text


def test_goals_stand_beside_what_is(page, results):
    text = page()
    assert "| `path/net/N5` | ours | 2x | 2.8x | **2.5x** |\n" in text
    assert "| `other/net/N1` | ours | 3x |  | **0.5x**, not yet |\n" in text
    assert "| `other/net/N1` | ours | 2x less memory |  | not measured |\n" in text


def test_exponents_stand_beside_the_expected_ones(page, results):
    text = page()
    assert "| **2.00** [2.00, 2.00] | 1 within 0.15 |" in text
    assert "| 100, 200, 400, 800 | 100 ms ... 800 ms | **1.00** [1.00, 1.00] | 1 within 0.15 |" in text


def test_drawings_are_small_and_the_same_each_time(page, results, tmp_path):
    def drawn():
        text = page()
        found = {each.name: each.read_bytes() for each in (tmp_path / "docs" / "img").iterdir()}
        assert all(f"(img/{name})" in text for name in found)
        return found

    first = drawn()
    assert set(first) == {"speed-ratios.svg", "speed-limits.svg", "speed-growth.svg"}
    assert all(len(each) < 100_000 for each in first.values())
    assert all(Xml.fromstring(each).tag.endswith("svg") for each in first.values())
    assert drawn() == first


def test_what_is_written_by_hand_stays(page, results, tmp_path):
    page()
    place = tmp_path / "docs" / "speed.md"
    place.write_text(place.read_text().replace("# Speed\n", "# Speed\n\nBy hand.\n") + "an old line\n")
    text = page()
    assert text.startswith("# Speed\n\nBy hand.\n")
    assert "an old line" not in text


def test_other_files_about_speed_are_shown_where_they_are(page, results):
    environment = {"processor": "A Processor", "cores": 2, "torch": "2.13.0"}
    rows = [{"case": "a|b", "ms": [1.0, 2.0]}, {"case": "c", "times_faster": 7.125}]
    told = {"about": "Milliseconds.", "command": "python x.py", "environment": environment, "measured": rows}
    (results / "hypergradients.json").write_text(json.dumps(told))
    text = page()
    assert "## Hypergradients\n" in text
    assert "| case | ms | times faster |\n| --- | --- | --- |\n| a\\|b | [1, 2] |  |\n| c |  | 7.125 |\n" in text


def test_without_measurements_it_says_what_to_do(page, capsys):
    assert page() is None
    assert "measure first with  mithridate bench --json" in capsys.readouterr().err
